"""The methods of training: how a model is loaded for each, and which of its weights are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from modelstore.errors import StoreError, UsageError
from modelstore.training.base import Base
from modelstore.training.options import TrainOptions

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, PreTrainedModel


_HALF_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2", "arm_bf16", "bf16")
"""Names of capabilities with which a processor multiplies bfloat16 itself."""


def check(options: TrainOptions, device: str) -> None:
    """Raise unless the method works here.

    Raises:
        UsageError: adapters on a base in four bits need a GPU.
        StoreError: and a package that is not installed.
    """
    if options.method != "qlora":
        return
    if device != "cuda":
        raise UsageError(
            "qlora holds the base in four bits, which only a GPU computes with",
            "train adapters on the base as it is: --method lora",
        )
    if find_spec("bitsandbytes") is None:
        raise StoreError(
            "qlora needs a package that is not installed: bitsandbytes",
            "pip install bitsandbytes, or: --method lora",
        )


def computes_in_half(source: Base, options: TrainOptions, device: str) -> bool:
    """Tell whether products are computed in bfloat16 on ``device``, "cpu" or "cuda"."""
    import torch

    if options.compute != "auto":
        return options.compute == "bfloat16"
    if not {"BF16", "F16"} & set(source.dtypes.values()):
        return False
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # an older torch does not tell, and float32 is never far from the fastest
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name) for name in _HALF_INSTRUCTIONS)


def load(source: Base, options: TrainOptions, *, half: bool) -> PreTrainedModel:
    """Return the model with the weights that the method trains open to gradients.

    It is loaded in float32, which loses nothing; weights under adapters may stay in the one dtype
    that they have. Adapters are put on by the trainer, see `adapters`.

    Args:
        half: whether products are computed in bfloat16.

    Raises:
        UsageError: transformers cannot load it, a tensor is missing, or it has fewer layers.
    """
    from transformers import AutoModelForCausalLM

    frozen = half and options.adapts and len(set(source.dtypes.values())) == 1
    with explained(source):
        model, report = AutoModelForCausalLM.from_pretrained(
            source.directory,
            dtype="auto" if frozen else "float32",
            local_files_only=True,
            output_loading_info=True,
            **({"quantization_config": _four_bits()} if options.method == "qlora" else {}),
        )
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would go on with random values
        raise UsageError(f"'{source.directory}' lacks the tensor {missing[0]!r}")
    if options.last_layers is not None:
        _freeze_but_last(model, options.last_layers)
    return model


def adapters(options: TrainOptions) -> LoraConfig | None:
    """Return the adapters that the method trains, or None."""
    if not options.adapts:
        return None
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules="all-linear",
    )


def _four_bits() -> BitsAndBytesConfig:
    """Return the way QLoRA holds a base: arXiv:2305.14314, sections 3 and 4."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _freeze_but_last(model: PreTrainedModel, count: int) -> None:
    layers = _layers(model)
    if count > len(layers):
        raise UsageError(
            f"the base has {len(layers)} layers, and the last {count} are to be trained",
            "train all of them: --method full",
        )
    model.requires_grad_(False)
    for layer in layers[-count:]:
        layer.requires_grad_(True)


def _layers(model: PreTrainedModel) -> Any:
    """Return the list of the model's layers, of which its configuration knows how many they are."""
    from torch.nn import ModuleList

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return list(module)
    raise UsageError(
        f"mstore does not know the layers of a {type(model).__name__}",
        "train with --method lora, or --method full",
    )


@contextmanager
def explained(source: Base) -> Iterator[None]:
    """Say of which directory it is that transformers complains."""
    try:
        yield
    except (ImportError, KeyError, OSError, RuntimeError, ValueError) as error:
        if _is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[:1]
        raise UsageError(
            f"transformers cannot load '{source.directory}': {' '.join(reason)}",
            "name a directory that it can load: --base DIR",
        ) from error


# --- memory


@contextmanager
def within_memory(options: TrainOptions) -> Iterator[None]:
    """Say what to make smaller where memory does not suffice.

    Raises:
        StoreError: it did not, with the next smaller setting as its hint.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise StoreError(
            "the training needs more memory than there is", f"train with {smaller(options)}"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def smaller(options: TrainOptions) -> str:
    """Return the flags that make a run need less memory, and change its result the least."""
    if options.batch_size > 1:
        half = options.batch_size // 2
        # the samples of an optimizer step stay as many as they were, or become one more
        times = -(-options.batch_size // half)
        return (
            f"--batch-size {half} --gradient-accumulation {times * options.gradient_accumulation}"
        )
    if not options.adapts:
        return "--method lora"
    if options.max_length > 64:
        return f"--max-length {options.max_length // 2}"
    return "a smaller base"
