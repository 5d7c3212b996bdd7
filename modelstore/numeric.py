"""The kinds of numbers that tensors hold, and how numpy sees their bits.

A codec never does arithmetic on floats: it sees every value as an unsigned integer of the same
width, and needs to know only where the exponent lies.
The names are those of safetensors, which every other format is mapped to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelstore.hashing import Bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DType:
    """One kind of number.

    Attributes:
        code: its number in a frame header; part of the disk format, append-only.
        name: as safetensors spells it.
        width: bytes per value: 1, 2, 4 or 8.
        exponent: bits of exponent; 0 for integers and for bytes without further meaning.
        mantissa: stored bits of mantissa; 0 for integers.
        signed: whether the top bit is a sign.
    """

    code: int
    name: str
    width: int
    exponent: int = 0
    mantissa: int = 0
    signed: bool = True

    @property
    def is_float(self) -> bool:
        """Whether values have an exponent."""
        return self.exponent > 0


BYTES = DType(0, "", 1, signed=False)
"""Literal bytes, and packed values (GGUF blocks, 4-bit floats) that are not one number a byte."""

DTYPES: tuple[DType, ...] = (
    BYTES,
    DType(1, "BOOL", 1, signed=False),
    DType(2, "U8", 1, signed=False),
    DType(3, "I8", 1),
    DType(4, "U16", 2, signed=False),
    DType(5, "I16", 2),
    DType(6, "U32", 4, signed=False),
    DType(7, "I32", 4),
    DType(8, "U64", 8, signed=False),
    DType(9, "I64", 8),
    DType(10, "F8_E4M3", 1, exponent=4, mantissa=3),
    DType(11, "F8_E5M2", 1, exponent=5, mantissa=2),
    DType(12, "F8_E8M0", 1, exponent=8, mantissa=0, signed=False),
    DType(13, "F16", 2, exponent=5, mantissa=10),
    DType(14, "BF16", 2, exponent=8, mantissa=7),
    DType(15, "F32", 4, exponent=8, mantissa=23),
    DType(16, "F64", 8, exponent=11, mantissa=52),
    DType(17, "C64", 4, exponent=8, mantissa=23),
    DType(18, "C128", 8, exponent=11, mantissa=52),
    DType(19, "F8_E4M3FNUZ", 1, exponent=4, mantissa=3),
    DType(20, "F8_E5M2FNUZ", 1, exponent=5, mantissa=2),
)
"""Every kind, at the index of its code.

A complex value is two floats, so its width here is that of one of them.
"""

_BY_NAME = {dtype.name: dtype for dtype in DTYPES}


def dtype_named(name: str) -> DType:
    """Return the kind called ``name``, or `BYTES` for one that has no single-value width (Q4_K, F4)."""
    return _BY_NAME.get(name, BYTES)


def dtype_of_code(code: int) -> DType | None:
    """Return the kind with this code in a frame header, None where there is none."""
    return DTYPES[code] if 0 <= code < len(DTYPES) else None


_COMPLEX = {"C64": 8, "C128": 16}


def item_size(name: str) -> int:
    """Return the bytes of one value of a tensor of this dtype as formats count them, 0 if unknown.

    Differs from `DType.width` only for complex numbers.
    """
    dtype = _BY_NAME.get(name, BYTES)
    return 0 if dtype is BYTES else _COMPLEX.get(name, dtype.width)


def as_bits(data: Bytes, dtype: DType) -> NDArray[np.unsignedinteger[Any]]:
    """Return ``data``, little-endian values of ``dtype``, as unsigned integers; nothing is copied.

    Args:
        data: a whole number of values.
        dtype: tells their width.
    """
    import numpy as np  # loaded late: `mstore log` reads headers and needs no numbers

    return np.frombuffer(data, dtype=f"<u{dtype.width}")
