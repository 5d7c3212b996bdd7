"""A merged matrix beside its base: where the exact sum of each value must have lain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.base import Bits
from modelstore.codecs.compiling import steady
from modelstore.lowrank import loops
from modelstore.numeric import DType

Matrix: TypeAlias = NDArray[np.float32]
Wide: TypeAlias = NDArray[np.float64]

_PIECE = 1 << 18
"""Values worked on at once; bounds what temporaries take."""

_CONTEXTS = 256
_SYMBOLS = 64


@dataclass(frozen=True, slots=True)
class Merge:
    """A merged matrix and its base.

    Attributes:
        values, base: bits of shape (rows, columns).
        dtype: BF16 or F16.
    """

    values: Bits
    base: Bits
    dtype: DType

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return int(self.values.shape[0])

    @property
    def columns(self) -> int:
        """Columns of the matrix."""
        return int(self.values.shape[1])

    def pieces(self) -> Iterator[slice]:
        """Yield the rows in pieces of a quarter million values."""
        step = max(1, _PIECE // self.columns)
        for first in range(0, self.rows, step):
            yield slice(first, min(first + step, self.rows))

    def sample(self, count: int) -> Merge:
        """Return the merge of about ``count`` rows that are spread evenly."""
        step = max(1, self.rows // count)
        return Merge(self.values[::step], self.base[::step], self.dtype)

    def is_ordinary(self) -> bool:
        """Tell whether there is neither an infinity nor a NaN, nor what rounds up to an infinity."""
        special = ((1 << self.dtype.exponent) - 1) << self.dtype.mantissa
        parts = (bits[rows] for rows in self.pieces() for bits in (self.values, self.base))
        return not any(
            bool((((part & special) == special) | (((part + 1) & special) == special)).any())
            for part in parts
        )

    def interval(self, rows: slice) -> tuple[Matrix, Matrix]:
        """Return middle and width of the differences to the base that round to the values."""
        known = numbers_of(self.dtype)
        values = self.values[rows]
        return known.middle[values] - known.value[self.base[rows]], known.width[values]

    def pull(self, rows: slice, update: Matrix, floor: float, blur: float) -> tuple[Matrix, Matrix]:
        """Return what `modelstore.lowrank.fit.Pull` does of these rows at ``update``."""
        gradient, curvature = np.empty_like(update), np.empty_like(update)
        pair = _steady(self.values[rows]), _steady(self.base[rows])
        found = update.reshape(-1), gradient.reshape(-1), curvature.reshape(-1)
        limits = np.float32(floor), np.float32(blur)
        loops.pull(pair, numbers_of(self.dtype), limits, found)
        return gradient, curvature

    def coded_bits(self, predicted: Bits) -> float:
        """Return what the steps from ``predicted`` to the values cost, given its exponents.

        An estimate, from their entropy; ``predicted`` has the shape of the matrix.
        """
        counts = np.zeros((_CONTEXTS, _SYMBOLS), np.int64)
        mantissa = np.int64(self.dtype.mantissa)
        large = 0.0
        for rows in self.pieces():
            pair = _steady(self.values[rows]), _steady(predicted[rows])
            large += float(loops.count_steps(*pair, mantissa, counts))
        return _entropy(counts) + 2 * large


class Numbers(NamedTuple):
    """What the bits of a dtype stand for: 65,536 float32 each.

    Attributes:
        value: the number.
        middle, width: of the interval that is rounded to it.
    """

    value: Matrix
    middle: Matrix
    width: Matrix


@cache
def numbers_of(dtype: DType) -> Numbers:
    """Return the numbers of F16 or BF16."""
    bits = np.arange(1 << 16).astype(np.uint16)
    opposite = (bits ^ 0x8000) | 1
    inward = np.where(bits & 0x7FFF == 0, opposite, bits - 1).astype(np.uint16)
    value = _floats(bits, dtype)
    inner, outer = _floats(inward, dtype), _floats(bits + 1, dtype)
    with np.errstate(invalid="ignore"):  # beyond the largest number
        middle = value.copy()
        middle += (inner - value + (outer - value)) * _QUARTER
        width = np.abs(outer - inner)
        width *= _HALF
    return Numbers(value, middle, width)


_HALF, _QUARTER = np.float32(0.5), np.float32(0.25)


def _floats(bits: Bits, dtype: DType) -> Matrix:
    if dtype.mantissa == 10:
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _steady(bits: Bits) -> Bits:
    return steady(np.ascontiguousarray(bits).reshape(-1))


def _entropy(counts: NDArray[np.int64]) -> float:
    """Return the bits of all symbols, each coded by its share in its row of ``counts``."""
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = counts * np.log2(total / counts)
    return float(np.nansum(bits))
