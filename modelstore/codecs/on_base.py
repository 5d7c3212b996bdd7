"""What codecs with a base share: the base may end before the block does."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod

import numpy as np

from modelstore.codecs import streams
from modelstore.codecs.base import Bits, Codec, Grid
from modelstore.hashing import Bytes
from modelstore.numeric import DType

_LENGTH = struct.Struct("<I")


class OnBase(ABC):
    """Differences as far as the base reaches, and another codec for what lies beyond it.

    Args:
        alone: codes values without a base.
    """

    def __init__(self, alone: Codec) -> None:
        self._alone = alone

    @abstractmethod
    def encode_differences(self, values: Bits, dtype: DType, base: Bits, grid: Grid) -> bytes:
        """Return ``values``, coded against as many of ``base``."""

    @abstractmethod
    def decode_differences(self, body: memoryview, dtype: DType, base: Bits) -> Bits:
        """Return the values that differ from ``base`` by what ``body`` says.

        Raises:
            PayloadError: ``body`` is not what `encode_differences` could have returned.
        """

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return what tells ``values`` from ``base``."""
        covered = 0 if base is None else min(base.size, values.size)
        if base is None or covered == 0:
            return self._alone.encode(values, dtype, None, grid)
        packed = self.encode_differences(values[:covered], dtype, base[:covered], grid)
        if covered == values.size:
            return packed
        rest = self._alone.encode(values[covered:], dtype, None, grid.after(covered))
        return _LENGTH.pack(len(packed)) + packed + rest

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the values that `encode` made ``body`` of, given the same base."""
        covered = 0 if base is None else min(base.size, count)
        if base is None or covered == 0:
            return self._alone.decode(body, count, dtype, None)
        if covered == count:
            return self.decode_differences(memoryview(body), dtype, base[:covered])
        length, rest = streams.take(memoryview(body), _LENGTH.size)
        packed, rest = streams.take(rest, _LENGTH.unpack(length)[0])
        head = self.decode_differences(packed, dtype, base[:covered])
        return np.concatenate((head, self._alone.decode(rest, count - covered, dtype, None)))
