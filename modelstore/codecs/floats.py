"""Floats of few bits as float64, and back, by work on bits alone.

Conversions by the processor depend on settings that any library of the process may change
(denormals as zeros, flushing to zero). These use nothing but integers, and sums of float64 that
are exact or rounded to nearest even far away from any denormal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.base import Bits
from modelstore.numeric import DType

SIGN = np.int64(-(1 << 63))
INFINITY = np.int64(0x7FF << 52)


class Precision(NamedTuple):
    """What numbers a float of 64 bits or fewer can be.

    Attributes:
        mantissa: stored bits.
        lowest, highest: exponents of its smallest and largest normal numbers, as in 2.0**lowest.
        top: place of its sign.
    """

    mantissa: np.int64
    lowest: np.int64
    highest: np.int64
    top: np.int64


def precision_of(dtype: DType) -> Precision:
    """Return what numbers a signed IEEE-like float (F16, BF16, F32) can be."""
    bias = (1 << (dtype.exponent - 1)) - 1
    top = 8 * dtype.width - 1
    return Precision(np.int64(dtype.mantissa), np.int64(1 - bias), np.int64(bias), np.int64(top))


def to_float64(bits: Bits, dtype: DType) -> NDArray[np.float64]:
    """Return the values of ``bits``, exactly; signed floats of at most 32 bits, any shape."""
    return widened(bits, precision_of(dtype))


def widened(bits: Bits, precision: Precision) -> NDArray[np.float64]:
    """Return the floats of this precision that ``bits`` are."""
    mantissa, lowest, highest, top = precision
    whole = bits.astype(np.int64)
    sign = whole >> top << 63
    rest = whole & ((np.int64(1) << top) - 1)
    field = rest >> mantissa
    # A float64 of this size counts in the smallest steps of the precision.
    unit = (1075 + lowest - mantissa) << np.int64(52)
    with np.errstate(invalid="ignore"):  # of what is not small
        small = ((rest | unit).view(np.float64) - unit.view(np.float64)).view(np.int64)
    normal = (rest << (52 - mantissa)) + ((1022 + lowest) << np.int64(52))
    special = INFINITY | rest << (52 - mantissa)
    magnitude = np.where(field == 0, small, np.where(field > highest - lowest + 1, special, normal))
    values: NDArray[np.float64] = (magnitude | sign).view(np.float64)
    return values


def rounded(values: NDArray[np.float64], precision: Precision) -> NDArray[np.float64]:
    """Return the nearest floats of this precision, ties to even; NaN and infinities stay."""
    mantissa, lowest, highest, _ = precision
    bits = values.view(np.int64)
    exponent = (bits >> 52) & 0x7FF
    place = np.minimum(np.maximum(exponent, lowest + 1023), 1600) + 52 - mantissa
    # Adding one and a half times a power of two leaves no room for what is to be rounded away.
    large = (place << 52 | np.int64(1) << 51).view(np.float64)
    with np.errstate(invalid="ignore"):  # of NaNs, which stay
        near = ((values + large) - large).view(np.int64) | (bits & SIGN)
    near = np.where((near & ~SIGN) >> 52 > highest + 1023, (bits & SIGN) | INFINITY, near)
    return np.where(exponent == 0x7FF, bits, near).view(np.float64)


def narrowed(values: NDArray[np.float64], precision: Precision) -> Bits:
    """Return the bits of `rounded` values that are no NaN, as 64-bit integers."""
    mantissa, lowest, highest, top = precision
    bits = values.view(np.int64)
    magnitude = bits & ~SIGN
    unit = (1075 + lowest - mantissa) << np.int64(52)
    with np.errstate(invalid="ignore"):
        small = (magnitude.view(np.float64) + unit.view(np.float64)).view(np.int64) - unit
    normal = (magnitude >> (52 - mantissa)) - ((1022 + lowest) << mantissa)
    infinite = (highest - lowest + 2) << mantissa
    found = np.where(magnitude >> 52 < lowest + 1023, small, normal)
    found = np.where(magnitude == INFINITY, infinite, found)
    signed: Bits = found | (bits < 0).astype(np.int64) << top
    return signed
