"""Where the fields of a number lie: exponent, mantissa and sign.

An integer counts as a number without exponent whose mantissa and sign are the whole value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelstore.codecs.base import PayloadError, Planes
from modelstore.numeric import DType


@dataclass(frozen=True, slots=True)
class Layout:
    """The bits of one kind of number, from the top: sign, exponent, mantissa.

    Attributes:
        width: bytes.
        exponent: bits of exponent.
        mantissa: bits of mantissa.
        sign: 1 where the top bit belongs to the mantissa, else 0.
        ordered: whether the value order of the numbers is that of sign and magnitude.
    """

    width: int
    exponent: int
    mantissa: int
    sign: int
    ordered: bool

    @property
    def exponent_planes(self) -> int:
        """How many byte planes the exponents take."""
        return (self.exponent + 7) // 8

    @property
    def plane_count(self) -> int:
        """How many byte planes the numbers take: exponents, then mantissas with their signs."""
        return self.exponent_planes + (self.mantissa + self.sign + 7) // 8

    @property
    def context_bits(self) -> int:
        """How many low bits of the exponent tell how far an optimizer moves a number."""
        return min(8, self.exponent)


def layout_of(dtype: DType) -> Layout:
    """Return where the fields of this dtype lie."""
    if not dtype.is_float:
        return Layout(dtype.width, 0, 8 * dtype.width - 1, 1, ordered=False)
    return Layout(dtype.width, dtype.exponent, dtype.mantissa, int(dtype.signed), dtype.signed)


def require_fitting(planes: Planes, layout: Layout) -> None:
    """Check that no field in ``planes`` is larger than its bits allow.

    Raises:
        PayloadError: one is.
    """
    high = layout.exponent_planes
    for fields, bits in (
        (planes[:high], layout.exponent),
        (planes[high:], layout.mantissa + layout.sign),
    ):
        if bits % 8 and int(np.max(fields[-1])) >> bits % 8:
            raise PayloadError(f"a field of {bits} bits holds a larger number")
