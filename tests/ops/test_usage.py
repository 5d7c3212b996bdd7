"""What du counts is what lies on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore import disk
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout, release
from modelstore.ops.clone import clone
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.gc import gc, plan_gc
from modelstore.ops.push import push
from modelstore.ops.remotes import add, opened
from modelstore.ops.resolve import resolve
from modelstore.ops.rm import plan_rm, rm
from modelstore.ops.usage import usage
from modelstore.store import Store
from tests.models import files_of, write_model

LLAMA = ModelName("llama_1b")


def on_disk(store: Store) -> int:
    """Return the bytes of all frames."""
    return sum(len(data) for data in files_of(store.meta / "blobs").values())


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Store:
    """A model with two versions, the second made against the first."""
    commit(store, write_model(tmp_path / "a"), LLAMA, CommitOptions())
    commit(store, write_model(tmp_path / "b", step=1e-4), LLAMA, CommitOptions())
    return store


def test_the_store_is_what_lies_in_blobs(line: Store) -> None:
    """Stored is the sum of all frames, logical the sum of all files, and all of it is needed."""
    found = usage(line)
    assert found.stored == on_disk(line)
    assert found.logical == sum(row.logical for row in found.versions)
    assert found.reclaimable == 0
    assert found.unreadable == ()
    assert found.ratio == found.logical / found.stored


def test_a_version_needs_its_bases_and_shares_them(line: Store) -> None:
    """The first version's tensors are shared as bases; the second's deltas are its own."""
    first, second = usage(line).versions
    assert first.unique < second.unique < second.stored
    assert second.shared > first.shared * 0.9
    assert first.unique + first.shared == first.stored
    resolved = resolve(line, "v1.1")
    manifest = line.manifest(resolved.model, resolved.entry)
    assert resolved.id is not None
    digests = {resolved.id, *manifest.blobs()}
    bases = {line.blobs.header(digest).base for digest in digests} - {None}
    assert bases
    frames = {*digests, *bases}
    assert second.stored == sum(line.blobs.path(d).stat().st_size for d in frames if d is not None)


def test_the_only_version_is_all_unique(store: Store, model_dir: Path) -> None:
    """Nothing is shared where there is nobody to share with."""
    commit(store, model_dir, LLAMA, CommitOptions())
    (row,) = usage(store).versions
    assert (row.unique, row.shared) == (on_disk(store), 0)


def test_frames_that_no_version_needs_are_reclaimable(line: Store) -> None:
    """A blob that no manifest names could be had back."""
    with line.blobs.transaction() as transaction:
        digest = transaction.add_bytes(b"left over" * 100)
        transaction.publish()
    assert usage(line).reclaimable == line.blobs.path(digest).stat().st_size


def test_hydrated_is_what_release_frees(line: Store) -> None:
    """The small files stay, so they do not count."""
    resolved = resolve(line, "v1.1")
    assert usage(line).hydrated == 0
    checkout(line, resolved)
    hydrated = usage(line).hydrated
    assert hydrated == release(line, resolved).size
    assert usage(line).hydrated == 0


def test_rows_are_those_that_were_asked_for(line: Store, model_dir: Path) -> None:
    """A model, or a version, chooses rows; the totals stay those of the store."""
    commit(line, model_dir, ModelName("other"), CommitOptions())
    whole = usage(line)
    assert len(whole.versions) == 3
    one = usage(line, model=ModelName("other"))
    assert [str(row.resolved) for row in one.versions] == ["other@v1.0"]
    chosen = usage(line, only=resolve(line, "llama_1b@v1.1"))
    assert [str(row.resolved) for row in chosen.versions] == ["llama_1b@v1.1"]
    assert one.stored == chosen.stored == whole.stored
    assert whole.versions[2].unique < whole.versions[2].stored


def test_nothing_is_reclaimable_where_something_cannot_be_read(line: Store) -> None:
    """With a damaged header nobody can tell what it is built on."""
    resolved = resolve(line, "v1.1")
    manifest = line.manifest(resolved.model, resolved.entry)
    blob = next(span.blob for _, span, _ in manifest.tensors())
    disk.replace(line.blobs.path(blob), b"damaged")
    found = usage(line)
    assert found.reclaimable is None
    assert len(found.unreadable) == 1


def test_an_empty_store_costs_nothing(store: Store) -> None:
    """No versions, no bytes, and no division by zero."""
    found = usage(store)
    assert (found.versions, found.stored, found.ratio, found.reclaimable) == ((), 0, 0.0, 0)


def test_the_trash_is_reclaimable(line: Store) -> None:
    """What a gc took away still lies on the disk, until it is purged."""
    rm(line, plan_rm(line, [resolve(line, "v1.1")]))
    before = usage(line).reclaimable
    gc(line, plan_gc(line))
    found = usage(line)
    assert found.reclaimable == found.trash == before
    gc(line, plan_gc(line, purge_now=True))
    found = usage(line)
    assert (found.reclaimable, found.trash) == (0, 0)


def test_what_a_lazy_clone_has_not_fetched_is_not_unreadable(line: Store, tmp_path: Path) -> None:
    """It is at the remote, so it can be told what may go."""
    url = str(tmp_path / "remote")
    add(line, "origin", url)
    with opened(line) as place:
        push(line, place)
    found = usage(clone(url, tmp_path / "clone", lazy=True).store)
    assert (found.unreadable, found.reclaimable) == ((), 0)
