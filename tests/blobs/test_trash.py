"""What is in the trash can be found, read and taken back, and never harms what is in the store."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from modelstore import disk
from modelstore.blobs import BlobStore, BytesSource
from modelstore.blobs.closure import Closure
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.trash import Trashed
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import dtype_named

F32 = dtype_named("F32")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    """An empty blob store."""
    blobs = BlobStore(tmp_path / "meta")
    blobs.create()
    disk.make_dir(blobs.root / "trash")
    disk.make_dir(blobs.root / "locks")
    return blobs


def publish(store: BlobStore, data: bytes, *bases: Digest) -> Digest:
    """Publish values, perhaps built on others."""
    digest = digest_of(data)
    with store.transaction() as transaction:
        transaction.add(digest, BytesSource(data), dtype=F32, bases=bases)
        transaction.publish()
    return digest


@pytest.fixture
def chain(store: BlobStore) -> list[Digest]:
    """Three blobs, each built on the one before."""
    random = np.random.default_rng(1)
    values = random.normal(size=4096).astype(np.float32)
    found: list[Digest] = []
    for _ in range(3):
        found.append(publish(store, values.tobytes(), *found[-1:]))
        values += random.normal(size=4096).astype(np.float32) * np.float32(1e-6)
    assert [store.header(digest).depth for digest in found] == [0, 1, 2]
    return found


def throw_away(store: BlobStore, *digests: Digest) -> None:
    """Move frames to the trash."""
    trash = store.trash()
    for digest in digests:
        trash.put(digest)
    trash.sync()


def test_what_is_there_is_listed(store: BlobStore, chain: list[Digest]) -> None:
    """Frames and directories with what they were, their age and size; other names apart."""
    directory = store.root / "somewhere"
    directory.mkdir()
    (directory / "file").write_bytes(b"12345")
    size = store.path(chain[0]).stat().st_size
    throw_away(store, chain[0])
    store.trash().put_directory(directory, "m@v1.0")
    (store.root / "trash" / "notes.txt").write_text("mine")
    frames = [item for item in store.trash().content() if item.digest == chain[0]]
    directories = [item for item in store.trash().content() if item.what == "m@v1.0"]
    assert [item.size() for item in (*frames, *directories)] == [size, 5]
    assert all(-2 < item.age < 60 for item in store.trash().content())
    assert [path.name for path in store.trash().unknown()] == ["notes.txt"]
    assert store.trash().find(chain[0]) == frames[0].path


def test_a_name_without_a_real_moment_never_grows_old() -> None:
    """Its age is not known, so it is not purged for that."""
    assert Trashed(Path("x"), "99999999T999999Z", None, "x").age == 0


def test_blobs_can_be_read_from_the_trash(store: BlobStore, chain: list[Digest]) -> None:
    """Whoever reads a version that is being removed reads on, though it is not in the store."""
    data = [store.read(digest) for digest in chain]
    throw_away(store, chain[1], chain[2])
    assert [store.read(digest) for digest in chain] == data
    assert chain[2] not in store
    assert not store.is_sound(chain[2])


def test_a_reader_that_has_begun_reads_on(store: BlobStore, chain: list[Digest]) -> None:
    """An open frame stays readable, purged or not."""
    blocks = store.blocks(chain[2])
    first = next(blocks)
    throw_away(store, *chain)
    for item in store.trash().content():
        store.trash().purge(item)
    assert digest_of(b"".join([first, *blocks])) == chain[2]
    with pytest.raises(NotFoundError):
        store.read(chain[2])


def test_what_comes_back_brings_what_it_is_built_on(store: BlobStore, chain: list[Digest]) -> None:
    """The whole chain is back, and sound."""
    throw_away(store, *chain)
    trash = store.trash()
    assert trash.give_back(chain[2])
    trash.sync()
    assert all(store.is_sound(digest) for digest in chain)
    assert store.trash().content() == []


def test_what_lacks_a_base_does_not_come_back(store: BlobStore, chain: list[Digest]) -> None:
    """A frame that cannot be read is not put among those that can."""
    throw_away(store, chain[2], chain[1])
    disk.remove(store.path(chain[0]))
    assert not store.trash().give_back(chain[2])
    assert chain[2] not in store
    assert chain[1] not in store


def test_what_is_there_stays(store: BlobStore, chain: list[Digest]) -> None:
    """A frame in the store is not replaced by one from the trash."""
    throw_away(store, chain[1])
    data = store.read(chain[1])
    publish(store, data)
    before = store.path(chain[1]).stat().st_ino
    assert store.trash().give_back(chain[1])
    assert store.path(chain[1]).stat().st_ino == before


def test_a_damaged_frame_gives_way_to_an_intact_one(store: BlobStore, chain: list[Digest]) -> None:
    """Unless that is damaged, too."""
    throw_away(store, chain[0])
    disk.replace(store.path(chain[0]), b"damaged")
    assert store.trash().give_back(chain[0])
    assert store.is_sound(chain[0])
    throw_away(store, chain[0])
    (item,) = store.trash().content()
    data = bytearray(item.path.read_bytes())
    data[-1] ^= 1
    disk.replace(item.path, bytes(data))
    disk.replace(store.path(chain[0]), b"damaged")
    assert not store.trash().give_back(chain[0])


def test_a_base_that_became_too_deep_is_replaced(store: BlobStore, chain: list[Digest]) -> None:
    """What comes back gets the frame that it fits, which is less deep than the one that is there."""
    values = store.read(chain[0])
    throw_away(store, *chain)
    more = np.frombuffer(values, np.float32) + np.float32(1e-6)
    further = publish(store, more.tobytes())
    publish(store, values, further)
    assert store.header(chain[0]).depth == 1
    trash = store.trash()
    assert trash.give_back(chain[1])
    trash.sync()
    assert store.header(chain[0]).depth == 0
    assert store.is_sound(chain[1])
    assert store.is_sound(further)


def test_what_a_frame_in_the_trash_is_built_on_stays_as_deep_as_it_is(
    store: BlobStore, chain: list[Digest]
) -> None:
    """A repack must not make its base so deep that it could not come back."""
    assert Lineage(store).may_become_deeper(chain[2])
    lineage = Lineage(store)
    throw_away(store, chain[2])
    assert not Lineage(store).may_become_deeper(chain[1])
    lineage.refresh()
    assert not lineage.may_become_deeper(chain[1])


# --- the closure


def test_a_closure_follows_bases(store: BlobStore, chain: list[Digest]) -> None:
    """A blob needs its base, and that its own; one that is missing is known to be."""
    closure = Closure(store)
    assert closure.of([chain[2]]) == set(chain)
    assert closure.of([chain[0]]) == {chain[0]}
    assert closure.absent(chain) == []
    throw_away(store, chain[1])
    assert closure.absent(chain) == []
    closure.refresh()
    assert closure.absent(chain) == [chain[1]]
    assert closure.of([chain[2]]) == {chain[1], chain[2]}


def test_a_closure_notices_what_was_replaced(store: BlobStore, chain: list[Digest]) -> None:
    """A frame that is built on something else now is read again."""
    closure = Closure(store)
    assert closure.of([chain[2]]) == set(chain)
    data = store.read(chain[2])
    disk.remove(store.path(chain[2]))
    publish(store, data)
    closure.refresh()
    assert closure.of([chain[2]]) == {chain[2]}


def test_a_closure_is_not_guessed(store: BlobStore, chain: list[Digest]) -> None:
    """With a damaged header nobody can tell what is needed."""
    disk.replace(store.path(chain[2]), b"damaged" * 99)
    with pytest.raises(IntegrityError):
        Closure(store).of([chain[2]])


def test_times_do_not_fool_a_closure(store: BlobStore, chain: list[Digest]) -> None:
    """A frame whose time was set back is read again, which costs time and nothing else."""
    closure = Closure(store)
    closure.of(chain)
    os.utime(store.path(chain[2]), (0, 0))
    closure.refresh()
    assert closure.of([chain[2]]) == set(chain)
