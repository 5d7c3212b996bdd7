"""Numbers without a base: every field in planes of its own.

The exponents of weights take about a third of their bits, signs and mantissas all of theirs.
"""

from __future__ import annotations

from modelstore.codecs import fields, ids, kernels, streams
from modelstore.codecs.base import Bits, Grid
from modelstore.hashing import Bytes
from modelstore.numeric import DType


class PlanesCodec:
    """The planes of the block, one after the other."""

    info = ids.PLANES

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return the planes of ``values``, packed."""
        return streams.pack(kernels.split(values, fields.layout_of(dtype)))

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the values whose packed planes ``body`` is."""
        layout = fields.layout_of(dtype)
        planes = streams.unpack(body, layout.plane_count, count)
        fields.require_fitting(planes, layout)
        return kernels.merge(planes, layout)
