"""Frames: whatever happens to one is noticed, without decoding it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.blobs import BlobStore, BytesSource, check_frame, parse_header
from modelstore.blobs.frame import pack_header
from modelstore.errors import IntegrityError, NewerFormatError
from modelstore.hashing import digest_of
from tests.blobs.conftest import add, fine_tuned, resealed


@pytest.fixture
def frame(store: BlobStore) -> bytes:
    """A frame of twelve blocks with a base."""
    old, new = fine_tuned(2)
    add(store, old)
    digest, _ = add(store, new, old)
    return store.path(digest).read_bytes()


NAME = digest_of(fine_tuned(2)[1])


def test_header_round_trip(frame: bytes):
    """Packing what was parsed gives the same bytes."""
    header = check_frame(BytesSource(frame), NAME)
    assert pack_header(header) == frame[: header.offsets[0]]
    assert header.stored_size == len(frame)
    assert (header.codec, header.depth, header.block_count) == ("delta", 1, 12)


def test_every_flipped_bit_is_noticed(frame: bytes):
    """No bit of a frame can change without `check_frame` raising IntegrityError."""
    for place in range(len(frame)):
        changed = bytearray(frame)
        changed[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            check_frame(BytesSource(changed), NAME)


def test_every_truncation_is_noticed(frame: bytes):
    """A frame that ends early is damaged, wherever it ends."""
    for size in range(len(frame)):
        with pytest.raises(IntegrityError):
            parse_header(BytesSource(frame[:size]), NAME)


def test_appended_bytes_are_noticed(frame: bytes):
    """The file's size is exactly that of header and blocks."""
    with pytest.raises(IntegrityError):
        parse_header(BytesSource(frame + b"\0"), NAME)


def test_swapped_blocks_are_noticed(frame: bytes):
    """Blocks do not fit in each other's places."""
    header = parse_header(BytesSource(frame), NAME)
    first, second, third = header.offsets[:3]
    swapped = frame[:first] + frame[second:third] + frame[first:second] + frame[third:]
    with pytest.raises(IntegrityError):
        check_frame(BytesSource(swapped), NAME)


def test_a_renamed_frame_is_noticed(frame: bytes):
    """A frame answers to its own name only."""
    with pytest.raises(IntegrityError, match="contradicts"):
        check_frame(BytesSource(frame), digest_of(b"another"))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (8, b"\xff"),
        (10, b"\xff"),
        (11, b"\xff"),
        (13, b"\1"),
        (14, b"\1"),
        (36, b"\1"),
        (63, b"\1"),
    ],
)
def test_what_is_not_known_is_newer(frame: bytes, place: int, value: bytes):
    """An intact header with an unknown codec, dtype, flag or reserved byte asks for an update."""
    with pytest.raises(NewerFormatError):
        parse_header(BytesSource(resealed(frame, place, value)), NAME)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (9, b"\0"),  # depth 0 with a base
        (9, b"\xff"),  # deeper than any
        (8, b"\2"),  # a codec without base, with one
        (12, b"\x17"),  # blocks too long
        (12, b"\x09"),  # other blocks than the table has
        (16, b"\xff" * 8),  # a size that the blocks cannot hold
        (24, b"\1"),  # half a value in the base
        (96, bytes(32)),  # no base
        (96, bytes.fromhex(NAME)),  # its own base
        (128, b"\0\0\0\0"),  # an empty block
    ],
)
def test_contradictions_are_noticed(frame: bytes, place: int, value: bytes):
    """A header that fits its checksum but not itself is damaged."""
    with pytest.raises(IntegrityError):
        parse_header(BytesSource(resealed(frame, place, value)), NAME)


@given(st.binary(max_size=300), st.booleans())
def test_hostile_headers_are_refused(noise: bytes, begins_well: bool):
    """Noise is damaged, and a huge block count is held against the file's size first."""
    data = b"\x89MSF\r\n\x1a\n" + noise if begins_well else noise
    with suppress(NewerFormatError), pytest.raises(IntegrityError):
        parse_header(BytesSource(data), NAME)


def test_a_table_larger_than_the_file_is_never_read():
    """The header's size is believed only if the file is so long."""

    class Counting(BytesSource):
        most = 0

        def read(self, start: int, stop: int) -> bytes:
            self.most = max(self.most, stop - start)
            return super().read(start, stop)

    source = Counting(b"\x89MSF\r\n\x1a\n" + bytes(24) + b"\xff" * 4 + bytes(200))
    with pytest.raises(IntegrityError, match="shorter than its header"):
        parse_header(source, NAME)
    assert source.most <= 128
