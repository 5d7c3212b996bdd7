"""Fine-tune the model in one directory into another, with trl's SFTTrainer.

What comes out differs from what went in by its weights only: the same tensors, of the same dtypes,
beside the base's own configuration and tokenizer.
Half-precision weights are trained as float32 ("full") or stay frozen under float32 adapters
("lora"), and are rounded at the end; a base saved as bfloat16 is saved as bfloat16 again,
because a float32 save would share no byte with its parent.

The sequence of batches and the adapters' first values follow from the seed: on one machine's CPU
and with the same number of threads, equal seeds give equal bytes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.errors import StoreError, UsageError
from modelstore.training.base import Base, open_base
from modelstore.training.data import Row
from modelstore.training.losses import Losses
from modelstore.training.options import LORA_ALPHA, LORA_RANK, Step, TrainOptions, TrainResult
from modelstore.training.quiet import quiet
from modelstore.training.tokens import Samples, tokenize
from modelstore.training.trained import save, trained_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig, SFTTrainer

_PACKAGES = ("mstore", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def fine_tune(
    base: Path,
    rows: Sequence[Row],
    options: TrainOptions,
    output: Path,
    progress: Callable[[Step], None],
    adapter: Path | None = None,
) -> TrainResult:
    """Train the model in ``base`` on ``rows`` and save the result in ``output``.

    Args:
        base: a directory that transformers can load without running code from it.
        rows: what to learn.
        options: how.
        output: must not exist; holds safetensors, configuration and tokenizer afterwards.
        progress: called after every optimizer step.
        adapter: where a run with adapters leaves them as well, as PEFT saves them; None: nowhere.

    Raises:
        UsageError: the base is incomplete, the rows cannot be put into tokens, or there is no GPU.
        DivergedError: a loss, a gradient or a weight became infinite or not a number.
    """
    source = open_base(base)
    device = resolve_device(options.device)
    disk.make_dir(output.parent)
    disk.make_new_dir(output)
    started = time.monotonic()
    losses = Losses(progress)
    with quiet():
        tokenizer = _load_tokenizer(source)
        samples = tokenize(rows, tokenizer, options.max_length)
        model = _load_model(source, options.method)
        arguments = _arguments(source, options, device, output)
        trainer = _make_trainer(model, tokenizer, samples, arguments, options.method)
        trainer.add_callback(losses.callback())
        with _within_memory():
            trainer.train()
        save(trained_model(trainer, options.method, adapter), source, output)
    metrics = {
        "training_time": round(time.monotonic() - started, 3),
        **losses.metrics(),
        "samples": len(samples.token_ids),
        **_cut(samples),
        "model_size": sum(path.stat().st_size for path in output.glob("*.safetensors")),
    }
    return TrainResult(_parameters(options, device), metrics, _environment(device))


def _cut(samples: Samples) -> dict[str, int]:
    """Return what did not fit, for the record of a run in which something did not."""
    cut = {"samples_truncated": samples.truncated, "samples_dropped": samples.dropped}
    return {name: count for name, count in cut.items() if count}


# --- before


def resolve_device(wanted: str) -> str:
    """Return the device to train on, "cpu" or "cuda".

    Raises:
        UsageError: a GPU is wanted, and torch sees none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch sees no GPU here", "train on the CPU: --device cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _load_tokenizer(source: Base) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with _explained(source):
        tokenizer = AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
    if tokenizer.pad_token is None:
        # what is padded is masked, so that any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _load_model(source: Base, method: str) -> PreTrainedModel:
    """Load in float32, which loses nothing; frozen weights may stay in the one dtype they have."""
    from transformers import AutoModelForCausalLM

    frozen = method == "lora" and len(set(source.dtypes.values())) == 1
    with _explained(source):
        model, report = AutoModelForCausalLM.from_pretrained(
            source.directory,
            dtype="auto" if frozen else "float32",
            local_files_only=True,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would go on with random values
        raise UsageError(f"'{source.directory}' lacks the tensor {missing[0]!r}")
    return model


@contextmanager
def _explained(source: Base) -> Iterator[None]:
    """Say of which directory it is that transformers complains."""
    try:
        yield
    except (ImportError, KeyError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[:1]
        raise UsageError(
            f"transformers cannot load '{source.directory}': {' '.join(reason)}",
            "name a directory that it can load: --base DIR",
        ) from error


# --- the run


def _arguments(source: Base, options: TrainOptions, device: str, output: Path) -> SFTConfig:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(output),
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation,
        learning_rate=options.rate,
        seed=options.seed,
        data_seed=options.seed,
        bf16=_autocasts(source, device),
        use_cpu=device == "cpu",
        gradient_checkpointing=device != "cpu",  # on a CPU memory is plenty and time is not
        dataloader_pin_memory=device != "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show the loss before instead of one that is NaN
        report_to="none",
        disable_tqdm=True,
    )


def _autocasts(source: Base, device: str) -> bool:
    """Tell whether to compute in bfloat16: where the weights have no more digits than that."""
    import torch

    half = bool({"BF16", "F16"} & set(source.dtypes.values()))
    return half and (device == "cpu" or torch.cuda.is_bf16_supported())


def _make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Samples,
    arguments: SFTConfig,
    method: str,
) -> SFTTrainer:
    from datasets import Dataset
    from peft import LoraConfig, TaskType
    from transformers import PrinterCallback
    from trl import SFTTrainer

    adapters = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        target_modules="all-linear",
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {"input_ids": list(samples.token_ids), "labels": list(samples.labels)}
        ),
        processing_class=tokenizer,
        peft_config=adapters if method == "lora" else None,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def _within_memory() -> Iterator[None]:
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise StoreError(
            "the training needs more memory than there is",
            "train with a smaller --batch-size or --max-length, or with --method lora",
        ) from error


# --- after


def _parameters(options: TrainOptions, device: str) -> dict[str, int | float | str]:
    adapters = {"lora_rank": LORA_RANK, "lora_alpha": LORA_ALPHA}
    return {
        "method": options.method,
        "epochs": options.epochs,
        "max_steps": options.max_steps,
        "batch_size": options.batch_size,
        "gradient_accumulation": options.gradient_accumulation,
        "learning_rate": options.rate,
        "max_length": options.max_length,
        "seed": options.seed,
        "device": device,
        **(adapters if options.method == "lora" else {}),
    }


def _environment(device: str) -> dict[str, int | str]:
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    found = {package: _version(package) for package in _PACKAGES}
    return {
        "python": platform.python_version(),
        **{package: text for package, text in found.items() if text},
        "device_name": name,
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
