"""What stored bits are worth: tensors as arrays of numpy, exactly.

numpy knows no bfloat16 and no 8-bit floats. Every value of these is also a float32, so they become
that, without rounding. Packed kinds (GGUF blocks, 4-bit floats) stay bytes.
The 8-bit kinds are those of "FP8 Formats for Deep Learning" (Micikevicius et al., 2022), of the OCP
Microscaling specification 1.0 (E8M0), and of ONNX's "Float stored in 8 bits" (FNUZ).
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from modelstore.errors import IntegrityError
from modelstore.formats.base import Tensor
from modelstore.hashing import Bytes
from modelstore.numeric import DType, dtype_named, item_size

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

_NATIVE = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "C64": "<c8", "C128": "<c16",
}  # fmt: skip
"""The kinds that numpy has, as it spells them."""


def is_number(dtype: str) -> bool:
    """Tell whether values of this kind can be computed with; packed ones are only bytes."""
    return item_size(dtype) > 0


class NumpyArrays:
    """Makes arrays of numpy from the bytes of tensors.

    BF16 and the 8-bit floats become float32, exactly; or, if ``raw``, unsigned integers with their
    bits. Packed kinds become one dimension of uint8. All else keeps its dtype, and its memory.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw

    def flat(self, data: Bytes, dtype: str) -> Array:
        """Return the little-endian values in ``data`` as one dimension."""
        import numpy as np

        kind = _NATIVE.get(dtype)
        if kind is not None:
            return np.frombuffer(data, dtype=kind)
        bits = np.frombuffer(data, dtype=f"<u{dtype_named(dtype).width}")
        return bits if self._raw or not is_number(dtype) else _widened(bits, dtype)

    def shaped(self, flat: Array, tensor: Tensor) -> Array:
        """Return ``flat`` as ``tensor`` lies in it; a strided one is a view."""
        import numpy as np

        if tensor.view is None:
            return flat.reshape(tensor.shape) if is_number(tensor.dtype) else flat
        strides = tuple(stride * flat.itemsize for stride in tensor.view.strides)
        start = flat[tensor.view.offset :]
        return np.lib.stride_tricks.as_strided(start, tensor.shape, strides)


def as_wide(data: Bytes, dtype: str) -> Array:
    """Return the values in ``data`` as float64, or complex128, to compute with.

    Integers beyond 2**53 are rounded to the nearest float64.
    """
    import numpy as np

    values = NumpyArrays().flat(data, dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN is said to be invalid, and becomes one
        return values.astype("c16" if values.dtype.kind == "c" else "f8")


def check_fit(tensor: Tensor, size: int) -> None:
    """Raise unless ``tensor`` lies within a span of ``size`` bytes.

    Whoever wrote a manifest may have lied; memory beyond the span must not become values.

    Raises:
        IntegrityError: it does not.
    """
    width = item_size(tensor.dtype)
    if not width:
        return
    if tensor.view is None:
        fits = math.prod(tensor.shape) * width == size
    elif 0 in tensor.shape:
        fits = len(tensor.shape) == len(tensor.view.strides)
    else:
        steps = zip(tensor.shape, tensor.view.strides, strict=False)
        last = tensor.view.offset + sum((count - 1) * stride for count, stride in steps)
        fits = len(tensor.shape) == len(tensor.view.strides) and (last + 1) * width <= size
    if not fits:
        raise IntegrityError(
            f"tensor {tensor.name!r} is said to lie where its file has no such bytes",
            "run: mstore fsck --full",
        )


def _widened(bits: NDArray[np.unsignedinteger[Any]], dtype: str) -> NDArray[np.float32]:
    """Return values of a kind that numpy lacks as float32."""
    import numpy as np

    if dtype == "BF16":  # the upper half of a float32
        shifted: NDArray[np.uint32] = np.left_shift(bits, 16, dtype=np.uint32)
        return shifted.view(np.float32)
    table: NDArray[np.float32] = np.array(_table(dtype), dtype=np.float32)
    widened: NDArray[np.float32] = table[bits]
    return widened


@cache
def _table(dtype: str) -> tuple[float, ...]:
    """Return the value of each of the 256 bytes."""
    kind = dtype_named(dtype)
    return tuple(_scale(byte) if dtype == "F8_E8M0" else _small(byte, kind) for byte in range(256))


def _scale(byte: int) -> float:
    """Return a power of two: E8M0 has no sign, no zero and no infinity."""
    return math.nan if byte == 0xFF else math.ldexp(1.0, byte - 127)


def _small(byte: int, kind: DType) -> float:
    """Return the value of a byte with sign, exponent and mantissa."""
    special = _special(byte, kind)
    if special is not None:
        return special
    wide = kind.name.endswith("FNUZ")  # their bias is one more, for zero has no negative twin
    bias = (1 << (kind.exponent - 1)) - (0 if wide else 1)
    exponent = byte >> kind.mantissa & (1 << kind.exponent) - 1
    mantissa = byte & (1 << kind.mantissa) - 1
    if exponent:
        mantissa |= 1 << kind.mantissa
    size = math.ldexp(mantissa, max(exponent, 1) - bias - kind.mantissa)
    return -size if byte & 0x80 else size


def _special(byte: int, kind: DType) -> float | None:
    """Return the value of a byte that stands for infinity or for no number, else None."""
    if kind.name.endswith("FNUZ"):
        return math.nan if byte == 0x80 else None
    if kind.name == "F8_E4M3":  # finite: only the very last code of each sign is special
        return math.nan if byte & 0x7F == 0x7F else None
    if byte & 0x7C != 0x7C:
        return None
    if byte & 0x03:
        return math.nan
    return -math.inf if byte & 0x80 else math.inf
