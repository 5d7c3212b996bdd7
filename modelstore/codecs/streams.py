"""A sequence of byte planes, each stored the cheapest way: constant, raw, or zstd.

Most of what separates weights from noise ends up here: an exponent plane compresses well, a
mantissa plane not at all, and the low planes of bf16 values held in fp32 are constant.
"""

from __future__ import annotations

import struct

import numpy as np

from modelstore.codecs import zstd
from modelstore.codecs.base import Bits, PayloadError, Planes
from modelstore.hashing import Bytes

_CONSTANT, _RAW, _ZSTD = 0, 1, 2
_LENGTH = struct.Struct("<I")


def pack(planes: Planes) -> bytes:
    """Return ``planes``, each of at least one byte, as they are stored."""
    return b"".join(_pack_one(plane) for plane in planes)


def _pack_one(plane: Planes) -> bytes:
    if is_constant(plane):
        return bytes((_CONSTANT, plane[0]))
    packed = zstd.compress(plane.data, zstd.FAST)
    if _LENGTH.size + len(packed) < plane.size:
        return bytes((_ZSTD,)) + _LENGTH.pack(len(packed)) + packed
    return bytes((_RAW,)) + plane.tobytes()


def is_constant(values: Bits) -> bool:
    """Tell whether all of ``values``, at least one, are the same."""
    return bool(values[0] == values[-1]) and bool(values.min() == values.max())


def unpack(data: Bytes, count: int, size: int) -> Planes:
    """Return the ``count`` planes of ``size`` bytes each that ``data`` holds, and nothing else.

    Raises:
        PayloadError: ``data`` holds less, more, or something else.
    """
    planes = np.empty((count, size), np.uint8)
    rest = memoryview(data)
    for plane in planes:
        rest = _unpack_one(rest, plane)
    if rest:
        raise PayloadError(f"{len(rest)} bytes after the last plane")
    return planes


def _unpack_one(data: memoryview, plane: Planes) -> memoryview:
    """Fill ``plane`` from the beginning of ``data``; return the rest."""
    kind, rest = take(data, 1)
    if kind[0] == _CONSTANT:
        value, rest = take(rest, 1)
        plane[:] = value[0]
    elif kind[0] == _RAW:
        content, rest = take(rest, plane.size)
        plane[:] = np.frombuffer(content, np.uint8)
    elif kind[0] == _ZSTD:
        length, rest = take(rest, _LENGTH.size)
        packed, rest = take(rest, _LENGTH.unpack(length)[0])
        plane[:] = np.frombuffer(zstd.decompress(packed, plane.size), np.uint8)
    else:
        raise PayloadError(f"there is no kind of plane {kind[0]}")
    return rest


def take(data: memoryview, size: int) -> tuple[memoryview, memoryview]:
    """Return the first ``size`` bytes of ``data``, and the rest.

    Raises:
        PayloadError: there are fewer.
    """
    if len(data) < size:
        raise PayloadError(f"the payload ends {size - len(data)} bytes early")
    return data[:size], data[size:]
