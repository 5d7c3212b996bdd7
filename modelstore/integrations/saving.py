"""A model that is being trained, as the files of a version, while it stays as it is.

Where adapters are merged or values rounded, that happens to a copy on the CPU: merging and
unmerging in place would round the weights that the training goes on with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore import disk
from modelstore.adapters import read_adapter
from modelstore.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

ADAPTER = "adapter"
"""The directory within a version that holds the adapters which were merged into its weights."""

_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True, slots=True)
class Rounding:
    """The dtypes that weights are saved in.

    Attributes:
        by_name: of single weights, as manifests spell them.
        other: of all others; "" leaves them as they are.
    """

    by_name: Mapping[str, str]
    other: str = ""

    def __bool__(self) -> bool:
        return bool(self.by_name or self.other)

    def of(self, name: str, value: torch.Tensor) -> torch.dtype:
        """Return the dtype for a weight; what is no float keeps its own."""
        import torch

        kind = _FLOATS.get(self.by_name.get(name, self.other))
        return getattr(torch, kind) if kind and value.is_floating_point() else value.dtype


UNROUNDED = Rounding({})


def rounding_to(dtype: str) -> Rounding:
    """Return what rounds every weight to ``dtype``, as torch spells it; "" rounds nothing.

    Raises:
        UsageError: there is no such kind of float.
    """
    by_torch = {spelling: kind for kind, spelling in _FLOATS.items()}
    if dtype and dtype not in by_torch:
        raise UsageError(
            f"{dtype!r} is no dtype to save weights in", f"say one of {', '.join(by_torch)}"
        )
    return Rounding({}, by_torch.get(dtype, ""))


def rounding_like(dtypes: Mapping[str, str]) -> Rounding:
    """Return what rounds weights to those of another version, by name; see `Rounding`."""
    kinds = {kind for kind in dtypes.values() if kind in _FLOATS}
    return Rounding(dtypes, kinds.pop() if len(kinds) == 1 else "")


def is_adapted(model: Module) -> bool:
    """Tell whether ``model`` is one of PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "merge_and_unload")


def is_sharded(model: Module) -> bool:
    """Tell whether this process has only parts of the weights (FSDP, DeepSpeed ZeRO-3)."""
    names = {type(module).__name__ for module in model.modules()}
    if "FullyShardedDataParallel" in names:
        return True
    return any(hasattr(p, "placements") or hasattr(p, "ds_id") for p in model.parameters())


def save(
    model: Module, processing: Any, target: Path, *, merge: bool, rounding: Rounding
) -> Path | None:
    """Write weights, configuration and tokenizer of ``model`` to ``target``, which must not exist.

    Args:
        processing: the tokenizer or processor, or None.
        merge: merge the adapters of PEFT, and keep them in ``target``/adapter.
        rounding: the dtypes to save in.

    Returns:
        The directory of adapters that a commit can follow; None where there is none.
    """
    disk.make_dir(target.parent)
    disk.make_new_dir(target)
    merged = merge and is_adapted(model)
    if merged:
        _save_adapter(model, target / ADAPTER)
    if merged or rounding:
        model = _copied(model)
        model = model.merge_and_unload() if merged else model
        _round(model, rounding)
    _save_weights(model, target)
    if processing is not None:
        processing.save_pretrained(str(target))
    return target / ADAPTER if merged and _can_be_followed(target / ADAPTER) else None


def _save_adapter(model: Any, target: Path) -> None:
    # "auto" would ask the Hub for the size of the base's vocabulary
    model.save_pretrained(str(target), save_embedding_layers=False)
    disk.remove(target / "README.md")  # of PEFT, about nothing in particular


def _can_be_followed(adapter: Path) -> bool:
    try:
        return bool(read_adapter(adapter))
    except (NotFoundError, UsageError):  # no plain LoRA: its merge is stored as any other weights
        return False


def _copied(model: Any) -> Any:
    """Return a copy on the CPU; tied weights stay tied, and no second one is made on a GPU."""
    import torch

    held: dict[int, Any] = {}
    for value in model.parameters():
        data = value.detach().to("cpu", copy=True)
        held[id(value)] = torch.nn.Parameter(data, requires_grad=False)
    for value in model.buffers():
        held[id(value)] = value.detach().to("cpu", copy=True)
    return copy.deepcopy(model, held)


def _round(model: Module, rounding: Rounding) -> None:
    for name, weight in model.named_parameters():
        weight.data = weight.data.to(rounding.of(name, weight))


def _save_weights(model: Any, target: Path) -> None:
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(str(target))
        return
    from safetensors.torch import save_model

    save_model(model, str(target / "model.safetensors"))
