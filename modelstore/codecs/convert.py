"""Floats of one kind as floats of another, by exact work on their bits.

So a base may have other numbers than what is built on it: the bf16 model that was trained on in
fp32, or the other way round. What comes out is the same on every machine, as no float is ever
computed with. `docs/format.md` specifies it, section "Other dtypes".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelstore.codecs.base import Bits
from modelstore.numeric import DType, dtype_named

_PIECE = 1 << 15
"""Values converted at once: a dozen passes over what stays in the cache."""

_PATTERNS: Bits = np.arange(1 << 8, dtype=np.uint8)
"""Every value of one byte."""


@dataclass(frozen=True, slots=True)
class _Float:
    """A kind of float: a sign, ``exponent`` bits biased by half their range, ``mantissa`` bits.

    Attributes:
        infinite: whether its largest exponent is kept for infinity and NaN; else only the
            mantissa of all ones is a NaN there, and the others are numbers.
    """

    dtype: DType
    infinite: bool = True

    @property
    def mantissa(self) -> int:
        return self.dtype.mantissa

    @property
    def bias(self) -> int:
        return (1 << (self.dtype.exponent - 1)) - 1

    @property
    def top(self) -> int:
        """The place of the sign."""
        return 8 * self.dtype.width - 1

    @property
    def ones(self) -> int:
        """The exponent of all ones, in its place."""
        return ((1 << self.dtype.exponent) - 1) << self.mantissa

    @property
    def special(self) -> int:
        """The smallest magnitude that is no number."""
        return self.ones if self.infinite else self.ones | ((1 << self.mantissa) - 1)

    @property
    def largest(self) -> int:
        """The magnitude of what is too large: infinity, or the largest number without one."""
        return self.ones if self.infinite else self.ones | ((1 << self.mantissa) - 2)


_FLOATS = {
    found.dtype: found
    for found in (
        _Float(dtype_named("F8_E4M3"), infinite=False),
        _Float(dtype_named("F8_E5M2")),
        _Float(dtype_named("F16")),
        _Float(dtype_named("BF16")),
        _Float(dtype_named("F32")),
        _Float(dtype_named("F64")),
    )
}
_MIDDLE = _FLOATS[dtype_named("F32")]
"""Holds every number of the smaller kinds, so two ways lead from any kind to any other."""


def is_convertible(source: DType, target: DType) -> bool:
    """Tell whether `convert` takes numbers of ``source`` to ``target``."""
    return source in _FLOATS and target in _FLOATS


def convert(values: Bits, source: DType, target: DType) -> Bits:
    """Return ``values``, numbers of ``source``, as the nearest numbers of ``target``.

    Of two that are equally near the even one is taken. What is too large becomes infinity, or the
    largest number where there is none. A NaN keeps its sign and the upper bits of its mantissa,
    and stays one.

    Args:
        values: shape (values,), unsigned integers of the width of ``source``.
        source, target: a pair that `is_convertible`.

    Returns:
        shape (values,), unsigned integers of the width of ``target``.
    """
    if source is target:
        return values
    if source.width == 1 and values.size > _PATTERNS.size:
        converted: Bits = _convert(_PATTERNS, _FLOATS[source], _FLOATS[target])[values]
        return converted
    converted = np.empty(values.size, f"<u{target.width}")
    for start in range(0, values.size, _PIECE):
        piece = values[start : start + _PIECE]
        converted[start : start + _PIECE] = _convert(piece, _FLOATS[source], _FLOATS[target])
    return converted


def _convert(values: Bits, source: _Float, target: _Float) -> Bits:
    if source.dtype.width < _MIDDLE.dtype.width:
        values, source = _widen(values, source, _MIDDLE), _MIDDLE
    if target is source:
        return values
    if target.dtype.width > source.dtype.width:
        return _widen(values, source, target)
    return _narrow(values, source, target)


def _widen(values: Bits, source: _Float, target: _Float) -> Bits:
    """Return numbers that ``target`` can hold exactly."""
    wide = values.astype(f"<u{target.dtype.width}")
    signs = (wide >> source.top) << target.top
    wide &= (1 << source.top) - 1
    more = target.mantissa - source.mantissa
    result: Bits = wide << more
    if source.bias == target.bias:
        result |= signs
        return result
    result += (target.bias - source.bias) << target.mantissa
    small = wide < 1 << source.mantissa
    if small.any():
        result[small] = _widen_small(wide[small], source, target)
    special = wide >= source.special
    if special.any():
        result[special] = (wide[special] << more) | target.ones
    result |= signs
    return result


def _widen_small(wide: Bits, source: _Float, target: _Float) -> Bits:
    """Return zeros and denormals of ``source``: counts of its smallest step, made normal."""
    exponents = np.full_like(wide, target.bias - source.bias + 1)
    zero = wide == 0
    for step in (32, 16, 8, 4, 2, 1):
        if step <= source.mantissa:
            low = wide < 1 << (source.mantissa + 1 - step)
            wide = np.where(low, wide << step, wide)
            exponents -= low * np.array(step, wide.dtype)
    wide = wide & ((1 << source.mantissa) - 1)
    wide = (wide << (target.mantissa - source.mantissa)) | (exponents << target.mantissa)
    return np.where(zero, np.zeros_like(wide), wide)


def _narrow(values: Bits, source: _Float, target: _Float) -> Bits:
    """Return the nearest numbers of a ``target`` that has fewer bits of mantissa, or of exponent."""
    wide = values & ((1 << source.top) - 1)
    fewer = source.mantissa - target.mantissa
    rebias = (source.bias - target.bias) << source.mantissa
    result = _rounded(wide - rebias, fewer)
    if rebias:
        small = wide < rebias + (1 << source.mantissa)
        if small.any():
            result[small] = _narrow_small(wide[small], source, target)
        np.minimum(result, target.largest, out=result)
    nan = wide > source.ones  # a kind without infinity is narrower than any other
    if nan.any():
        result[nan] = _narrow_nan(wide[nan], fewer, target)
    result |= (values >> source.top) << target.top
    return result.astype(f"<u{target.dtype.width}")


def _rounded(wide: Bits, places: int) -> Bits:
    """Return ``wide`` without its low bits, rounded to the nearest, or the even one of two."""
    result: Bits = wide >> places
    result &= 1
    result += wide
    result += (1 << (places - 1)) - 1
    result >>= places
    return result


def _narrow_small(wide: Bits, source: _Float, target: _Float) -> Bits:
    """Return what is less than the smallest normal number of ``target``, in its smallest steps."""
    exponents = wide >> source.mantissa
    numbers = wide & ((1 << source.mantissa) - 1)
    numbers |= (exponents > 0).astype(wide.dtype) << source.mantissa
    exponents = np.maximum(exponents, 1)
    places = source.mantissa - target.mantissa + source.bias - target.bias + 1 - exponents
    places = np.minimum(places, source.mantissa + 2)  # what is that small becomes zero
    half = np.ones_like(wide) << (places - 1)
    result: Bits = (numbers + (half - 1) + ((numbers >> places) & 1)) >> places
    return result


def _narrow_nan(wide: Bits, fewer: int, target: _Float) -> Bits:
    if not target.infinite:
        return np.full_like(wide, target.largest + 1)
    mantissas = (wide >> fewer) & ((1 << target.mantissa) - 1)
    mantissas[mantissas == 0] = 1 << (target.mantissa - 1)
    return mantissas | target.ones
