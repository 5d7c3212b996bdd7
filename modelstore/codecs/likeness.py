"""How alike two tensors are, told from a few of their values.

Coding a sample tells it better and costs a hundred times more. Of a tensor and what it was trained
from nearly all values have the same sign and exponent; of two unrelated ones less than a quarter.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.base import Bits
from modelstore.codecs.convert import convert, is_convertible
from modelstore.hashing import Bytes
from modelstore.numeric import DType, as_bits, dtype_named

_VALUES = 1 << 12
_F32 = dtype_named("F32")


def sketched_range(count: int) -> tuple[int, int]:
    """Return which values ``[start, stop)`` are looked at, of the first ``count`` of a tensor."""
    start = max(0, count - _VALUES) // 2
    return start, min(count, start + _VALUES)


def sketch(raw: Bytes, dtype: DType) -> Bits:
    """Return what matters of some values: of floats the signs and exponents, of integers all.

    Returns:
        shape (values,); floats of all kinds in one form.
    """
    values: Bits = as_bits(raw, dtype)
    if is_convertible(dtype, _F32):
        values, dtype = convert(values, dtype, _F32), _F32
    return (values >> dtype.mantissa).astype(np.uint16) if dtype.is_float else values


def likeness(one: Bits, other: Bits) -> float:
    """Return the share of values that are alike; 0 for sketches of different lengths."""
    return float(np.mean(one == other)) if one.size == other.size and one.size else 0.0
