"""Tensors of torch from the bytes of the store: exactly the dtypes that were saved, nothing copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelstore.formats.base import Tensor
from modelstore.numeric import item_size

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "C128": "complex128",
}  # fmt: skip
"""What torch calls the kinds of `modelstore.numeric`."""


class TorchTensors:
    """Makes tensors of torch; packed kinds become one dimension of uint8."""

    def flat(self, data: Any, dtype: str) -> torch.Tensor:
        """Return the little-endian values in ``data``, which is writable, as one dimension."""
        import torch

        kind = getattr(torch, TORCH_NAMES.get(dtype, "uint8"))
        if not len(data):  # frombuffer takes no empty buffer
            return torch.empty(0, dtype=kind)
        return torch.frombuffer(data, dtype=kind)

    def shaped(self, flat: torch.Tensor, tensor: Tensor) -> torch.Tensor:
        """Return ``flat`` as ``tensor`` lies in it; a strided one is a view."""
        if tensor.view is not None:
            return flat.as_strided(tensor.shape, tensor.view.strides, tensor.view.offset)
        return flat.view(tensor.shape) if item_size(tensor.dtype) else flat
