"""What a run leaves: the trained weights as files, and the adapters that were merged into them.

Whatever the run computed in, tensors get the dtypes that they have in the base.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.training.base import Base
from modelstore.training.losses import diverged

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel
    from trl import SFTTrainer


def trained_model(trainer: SFTTrainer, method: str, adapter: Path | None) -> PreTrainedModel:
    """Return the model that was trained, with its adapters merged.

    Args:
        adapter: where adapters are saved before that; None: nowhere.

    Raises:
        DivergedError: a weight is infinite or not a number.
    """
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model)
    if method == "lora":
        model = _merged(model, adapter)
    for name, weight in model.named_parameters():
        # the last step changed the weights after its loss was seen
        if not torch.isfinite(weight).all():
            raise diverged(f"the weight '{name}' is not finite after the last step")
    return model


def _merged(model: PeftModel, adapter: Path | None) -> PreTrainedModel:
    """Return the model with its adapters merged, after saving them in ``adapter``."""
    model = model.to("cpu")  # where the same adapters always make the same weights
    if adapter is not None:
        # "auto" would ask the Hub for the size of the base's vocabulary
        model.save_pretrained(str(adapter), save_embedding_layers=False)
    return model.merge_and_unload()


def save(model: PreTrainedModel, source: Base, output: Path) -> None:
    """Write the weights in the base's dtypes, and beside them the base's other files."""
    import torch

    by_name = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            wanted = by_name.get(source.dtype_of(name))
            if wanted is not None:
                weight.data = weight.data.to("cpu", wanted)
    scratch = output / "save"
    model.save_pretrained(scratch)
    for path in source.carried:
        disk.copy_new(path, output / path.name)
    readable = (output / "config.json").stat().st_mode  # as the umask has it; safetensors says 0600
    for path in sorted(scratch.glob("*.safetensors*")):
        disk.set_mode(path, readable)
        disk.rename(path, output / path.name)
    disk.remove_tree(scratch)
