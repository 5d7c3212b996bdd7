"""One block of a frame: a byte that says how it is stored, and the rest.

Whatever a codec does, a block can be stored as it is, as one value repeated, or as "the same as
the base", so no codec needs to think of these and no block grows by more than one byte.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.base import NO_GRID, Bits, Grid, PayloadError
from modelstore.codecs.ids import CodecInfo
from modelstore.codecs.streams import is_constant
from modelstore.codecs.table import CODECS
from modelstore.hashing import Bytes
from modelstore.numeric import DType, as_bits

_RAW, _CONSTANT, _SAME, _CODED = range(4)
_FEW = 4096


def encode_block(
    codec: CodecInfo, raw: Bytes, dtype: DType, base: Bytes | None, grid: Grid = NO_GRID
) -> bytes:
    """Return the payload of one block; decoding it has been proved to give ``raw``.

    Args:
        codec: how to code it where nothing simpler fits.
        raw: the block, at least one value.
        dtype: how ``raw`` and ``base`` are read as numbers.
        base: the bytes of the base at the block's place, perhaps fewer; None without a base.
        grid: where the block lies in the rows of its tensor.

    Raises:
        PayloadError: the codec does not give back what it was given.
    """
    values, base_values = as_bits(raw, dtype), _bits_or_none(base, dtype)
    payload = _encode(codec, values, dtype, base_values, grid)
    if payload[0] == _CODED:
        body = memoryview(payload)[1:]
        decoded = CODECS[codec.id].decode(body, values.size, dtype, base_values)
        if not _hold_the_same(decoded, values):
            raise PayloadError(f"codec {codec.name!r} does not give back the block it was given")
    return payload


def coded_size(
    codec: CodecInfo, raw: Bytes, dtype: DType, base: Bytes | None, grid: Grid = NO_GRID
) -> int:
    """Return how long the payload of `encode_block` would be, without proving it."""
    return len(_encode(codec, as_bits(raw, dtype), dtype, _bits_or_none(base, dtype), grid))


def _encode(codec: CodecInfo, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
    if base is not None and _are_equal(base, values):
        return bytes((_SAME,))
    if is_constant(values):
        return bytes((_CONSTANT,)) + values[:1].tobytes()
    body = CODECS[codec.id].encode(values, dtype, base, grid)
    if len(body) >= values.nbytes:
        return bytes((_RAW,)) + values.tobytes()
    return bytes((_CODED,)) + body


def _are_equal(base: Bits, values: Bits) -> bool:
    """Tell whether they are the same; where they are not, the beginning mostly says so."""
    if base.size != values.size or not np.array_equal(base[:_FEW], values[:_FEW]):
        return False
    return _hold_the_same(base, values)


def _hold_the_same(one: Bits, other: Bits) -> bool:
    """Tell whether two arrays are equal; eight bytes at once, where they are so many."""
    if one.nbytes % 8 == 0 and one.flags.c_contiguous and other.flags.c_contiguous:
        return np.array_equal(one.view(np.uint64), other.view(np.uint64))
    return np.array_equal(one, other)


def _bits_or_none(data: Bytes | None, dtype: DType) -> Bits | None:
    return None if data is None else as_bits(data, dtype)


def decode_block(
    codec: CodecInfo, payload: Bytes, size: int, dtype: DType, base: Bytes | None
) -> memoryview:
    """Return the ``size`` raw bytes of a block, read-only.

    Raises:
        PayloadError: ``payload`` breaks a rule of `docs/format.md`.
    """
    mode, body = memoryview(payload)[:1].tobytes(), memoryview(payload)[1:]
    count = size // dtype.width
    if mode == bytes((_RAW,)):
        return _exactly(body, size)
    if mode == bytes((_CONSTANT,)):
        return memoryview(bytes(_exactly(body, dtype.width)) * count)
    if mode == bytes((_SAME,)):
        return _same(body, size, base)
    if mode != bytes((_CODED,)):
        raise PayloadError(f"there is no kind of block {mode.hex() or 'without bytes'}")
    return _bytes_of(CODECS[codec.id].decode(body, count, dtype, _bits_or_none(base, dtype)))


def _exactly(body: memoryview, size: int) -> memoryview:
    if len(body) != size:
        raise PayloadError(f"a block has {len(body)} bytes where {size} belong")
    return body


def _same(body: memoryview, size: int, base: Bytes | None) -> memoryview:
    _exactly(body, 0)
    if base is None or len(base) != size:
        raise PayloadError("a block is the same as a base that does not reach so far")
    return memoryview(base)


def _bytes_of(values: Bits) -> memoryview:
    view = values.view(np.uint8)
    view.flags.writeable = False
    return view.data
