"""Values as they are, for what does not compress."""

from __future__ import annotations

import numpy as np

from modelstore.codecs import ids
from modelstore.codecs.base import Bits, Grid, PayloadError
from modelstore.hashing import Bytes
from modelstore.numeric import DType


class RawCodec:
    """The little-endian bytes of the block."""

    info = ids.RAW

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return the bytes of ``values``."""
        return values.tobytes()

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the values whose bytes ``body`` is."""
        if len(body) != count * dtype.width:
            raise PayloadError(f"{len(body)} raw bytes for {count} values of {dtype.width} bytes")
        return np.frombuffer(body, f"<u{dtype.width}")
