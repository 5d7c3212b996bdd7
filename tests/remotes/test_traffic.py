"""What verbs cost at a real server: requests and bytes, counted there."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from modelstore.errors import StoreError
from modelstore.ops.backup import backup
from modelstore.ops.backup_check import check
from modelstore.ops.backup_document import key_of
from modelstore.ops.backup_prune import plan_prune, prune
from modelstore.ops.backup_retention import BackupPolicy
from modelstore.ops.commit import CommitOptions, commit
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.models import write_model
from tests.ops.remotes import LINE, commit_model, pull_from, push_to
from tests.remotes.proxy import Fault, Proxy, Request
from tests.remotes.scenes import spot_in
from tests.remotes.servers import Place

pytestmark = pytest.mark.remote

PAGE = 1000
"""Names in a page of a listing, as S3 has it."""


def put(proxy: Proxy) -> dict[str, int]:
    """Return the bytes of every value that was put, by the last part of its key."""
    puts = [one for one in proxy.requests if one.method == "PUT"]
    assert all(one.method in {"PUT", "GET", "HEAD"} for one in proxy.requests)
    found = {one.path.partition("?")[0].rpartition("/")[2]: one.sent for one in puts}
    assert len(found) == len(puts)
    return found


def fine_tuned(store: Store, tmp_path: Path) -> dict[str, int]:
    """Commit a fine-tune; return the bytes of the frames that came with it, by name."""
    before = set(store.blobs.iter_digests())
    commit_model(store, tmp_path / "run", step=1e-3)
    new = set(store.blobs.iter_digests()) - before
    return {str(digest): store.blobs.path(digest).stat().st_size for digest in new}


def test_a_second_push_sends_a_version_and_nothing_else(
    bucket: Place, proxy: Proxy, tmp_path: Path
) -> None:
    """Its frames, the record of its commit, and the registry; a pull reads no other frames."""
    spot, store = spot_in(bucket, proxy), create(tmp_path / "store")
    commit_model(store, tmp_path / "run")
    push_to(store, spot.remote())
    other = create(tmp_path / "other")
    pull_from(other, spot.remote())
    frames = fine_tuned(store, tmp_path)
    proxy.begin()
    push_to(store, spot.far_remote())
    sent = put(proxy)
    registry, record = sent.pop("registry.json"), sent.popitem()
    assert record[0].startswith("0000000002-")
    assert sent == frames
    assert record[1] + registry < 4096
    proxy.begin()
    pull_from(other, spot.far_remote())
    read = {one.path.partition("?")[0].rpartition("/")[2] for one in proxy.requests}
    blobs = {name for name in read if len(name) == 64}
    assert blobs == set(frames)


def test_a_second_backup_sends_a_version_and_nothing_else(
    bucket: Place, proxy: Proxy, tmp_path: Path
) -> None:
    """Its frames, its manifest and card, the registry, the journal, and the backup's document."""
    spot, store = spot_in(bucket, proxy), create(tmp_path / "store")
    commit_model(store, tmp_path / "run")
    backup(store, spot.remote())
    frames = fine_tuned(store, tmp_path)
    proxy.begin()
    done = backup(store, spot.far_remote())
    sent = put(proxy)
    document = sent.pop(f"{done.backup.name}.json")
    changed = [f"{LINE}/model_registry.json", f"{LINE}/journal.jsonl"]
    changed += [f"{LINE}/v1.1/{name}" for name in ("README.md", "model_info.json")]
    small = {
        str(digest)
        for path in changed
        for digest, _ in done.backup.file(path).spans  # type: ignore[union-attr]
    }
    assert {name: sent[name] for name in frames} == frames
    assert set(sent) == set(frames) | small
    assert sum(sent.values()) == done.size
    assert document < 8192


def test_a_destination_that_refuses_deletes_takes_backups(
    bucket: Place, proxy: Proxy, tmp_path: Path
) -> None:
    """Backing up and pushing need no right to delete; pruning says that it lacks it, and harms none."""

    def refuse(_: int, request: Request) -> Fault | None:
        removes = request.method == "DELETE" or "delete" in request.path.partition("?")[2]
        return Fault(status=403) if removes else None

    spot, store = spot_in(bucket, proxy), create(tmp_path / "store")
    commit_model(store, tmp_path / "run")
    proxy.begin(refuse)
    far = spot.far_remote()
    first = backup(store, far).backup
    push_to(store, far)
    fine_tuned(store, tmp_path)
    backup(store, far)
    push_to(store, far)
    with pytest.raises(StoreError):
        prune(far, plan_prune(far, BackupPolicy(last=1)))
    assert far.head(key_of(first.name)) is not None
    assert check(far).sound


def many(path: Path, count: int) -> Path:
    """Write a model of ``count`` tensors."""
    random = np.random.default_rng(3)
    values = random.normal(size=(count, 4)).astype(np.float32)
    tensors = {f"t{n}": Values("F32", (4,), row.tobytes()) for n, row in enumerate(values)}
    return write_model(path, files={"model.safetensors": safetensors_bytes(tensors)})


@pytest.mark.slow
def test_ten_thousand_frames_that_are_there_are_one_listing(
    bucket: Place, proxy: Proxy, tmp_path: Path
) -> None:
    """A push or backup of nothing new makes no request per frame, and is under two seconds at work.

    That is the processor's time: other tests may be running beside this one.
    """
    spot, store = spot_in(bucket, proxy), create(tmp_path / "store")
    commit(store, many(tmp_path / "run", 10_000), LINE, CommitOptions(message="many"))
    frames = len(set(store.blobs.iter_digests()))
    assert frames > 10_000
    push_to(store, spot.remote())
    backup(store, spot.remote())
    pages = -(-len([*spot.remote().list("blobs")]) // PAGE)
    proxy.begin()
    assert push_to(store, spot.far_remote()).outcome == "same"
    assert len(proxy.requests) <= 4
    proxy.begin()
    assert backup(store, spot.far_remote()).frames == 0
    assert len(proxy.requests) <= pages + 8
    commit_model(store, tmp_path / "small", step=1e-3)
    proxy.begin()
    done = push_to(store, spot.far_remote())
    assert len(proxy.requests) <= 2 * pages + 2 * done.frames + 10
    for verb in (push_to, backup):
        took, began = [], time.monotonic()
        for _ in range(3):
            before = time.process_time()
            verb(Store(store.root), spot.remote())
            took.append(time.process_time() - before)
        print(f"{verb.__name__}: {time.monotonic() - began:.2f} s for three, at work {took}")
        assert min(took) < 2, verb
