"""Repack: smaller frames, the same versions, whatever happens meanwhile."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from modelstore.codecs import ids
from modelstore.errors import DiskFullError, LockTimeoutError
from modelstore.hashing import Digest
from modelstore.locks import gc_lock, locked
from modelstore.manifest import BlobSpan
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.repack import Repacked, repack
from modelstore.ops.repack_ways import Effort
from modelstore.ops.resolve import resolve
from modelstore.ops.verify import verify
from modelstore.store import Store, create
from tests.builders import Values, safetensors_bytes
from tests.crashes import crashes
from tests.frames import put_frame
from tests.models import files_of, weights, write_model

LINE = ModelName("m")
OTHER = ModelName("n")


def trained(directory: Path, number: int, *, more: int = 0) -> Path:
    """Write a bf16 model that is ``number`` small steps away from the first."""
    tensors = weights(1, step=2e-5 * number, dtype="BF16")
    files = {"model.safetensors": safetensors_bytes(tensors), "notes.txt": "x" * more}
    return write_model(directory, files=files)


def unrelated(root: Path, versions: int = 3) -> Store:
    """Return a store of versions that were committed without a parent, so without a base."""
    store = create(root)
    for number in range(versions):
        source = trained(root.with_name(f"{root.name}-{number}"), number)
        commit(store, source, LINE, CommitOptions(parents=()))
    for span in tensors(store):
        put_frame(store.blobs, store.blobs.read(span.blob), ids.PLANES)
    return store


def tensors(store: Store) -> list[BlobSpan]:
    """Return the spans of all versions that hold tensors, once each."""
    found = {}
    for model in store.models():
        for entry in store.state(model).entries():
            for _, span, _ in store.manifest(model, entry).tensors():
                found[span.blob] = span
    return list(found.values())


def large(number: int) -> Values:
    """Return a tensor that is worth a search, ``number`` small steps away from the first."""
    values = np.random.default_rng(3).normal(0, 0.02, (128, 96)).astype(np.float32)
    step = np.random.default_rng(4).normal(0, 2e-5, values.shape).astype(np.float32)
    bits = (values + np.float32(number) * step).view(np.uint32) >> 16
    return Values("BF16", values.shape, bits.astype(np.uint16).tobytes())


def depths(store: Store) -> list[int]:
    """Return the depths of all frames, sorted, after checking them against their bases'."""
    found = []
    for digest in store.blobs.iter_digests():
        header = store.blobs.header(digest)
        assert header.base is None or store.blobs.header(header.base).depth < header.depth
        found.append(header.depth)
    return sorted(found)


def sizes(store: Store) -> dict[Digest, int]:
    """Return the size of every frame."""
    return {one: store.blobs.path(one).stat().st_size for one in store.blobs.iter_digests()}


def rest(store: Store) -> dict[str, bytes]:
    """Return every file of the store that repack has no business with."""
    passing = (".mstore/blobs/", ".mstore/locks/")
    return {k: v for k, v in files_of(store.root).items() if not k.startswith(passing)}


def assert_whole(store: Store) -> None:
    """Check every byte of every version."""
    for model in store.models():
        for entry in store.state(model).entries():
            assert verify(store, resolve(store, f"{model}@{entry.version}")).sound
    assert max(depths(store)) <= 4


def test_versions_without_a_parent_get_bases(tmp_path: Path) -> None:
    """Versions that were stored each on its own become small changes, and come out as they were."""
    store = unrelated(tmp_path / "store")
    before, others = sum(sizes(store).values()), rest(store)

    done = repack(store)

    assert done.total.recoded >= 4
    assert before - sum(sizes(store).values()) == done.total.won > 0
    assert done.models[LINE] == done.total
    assert (done.left, done.unreadable) == (0, ())
    assert max(depths(store)) > 0
    assert rest(store) == others
    for number in range(3):
        out = tmp_path / f"out{number}"
        checkout(store, resolve(store, f"v1.{number}"), output=out)
        assert files_of(out) == files_of(tmp_path / f"store-{number}")


def test_the_second_time_there_is_nothing_to_win(tmp_path: Path) -> None:
    """A repacked store is left as it is."""
    store = unrelated(tmp_path / "store")
    first = repack(store).total
    frames = sizes(store)
    second = repack(store).total
    assert (second.examined, second.recoded) == (first.examined, 0)
    assert second.before == second.after == first.after
    assert sizes(store) == frames


def test_another_model_of_the_store_is_kin(tmp_path: Path) -> None:
    """A line that began from the weights of another one gets its bases there."""
    store = unrelated(tmp_path / "store", 1)
    source = trained(tmp_path / "tuned", 1)
    commit(store, source, OTHER, CommitOptions(parents=()))
    for _, span, _ in store.manifest(OTHER, store.state(OTHER).entries()[0]).tensors():
        put_frame(store.blobs, store.blobs.read(span.blob), ids.PLANES)

    done = repack(store)

    assert done.models[OTHER].recoded > 0
    for model, deepest in ((LINE, 0), (OTHER, 1)):
        found = store.manifest(model, store.state(model).entries()[0]).blobs()
        assert max(store.blobs.header(digest).depth for digest in found) == deepest
    assert_whole(store)


def test_renamed_tensors_find_each_other(tmp_path: Path) -> None:
    """A version whose tensors have other names gets the bases that they are changes of."""
    store = create(tmp_path / "store")
    for number in range(2):
        named = {"transformer." * number + "h.0.weight": large(number)}
        source = write_model(
            tmp_path / f"run{number}", files={"model.safetensors": safetensors_bytes(named)}
        )
        commit(store, source, LINE, CommitOptions(parents=()))
    for span in tensors(store):
        put_frame(store.blobs, store.blobs.read(span.blob), ids.PLANES)
    repack(store)
    assert max(depths(store)) == 1
    assert_whole(store)


def test_frames_of_an_older_codec_are_encoded_anew(tmp_path: Path) -> None:
    """Whatever effort is made, frames that are larger than they need be become smaller."""
    store = unrelated(tmp_path / "store", 2)
    for span in tensors(store):
        put_frame(store.blobs, store.blobs.read(span.blob), ids.RAW)
    done = repack(store, effort=Effort.FAST)
    assert done.total.recoded > 0
    assert done.total.won > 0
    assert set(depths(store)) == {0}
    assert_whole(store)


def test_fast_keeps_bases(tmp_path: Path) -> None:
    """The lowest effort gives no frame a base that it did not have."""
    store = unrelated(tmp_path / "store")
    repack(store, effort=Effort.FAST)
    assert set(depths(store)) == {0}


def test_more_effort_is_never_worse(tmp_path: Path) -> None:
    """The highest effort encodes all anew, and ends no larger."""
    store = unrelated(tmp_path / "store")
    after = repack(store).total.after
    assert repack(store, effort=Effort.MAX).total.after <= after
    assert_whole(store)


def test_a_chain_that_is_built_upon_stays_as_deep(tmp_path: Path) -> None:
    """A version in the middle of a chain becomes smaller only where it does not become deeper."""
    store = unrelated(tmp_path / "store", 2)
    commit(store, trained(tmp_path / "top", 2), LINE, CommitOptions(parents=["v1.1"]))
    middle = store.manifest(LINE, store.state(LINE).entries()[1]).blobs()
    before = {digest: store.blobs.header(digest).depth for digest in middle}
    bases = {store.blobs.header(digest).base for digest in store.blobs.iter_digests()}
    repack(store)
    for digest in middle & bases:
        assert store.blobs.header(digest).depth == before[digest]
    assert_whole(store)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It tells what would be won, and every file stays as it is."""
    store = unrelated(tmp_path / "store")
    before = {k: v for k, v in files_of(store.root).items() if "/locks/" not in k}
    would = repack(store, dry_run=True)
    assert {k: v for k, v in files_of(store.root).items() if "/locks/" not in k} == before
    assert would.total.won > 0


def test_only_the_versions_that_were_named(tmp_path: Path) -> None:
    """Frames of other versions are not touched."""
    store = unrelated(tmp_path / "store")
    before = sizes(store)
    repack(store, [resolve(store, "v1.1")])
    named = store.manifest(LINE, resolve(store, "v1.1").entry).blobs()
    changed = {digest for digest, size in sizes(store).items() if size != before[digest]}
    assert changed
    assert changed <= named


def test_what_no_version_needs_is_left_alone(tmp_path: Path) -> None:
    """A frame that nothing refers to stays as it is."""
    store = unrelated(tmp_path / "store", 1)
    loose = put_frame(store.blobs, b"no version needs this " * 100, ids.RAW, dtype="")
    repack(store, effort=Effort.MAX)
    assert store.blobs.header(loose.digest) == loose


def test_damage_is_told_and_left(tmp_path: Path) -> None:
    """A damaged frame stays for verify to find, and all others are encoded anew."""
    store = unrelated(tmp_path / "store")
    lost, torn = (span.blob for span in tensors(store)[:2])
    store.blobs.path(lost).unlink()
    store.blobs.path(torn).chmod(0o644)
    store.blobs.path(torn).write_bytes(store.blobs.path(torn).read_bytes()[:-1])
    size = store.blobs.path(torn).stat().st_size
    done = repack(store)
    assert {word for line in done.unreadable for word in (lost, torn) if word in line} == {
        lost,
        torn,
    }
    assert store.blobs.path(torn).stat().st_size == size
    assert done.total.recoded > 0


def test_an_unreadable_manifest_is_told(tmp_path: Path) -> None:
    """A version whose manifest is lost is passed over; the others are repacked."""
    store = unrelated(tmp_path / "store")
    entry = resolve(store, "v1.1").entry
    store.blobs.path(entry.id).unlink()
    (store.version_dir(LINE, entry.version) / "manifest.json").unlink()
    done = repack(store)
    assert [line.split(":")[0] for line in done.unreadable] == ["m@v1.1"]
    assert done.total.recoded > 0


def test_a_second_repack_is_refused(tmp_path: Path) -> None:
    """One at a time; the other is told who is at it."""
    store = unrelated(tmp_path / "store", 1)
    store.lock_timeout = 0.1
    with locked(gc_lock(store.meta)), pytest.raises(LockTimeoutError, match="held by process"):
        repack(store)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let no file of this process grow over ``size`` bytes, as a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_nothing(tmp_path: Path) -> None:
    """Where there is no room the error says so, and every frame is as it was."""
    store = unrelated(tmp_path / "store")
    before = sizes(store)
    with limited(150), pytest.raises(DiskFullError):
        repack(store)
    assert sizes(store) == before
    assert not list((store.meta / "tmp").iterdir())
    assert repack(store).total.won > 0


def test_killed_at_any_step_nothing_is_lost(tmp_path: Path) -> None:
    """Whatever change of the disk it died before, every version is whole and a second run ends it."""
    store = unrelated(tmp_path / "template", 2)
    goal = repack(copied(store, tmp_path / "clean")).total.after
    step, died = 1, True
    while died:
        work = copied(store, tmp_path / f"at{step}")
        died = crashes(lambda work=work: repack(work), step)
        assert_whole(work)
        assert repack(work).total.after == goal
        assert_whole(work)
        assert not [path for path in (work.meta / "tmp").iterdir() if path.is_dir()]
        shutil.rmtree(work.root)
        step += 1
    assert step > 20


def copied(store: Store, root: Path) -> Store:
    """Return a copy of a store."""
    shutil.copytree(store.root, root)
    return Store(root)


REPACK = """
import sys
from pathlib import Path
from modelstore.ops.repack import repack
from modelstore.store import Store
print("ready", flush=True)
times = 0
while not Path(sys.argv[2]).exists():
    repack(Store(Path(sys.argv[1])))
    times += 1
print(times, flush=True)
"""


def test_commits_go_on_beside_it(tmp_path: Path) -> None:
    """While another process repacks again and again, no commit fails and every chain holds."""
    store = unrelated(tmp_path / "store")
    end = tmp_path / "end"
    command = [sys.executable, "-c", REPACK, str(store.root), str(end)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(3, 9):
            source = trained(tmp_path / f"run{number}", number, more=number)
            commit(store, source, LINE, CommitOptions(parents=() if number % 3 else None))
        end.touch()
        assert int(process.stdout.readline()) > 0
        assert process.wait(120) == 0
    assert_whole(store)


def test_figures_add_up() -> None:
    """An empty store has nothing to win."""
    empty = Repacked({}, 0, ())
    assert (empty.total.examined, empty.total.won) == (0, 0)
