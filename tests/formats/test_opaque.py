"""Opaque files: whole when small, cut by their content when large."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.formats.opaque import (
    _EASY,
    _HARD,
    MAX_CHUNK,
    MIN_CHUNK,
    NORMAL_CHUNK,
    SMALL_FILE,
    Opaque,
    _first_below,
)
from modelstore.hashing import checksum
from tests.builders import MemorySource
from tests.contracts.format import assert_covers

NOISE = random.Random(1).randbytes(24 << 20)


def chunks_of(content: bytes) -> list[bytes]:
    """Return the chunks that the content is cut into."""
    source = MemorySource(content)
    spans = Opaque().spans(source)
    assert_covers(spans, len(content))
    assert source.longest_read < 1 << 20
    return [content[span.start : span.stop] for span in spans]


def test_small_files_stay_whole() -> None:
    """Up to the limit a file is one span, and an empty file is none."""
    assert Opaque().spans(MemorySource(b"")) == ()
    assert len(Opaque().spans(MemorySource(b"x"))) == 1
    assert len(Opaque().spans(MemorySource(NOISE[:SMALL_FILE]))) == 1
    assert len(Opaque().spans(MemorySource(NOISE[: SMALL_FILE + 1]))) > 1


def test_chunks_have_the_sizes_that_are_documented() -> None:
    """Chunks of noise lie between the limits, and are about 1.2 MiB on average."""
    sizes = [len(chunk) for chunk in chunks_of(NOISE)]
    assert all(MIN_CHUNK <= size <= MAX_CHUNK for size in sizes[:-1])
    assert 0.8 < sum(sizes) / len(sizes) / NORMAL_CHUNK < 1.6


def test_monotonous_bytes_are_cut_too() -> None:
    """Where no boundary is ever found, chunks are as long as they may be."""
    assert {len(chunk) for chunk in chunks_of(bytes(3 * MAX_CHUNK))} <= {MIN_CHUNK, MAX_CHUNK}


@given(st.integers(0, len(NOISE)), st.binary(min_size=1, max_size=100), st.integers(0, 1000))
@settings(max_examples=6)
def test_most_chunks_survive_an_edit(at: int, inserted: bytes, removed: int) -> None:
    """After bytes are inserted or removed anywhere, nearly all chunks are found again."""
    before = set(chunks_of(NOISE))
    after = chunks_of(NOISE[:at] + inserted + NOISE[at + removed :])
    assert sum(chunk not in before for chunk in after) <= 3


def test_boundaries_follow_the_documented_formula() -> None:
    """The chunks are those of the definition in the docstring, computed byte by byte."""
    gear = [int.from_bytes(checksum(bytes([b]), 4), "little") for b in range(256)]
    content = NOISE[: SMALL_FILE + 12345]
    value, ends, start = 0, [], 0
    for i, byte in enumerate(content):
        value = ((value << 1) + gear[byte]) & 0xFFFFFFFF
        length = i + 1 - start
        limit = 0 if length < MIN_CHUNK else _HARD if length < NORMAL_CHUNK else _EASY
        if value < limit or length == MAX_CHUNK or i + 1 == len(content):
            ends.append(i + 1)
            start = i + 1
    assert [span.stop for span in Opaque().spans(MemorySource(content))] == ends


def test_the_hash_of_a_window_needs_all_of_it() -> None:
    """The first hash is that of the 32nd byte; fewer bytes have none."""
    assert _first_below(bytes(32), 1 << 31) in (0, -1)
    assert _first_below(NOISE[:100], (1 << 32) - 1) == 0
