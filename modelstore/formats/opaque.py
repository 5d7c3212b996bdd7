"""Everything that is no known format: one literal span, or content-defined chunks if it is large.

Chunk boundaries depend on the bytes just before them and on nothing else, so an insertion moves the
boundaries near it and the chunks after it are found again (Gear hash with two thresholds:
Xia et al., "FastCDC", USENIX ATC 2016).

The hash after byte ``i`` is the sum of ``GEAR[byte[i - k]] << k`` for k from 0 to 31, modulo 2^32,
where ``GEAR[b]`` is the first four bytes, little endian, of the BLAKE3 of the single byte ``b``.
A chunk ends after the first byte that makes it at least `MIN_CHUNK` long and the hash smaller than
`_HARD` (below `NORMAL_CHUNK`) or `_EASY` (from there on), at the latest when it is `MAX_CHUNK` long.
Chunks are found anew with every commit and manifests list them, so these numbers are no part of the
disk format; but changing them loses the match with what is stored already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from modelstore.formats.base import Source, Span
from modelstore.hashing import checksum

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_FILE = 4 << 20
"""Files up to this many bytes stay whole."""

MIN_CHUNK = 256 << 10
NORMAL_CHUNK = 1 << 20
MAX_CHUNK = 4 << 20

# Of 2^32: an end every 4 MiB, then every 256 KiB; chunks of noise are 1.2 MiB on average.
_HARD = 1 << 10
_EASY = 1 << 14

_REACH = 32
"""Bytes that the hash depends on."""

# Hashed at once. Measured: 16 KiB 0.31, 64 KiB 0.38, 256 KiB 0.28 GB/s (out of the cache).
_PIECE = 64 << 10


class Opaque:
    """Takes any file for bytes without meaning."""

    name = "opaque"

    def matches(self, source: Source) -> bool:
        """Return True: every file is bytes."""
        return True

    def spans(self, source: Source) -> Sequence[Span]:
        """Return literal spans; none for an empty file."""
        if source.size == 0:
            return ()
        if source.size <= SMALL_FILE:
            return (Span(0, source.size),)
        return tuple(_chunks(source))


def _chunks(source: Source) -> Iterator[Span]:
    start = 0
    while start < source.size:
        stop = _chunk_end(source, start)
        yield Span(start, stop)
        start = stop


def _chunk_end(source: Source, start: int) -> int:
    """Return where the chunk that begins at ``start`` ends.

    Pieces are aligned to the chunk's start, so each lies on one side of `NORMAL_CHUNK`.
    """
    last = min(start + MAX_CHUNK, source.size)
    for begin in range(start + MIN_CHUNK, last, _PIECE):
        # The first end to consider is after MIN_CHUNK bytes: the hash of the byte before `begin`.
        piece = source.read(begin - _REACH, min(begin + _PIECE, last) - 1)
        threshold = _HARD if begin < start + NORMAL_CHUNK else _EASY
        found = _first_below(piece, threshold)
        if found >= 0:
            return begin + found
    return last


def _first_below(piece: bytes, threshold: int) -> int:
    """Return the index, from 0 for the hash of the 32nd byte, of the first hash under the threshold.

    Returns -1 where there is none.
    """
    import numpy as np

    hashes = _gear().take(np.frombuffer(piece, np.uint8))
    for shift in (1, 2, 4, 8, 16):  # each step doubles how many bytes a hash covers
        older = hashes[:-shift] << np.uint32(shift)
        older += hashes[shift:]
        hashes = older
    found = np.flatnonzero(hashes < np.uint32(threshold))
    return int(found[0]) if len(found) else -1


@cache
def _gear() -> NDArray[Any]:
    import numpy as np

    table = b"".join(checksum(bytes([value]), 4) for value in range(256))
    return np.frombuffer(table, "<u4").astype(np.uint32)
