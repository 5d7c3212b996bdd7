"""Numbers as the difference to a base, grouped by the base's exponent.

An optimizer step does not depend on the size of a weight, but the distance of neighbouring floats
does: how many of them a weight moves is told by the exponent of its base. So floats become
integers in value order, their differences are sorted by that exponent, and each byte plane of the
result is nearly constant over long runs.
"""

from __future__ import annotations

import struct

import numpy as np

from modelstore.codecs import fields, ids, kernels, streams
from modelstore.codecs.base import Bits, Grid
from modelstore.codecs.planes import PlanesCodec
from modelstore.hashing import Bytes
from modelstore.numeric import DType

_LENGTH = struct.Struct("<I")
_PLANES = PlanesCodec()


class DeltaCodec:
    """Differences as far as the base reaches, planes of the values beyond it."""

    info = ids.DELTA

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return the differences of ``values`` to ``base``, packed."""
        covered = 0 if base is None else min(base.size, values.size)
        if base is None or covered == 0:
            return _PLANES.encode(values, dtype, None, grid)
        packed = _encode_differences(values[:covered], dtype, base[:covered])
        if covered == values.size:
            return packed
        rest = _PLANES.encode(values[covered:], dtype, None, grid.after(covered))
        return _LENGTH.pack(len(packed)) + packed + rest

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the values that differ from ``base`` by what ``body`` says."""
        covered = 0 if base is None else min(base.size, count)
        if base is None or covered == 0:
            return _PLANES.decode(body, count, dtype, None)
        if covered == count:
            return _decode_differences(body, dtype, base[:covered])
        length, rest = streams.take(memoryview(body), _LENGTH.size)
        packed, rest = streams.take(rest, _LENGTH.unpack(length)[0])
        head = _decode_differences(packed, dtype, base[:covered])
        return np.concatenate((head, _PLANES.decode(rest, count - covered, dtype, None)))


def _encode_differences(values: Bits, dtype: DType, base: Bits) -> bytes:
    return streams.pack(kernels.differ(values, base, fields.layout_of(dtype)))


def _decode_differences(body: Bytes, dtype: DType, base: Bits) -> Bits:
    planes = streams.unpack(body, dtype.width, base.size)
    return kernels.apply(planes, base, fields.layout_of(dtype))
