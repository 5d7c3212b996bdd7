"""Numbers as the difference to a base, grouped by the base's exponent.

An optimizer step does not depend on the size of a weight, but the distance of neighbouring floats
does: how many of them a weight moves is told by the exponent of its base. So floats become
integers in value order, their differences are sorted by that exponent, and each byte plane of the
result is nearly constant over long runs.
"""

from __future__ import annotations

from modelstore.codecs import fields, ids, kernels, streams
from modelstore.codecs.base import Bits, Grid
from modelstore.codecs.on_base import OnBase
from modelstore.codecs.planes import PlanesCodec
from modelstore.numeric import DType


class DeltaCodec(OnBase):
    """Differences as far as the base reaches, planes of the values beyond it."""

    info = ids.DELTA

    def __init__(self) -> None:
        super().__init__(PlanesCodec())

    def encode_differences(self, values: Bits, dtype: DType, base: Bits, grid: Grid) -> bytes:
        """Return the differences of ``values`` to ``base``, packed."""
        return streams.pack(kernels.differ(values, base, fields.layout_of(dtype)))

    def decode_differences(self, body: memoryview, dtype: DType, base: Bits) -> Bits:
        """Return the values that differ from ``base`` by what ``body`` says."""
        planes = streams.unpack(body, dtype.width, base.size)
        return kernels.apply(planes, base, fields.layout_of(dtype))
