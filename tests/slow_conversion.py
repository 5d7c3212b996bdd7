"""The conversion of base values in `docs/format.md`, done slowly, with whole numbers only.

Part of `tests/slow_decoder.py`, whose docstring says why there is such a thing. The section of the
page is "Other dtypes".
"""

from __future__ import annotations

from tests.slow_parts import DTYPES, Dtype

CONVERTIBLE = {10, 11, 13, 14, 15, 16}
E4M3 = DTYPES[10]


def convertible(old: int, new: int) -> bool:
    """Tell whether values of the dtype with code ``old`` can be read as those of ``new``."""
    return old == new or {old, new} <= CONVERTIBLE


def converted(value: int, old: Dtype, new: Dtype) -> int:
    """Return the value of dtype ``new`` that ``value`` of dtype ``old`` becomes."""
    sign = value >> old.bits - 1
    exponent = value >> old.mantissa & ones(old.exponent)
    mantissa = value & ones(old.mantissa)
    special = exponent == ones(old.exponent)
    if special and (mantissa == ones(3) if old == E4M3 else mantissa > 0):
        magnitude = not_a_number(mantissa, old, new)
    elif special and old != E4M3:
        magnitude = beyond(new)
    elif exponent == 0:
        magnitude = nearest(mantissa, lowest(old), new)
    else:
        magnitude = nearest(mantissa + (1 << old.mantissa), exponent - 1 + lowest(old), new)
    return sign << new.bits - 1 | magnitude


def ones(count: int) -> int:
    """Return the number of ``count`` one bits."""
    return (1 << count) - 1


def lowest(dtype: Dtype) -> int:
    """Return the log2 of the smallest number: 1 - bias - *M* of the page."""
    bias = (1 << dtype.exponent - 1) - 1
    return 1 - bias - dtype.mantissa


def beyond(dtype: Dtype) -> int:
    """Return the bits of infinity, or of 448, without the sign."""
    return 0x7E if dtype == E4M3 else ones(dtype.exponent) << dtype.mantissa


def not_a_number(mantissa: int, old: Dtype, new: Dtype) -> int:
    """Return the bits, without the sign, that a NaN with this mantissa becomes."""
    kept = mantissa << new.mantissa >> old.mantissa
    if new == E4M3:
        kept = ones(3)
    return ones(new.exponent) << new.mantissa | (kept or 1 << new.mantissa - 1)


def nearest(number: int, log2: int, dtype: Dtype) -> int:
    """Return the bits, without the sign, of the number nearest to ``number`` 2^``log2``."""
    if number == 0:
        return 0
    top = number.bit_length() - 1 + log2  # 2^top is the highest power of two in it
    step = max(top - dtype.mantissa, lowest(dtype))  # log2 between neighbours there
    return min(
        (step - lowest(dtype) << dtype.mantissa) + rounded(number, log2 - step), beyond(dtype)
    )


def rounded(number: int, log2: int) -> int:
    """Return the whole number nearest to ``number`` 2^``log2``, the even one of two."""
    if log2 >= 0:
        return number << log2
    below, rest = divmod(number, 1 << -log2)
    half = 1 << -log2 - 1
    return below + (rest > half or (rest == half and below % 2 == 1))
