"""Reading blobs: whole, in pieces, in ranges, in threads, and never wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.blobs import BlobStore
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.hashing import digest_of
from modelstore.numeric import DTYPES
from tests.blobs.conftest import add, damage, fine_tuned, resealed, store_at
from tests.contracts.codec import blocks

ABSENT = digest_of(b"absent")


@given(data=st.data())
def test_gives_back_every_bit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """A blob of any dtype, with or without a base, across block boundaries, comes back exactly."""
    dtype = data.draw(st.sampled_from(DTYPES))
    raw, base = data.draw(blocks(dtype))
    raw += data.draw(st.binary(max_size=2))  # perhaps not a whole number of values
    base = data.draw(st.sampled_from((base, raw, raw[::-1])))
    store = store_at(
        tmp_path_factory.mktemp("s") / ".mstore", block_log2=data.draw(st.integers(0, 6))
    )
    add(store, base, dtype=dtype.name)
    digest, _ = add(store, raw, base, dtype=dtype.name)
    store.check(digest)
    assert store.read(digest) == raw
    assert b"".join(store.blocks(digest)) == raw
    buffer = bytearray(len(raw))
    store.read_into(digest, memoryview(buffer))
    assert buffer == raw
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, len(raw)))
    assert store.read_range(digest, start, stop) == raw[start:stop]


@pytest.mark.parametrize("values", [0, 1, 2, 255, 256, 257, 511, 512, 513])
@pytest.mark.parametrize("threads", [1, 3])
def test_sizes_around_the_block_size(tmp_path: Path, values: int, threads: int):
    """Empty, 0-d, and just above and below whole blocks come back, on one thread or several."""
    store = store_at(tmp_path / ".mstore", threads)
    old, new = fine_tuned(2, values)
    add(store, old)
    digest, _ = add(store, new, old)
    assert store.read(digest) == new
    assert store.header(digest).raw_size == 2 * values


def test_ranges_decode_only_what_they_need(store: BlobStore):
    """A range is readable while another block of the blob, or of its base, is damaged."""
    old, new = fine_tuned(2)
    base, _ = add(store, old)
    digest, added = add(store, new, old)
    assert added.built_on == (base,)
    path = store.path(base)
    header = store.header(base)
    content = bytearray(path.read_bytes())
    content[header.offsets[5]] ^= 1
    damage(path, bytes(content))
    assert store.read_range(digest, 1000, 2000) == new[1000:2000]
    with pytest.raises(IntegrityError, match=base):
        store.read_range(digest, 5 * 512, 5 * 512 + 1)
    with pytest.raises(IntegrityError):
        store.read(digest)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 6001), (7000, 7001)])
def test_ranges_outside_the_blob_are_refused(store: BlobStore, start: int, stop: int):
    """A range that the blob does not have is the caller's mistake."""
    digest, _ = add(store, fine_tuned(1)[0])
    with pytest.raises(UsageError):
        store.read_range(digest, start, stop)


def test_a_buffer_of_another_size_is_refused(store: BlobStore):
    """`read_into` fills exactly the blob."""
    digest, _ = add(store, fine_tuned(1)[0])
    with pytest.raises(UsageError):
        store.read_into(digest, memoryview(bytearray(10)))


def test_an_absent_blob_is_not_found(store: BlobStore):
    """Everything that reads says so, and names it."""
    for read in (store.read, store.header, store.check, lambda d: list(store.blocks(d))):
        with pytest.raises(NotFoundError, match=ABSENT) as caught:
            read(ABSENT)
        assert "mstore fsck" in caught.value.hint
    assert ABSENT not in store


def test_a_missing_base_is_named(store: BlobStore):
    """A blob whose base is gone is checked all right, but not read."""
    old, new = fine_tuned(2)
    base, _ = add(store, old)
    digest, _ = add(store, new, old)
    store.path(base).unlink()
    store.check(digest)
    with pytest.raises(NotFoundError, match=base):
        store.read(digest)


def test_a_frame_of_other_bytes_is_noticed_on_decode(store: BlobStore):
    """Bytes that do not hash to the blob's name raise, however well the frame is sealed."""
    one = digest_of(b"one")
    two, _ = add(store, b"two", dtype="")
    forged = resealed(store.path(two).read_bytes(), 64, bytes.fromhex(one))
    store.path(one).write_bytes(forged)
    store.check(one)
    with pytest.raises(IntegrityError, match="hash to"):
        store.read(one)
    with pytest.raises(IntegrityError, match="hash to"):
        store.read_into(one, memoryview(bytearray(3)))


def test_cycles_and_depths_are_refused(store: BlobStore):
    """A frame whose base is not less deep than itself is damaged, and reading it ends."""
    first, second, third = fine_tuned(3)
    add(store, first)
    add(store, second, first)
    digest, added = add(store, third, second)
    assert store.header(digest).depth == 2
    path = store.path(digest_of(second))
    damage(path, resealed(path.read_bytes(), 9, b"\2"))
    with pytest.raises(IntegrityError, match="do not fit"):
        store.read(digest)
    assert added.built_on == (digest_of(second),)


def test_frames_are_read_only_and_listed(store: BlobStore):
    """Every frame has mode 0444, and `iter_digests` yields exactly the blobs."""
    names = {add(store, data)[0] for data in fine_tuned(3)}
    (store.root / "blobs" / "00" / "README").write_text("not a blob")
    assert set(store.iter_digests()) == names
    assert {store.path(name).stat().st_mode & 0o777 for name in names} == {0o444}


def test_create_twice_changes_nothing(store: BlobStore):
    """Creating an existing store leaves its blobs alone."""
    digest, _ = add(store, b"x" * 100)
    store.create()
    assert digest in store
    assert len(list((store.root / "blobs").iterdir())) == 256


def test_many_readers_at_once(store: BlobStore):
    """Threads that read the same and other blobs all get the right bytes."""
    versions = fine_tuned(4)
    for index, data in enumerate(versions):
        add(store, data, *versions[max(0, index - 1) : index])
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda i: store.read(digest_of(versions[i % 4])), range(24)))
    assert results == [versions[i % 4] for i in range(24)]


def test_no_thread_outlives_a_call(store: BlobStore):
    """Neither a finished nor an abandoned read leaves a thread that a fork would lose."""
    digest, _ = add(store, fine_tuned(1)[0])
    store.read(digest)
    pieces = store.blocks(digest)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("mstore-")]


def test_importing_blobs_loads_no_numbers():
    """`mstore log` may import the store without numpy, numba, zstandard or filelock."""
    program = (
        "import sys, modelstore.blobs; "
        "sys.exit(bool({'numpy', 'numba', 'zstandard', 'filelock'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
