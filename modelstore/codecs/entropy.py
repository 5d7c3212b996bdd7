"""Numbers without a base: every byte of them in a plane of its own, coded near its entropy.

The exponents of weights take about a third of their bits, signs and mantissas all of theirs. So
exponents become bytes of their own; what is noise is kept as it is, and costs nothing to read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs import ids, rans, streams, zstd
from modelstore.codecs.base import Bits, Grid, PayloadError, Planes
from modelstore.hashing import Bytes
from modelstore.numeric import DType

_CONSTANT, _RAW, _BYTES, _PAIRS = range(4)
_LENGTH = struct.Struct("<I")
_RANKS = 15  # and one that stands for all other bytes
_RUN, _RUNS = 64, 256  # bytes of a sample that lie together, and how often
_NOISE = 7.9  # bits a byte; more is not worth decoding
_COMMON = 0.98  # of the bytes must be among the ranked
_MANY = 1 << 16  # values from which a table of pairs pays
_LARGEST_TABLE = 1024


class EntropyCodec:
    """The planes of the block, one after the other."""

    info = ids.ENTROPY

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return the planes of ``values``, coded."""
        from modelstore.codecs import entropy_numba  # loads numba
        from modelstore.codecs.compiling import steady

        planes = np.empty((dtype.width, values.size), np.uint8)
        entropy_numba.split(steady(values), *_moves(dtype), planes)
        return b"".join(part for plane in planes for part in _encode_plane(plane))

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the values whose coded planes ``body`` is."""
        rest = memoryview(body)
        planes = []
        for _ in range(dtype.width):
            plane, rest = _decode_plane(rest, count)
            planes.append(plane)
        if rest:
            raise PayloadError(f"{len(rest)} bytes after the last plane")
        return _merge(planes, dtype)


def estimated_size(values: Bits, dtype: DType) -> float:
    """Return about how many bytes `EntropyCodec.encode` would take, tables not counted."""
    from modelstore.codecs import entropy_numba  # loads numba
    from modelstore.codecs.compiling import steady

    planes = np.empty((dtype.width, values.size), np.uint8)
    entropy_numba.split(steady(values), *_moves(dtype), planes)
    bits = (_entropy(_counts_of(plane)) for plane in planes)
    return sum(8.0 if each > _NOISE else each for each in bits) * values.size / 8


def _moves(dtype: DType) -> tuple[Any, Any, Any]:
    """Return the bits that stay, where the sign goes, and the largest number without one.

    Only where the exponent is a byte does moving the sign make it one of its own.
    """
    kind = np.dtype(f"u{dtype.width}").type
    bits = 8 * dtype.width
    half = kind((1 << (bits - 1)) - 1)
    if dtype.exponent == 8 and dtype.signed:
        return kind((1 << dtype.mantissa) - 1), kind(1 << dtype.mantissa), half
    return kind((1 << bits) - 1), kind(0), half


def _merge(planes: list[Planes], dtype: DType) -> Bits:
    moves = _moves(dtype)
    values: Bits = np.empty(planes[0].size, f"<u{dtype.width}")
    try:
        from modelstore.codecs import entropy_numba  # loads numba
        from modelstore.codecs.compiling import steady
    except ImportError:
        _merge_slowly(planes, *moves, values)
    else:
        entropy_numba.merge(tuple(steady(plane) for plane in planes), *moves, values)
    return values


def _merge_slowly(planes: list[Planes], low: Any, sign: Any, half: Any, values: Bits) -> None:
    """Do what `entropy_numba.merge` does."""
    cut = values.view(np.uint8).reshape(values.size, -1)
    for place, plane in enumerate(planes):
        cut[:, place] = plane
    if sign:
        signs = (values & sign != 0).astype(values.dtype) * ~half
        values[:] = (values & low) | ((values & ~(low | sign)) >> 1) | signs


# --- planes


Parts = Sequence[Bytes]
"""Bytes, in pieces that are yet to be joined."""


def _encode_plane(plane: Planes) -> Parts:
    if streams.is_constant(plane):
        return (bytes((_CONSTANT, plane[0])),)
    counts = _counts_of(_sample_of(plane))
    if _entropy(counts) > _NOISE:
        return bytes((_RAW,)), plane.data
    ranked = np.argsort(-counts, kind="stable")[:_RANKS].astype(np.uint8)
    if plane.size >= _MANY and counts[ranked].sum() >= _COMMON * counts.sum():
        coded = bytes((_PAIRS,)), *_encode_pairs(plane, ranked)
    else:
        coded = bytes((_BYTES,)), *_encode_symbols(plane)
    if sum(len(part) for part in coded) > plane.size:
        return bytes((_RAW,)), plane.data
    return coded


def _sample_of(plane: Planes) -> Planes:
    """Return a part of ``plane``, from all over it."""
    runs = plane.size // _RUN
    if runs <= _RUNS:
        return plane
    return plane[: runs * _RUN].reshape(runs, _RUN)[:: runs // _RUNS].ravel()


def _decode_plane(data: memoryview, count: int) -> tuple[Planes, memoryview]:
    kind, rest = streams.take(data, 1)
    if kind[0] == _CONSTANT:
        value, rest = streams.take(rest, 1)
        return np.full(count, value[0], np.uint8), rest
    if kind[0] == _RAW:
        content, rest = streams.take(rest, count)
        return np.frombuffer(content, np.uint8), rest
    if kind[0] == _BYTES:
        return _decode_symbols(rest, count)
    if kind[0] == _PAIRS:
        return _decode_pairs(rest, count)
    raise PayloadError(f"there is no kind of plane {kind[0]}")


def _counts_of(plane: Planes) -> NDArray[np.int64]:
    """Return how often each byte occurs."""
    from modelstore.codecs import entropy_numba  # loads numba

    counts = np.zeros((4, 256), np.uint32)
    entropy_numba.count(plane, counts)
    total: NDArray[np.int64] = counts.sum(axis=0, dtype=np.int64)
    return total


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _encode_symbols(plane: Planes) -> Parts:
    tables = rans.frequencies_of(_counts_of(plane).astype(np.float64)[None])
    packed = zstd.compress(rans.pack_tables(tables), zstd.FAST)
    coded = rans.encode(plane, None, tables)
    return _LENGTH.pack(len(packed)), packed, coded


def _decode_symbols(data: memoryview, count: int) -> tuple[Planes, memoryview]:
    length, rest = streams.take(data, _LENGTH.size)
    packed, rest = streams.take(rest, _LENGTH.unpack(length)[0])
    tables, after = rans.unpack_tables(zstd.decompress_at_most(packed, _LARGEST_TABLE), 1)
    if after:
        raise PayloadError(f"{len(after)} bytes after a table")
    symbols = np.empty(count, np.uint8)
    return symbols, rans.decode(rest, None, tables, symbols)


def _encode_pairs(plane: Planes, ranked: Planes) -> Parts:
    from modelstore.codecs import entropy_numba  # loads numba

    rank = np.full(256, _RANKS, np.uint8)
    rank[ranked] = np.arange(ranked.size)
    even = plane if plane.size % 2 == 0 else np.append(plane, ranked[:1])
    pairs, room = np.empty(even.size // 2, np.uint8), np.empty(even.size + 1, np.uint8)
    ranks = np.empty(entropy_numba.PIECE, np.uint8)
    views = (ranks, ranks.view(np.uint16), ranks.view(np.uint64))
    escapes = room[: int(entropy_numba.pair(even, rank, *views, pairs, room))]
    head = ranked.tobytes() + bytes(_RANKS - ranked.size) + _LENGTH.pack(escapes.size)
    return head, escapes.data, *_encode_symbols(pairs)


def _decode_pairs(data: memoryview, count: int) -> tuple[Planes, memoryview]:
    ranked, rest = streams.take(data, _RANKS)
    length, rest = streams.take(rest, _LENGTH.size)
    packed, rest = streams.take(rest, _LENGTH.unpack(length)[0])
    escapes = np.frombuffer(packed, np.uint8)
    pairs, rest = _decode_symbols(rest, (count + 1) // 2)
    palette = np.frombuffer(bytes(ranked) + b"\0", np.uint8)
    plane = np.empty(2 * pairs.size, np.uint8)
    if _unpair(pairs, palette, escapes, plane) != escapes.size:
        raise PayloadError("bytes are missing that stand beside their plane")
    return plane[:count], rest


def _unpair(pairs: Planes, palette: Planes, escapes: Planes, plane: Planes) -> int:
    """Fill ``plane``; return how many escapes it should have taken."""
    try:
        from modelstore.codecs import entropy_numba  # loads numba
    except ImportError:
        ranks = np.stack((pairs & 15, pairs >> 4), axis=1).ravel()
        plane[:] = palette[ranks]
        places = np.flatnonzero(ranks == _RANKS)
        plane[places[: escapes.size]] = escapes[: places.size]
        return places.size
    wide = palette.astype(np.uint16)
    twos = (wide | (wide[:, None] << 8)).ravel()
    eights = pairs[: pairs.size // 8 * 8].view(np.uint64)
    doubles = plane.view("<u2")
    return int(entropy_numba.unpair(pairs, eights, twos, escapes, plane, doubles))
