"""Fine-tune the model in one directory into another, with trl's SFTTrainer.

What comes out differs from what went in by its weights only: the same tensors, of the same dtypes,
beside the base's own configuration and tokenizer.
Half-precision weights are trained as float32 ("full", "last-N") or stay frozen under float32
adapters ("lora"), and are rounded at the end; a base saved as bfloat16 is saved as bfloat16 again,
because a float32 save would share no byte with its parent.

The sequence of batches and the adapters' first values follow from the seed: on one machine's CPU
and with the same number of threads, equal seeds give equal bytes, also where a run was interrupted
and continued from a checkpoint.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.errors import StoppedError, UsageError
from modelstore.training import methods
from modelstore.training.base import Base, open_base
from modelstore.training.losses import NOTHING, Losses
from modelstore.training.options import Step, TrainOptions, TrainResult
from modelstore.training.quiet import quiet
from modelstore.training.rows import Row
from modelstore.training.tokens import Samples, tokenize
from modelstore.training.trained import save, trained_model, weight_files
from modelstore.training.watch import Keeping, Watch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig, SFTTrainer

_PACKAGES = ("mstore", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")

PATIENCE = 24 * 3600
"""Seconds that processes wait for the first of them, which may be storing a checkpoint."""


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to do.

    Attributes:
        base: a directory that transformers can load without running code from it.
        rows: what to learn.
        evaluation: rows to evaluate on; may be none.
        options: how.
        output: must not exist; holds weights, configuration and tokenizer afterwards.
        adapter: where a run with adapters leaves them as well, as PEFT saves them; None: nowhere.
        base_name: what the adapter says that it was trained on.
        processes: that train together, this one included.
    """

    base: Path
    rows: Sequence[Row]
    options: TrainOptions
    output: Path
    adapter: Path | None = None
    evaluation: Sequence[Row] = ()
    base_name: str = ""
    processes: int = 1


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a task comes to, once it was looked at.

    Attributes:
        source: the base.
        device: "cpu" or "cuda".
        half: whether products are computed in bfloat16.
        tokenizer: the base's.
        learned: what the model learns.
        shown: what it is evaluated on, or None.
    """

    source: Base
    device: str
    half: bool
    tokenizer: PreTrainedTokenizerBase
    learned: Samples
    shown: Samples | None


def fine_tune(
    base: Path,
    rows: Sequence[Row],
    options: TrainOptions,
    output: Path,
    progress: Callable[[Step], None],
    adapter: Path | None = None,
) -> TrainResult:
    """Train the model in ``base`` on ``rows`` and save the result in ``output``.

    See `Task` for the arguments, and `carry_out` for the errors; nothing is kept on the way.

    Args:
        progress: called after every optimizer step.
    """
    return carry_out(Task(base, rows, options, output, adapter), progress)


def carry_out(
    task: Task, progress: Callable[[Step], None], keeping: Keeping | None = None
) -> TrainResult:
    """Train, and save the result; in a group of processes the first of them saves it.

    Args:
        progress: called after every optimizer step.
        keeping: how the run is kept, so that it can be continued; None: it is not.

    Raises:
        DivergedError: a loss, a gradient or a weight became infinite or not a number, or the loss
            only grew.
        StoppedError: the run was asked to stop; its checkpoint is saved.
        StoreError: memory does not suffice, or the method needs a package.
        UsageError: the base is incomplete, the rows cannot be put into tokens, or there is no GPU.
    """
    source = open_base(task.base)
    device = resolve_device(task.options.device)
    methods.check(task.options, device)
    past = keeping.past if keeping else NOTHING
    began, computed = time.monotonic(), time.process_time()
    losses = Losses(progress, past)
    with quiet():
        inputs = _inputs(task, source, device)
        with methods.within_memory(task.options):
            trainer = _trained(task, inputs, losses, keeping)
        if trainer.is_world_process_zero():
            _save(task, trainer, source)
    earlier = past.steps[-1].seconds if past.steps else 0.0
    metrics = {
        "training_time": round(earlier + time.monotonic() - began, 3),
        "cpu_time": round(past.cpu + time.process_time() - computed, 3),
        **losses.metrics(),
        **_counts(inputs),
        "model_size": sum(path.stat().st_size for path in _weights_in(task.output)),
    }
    return TrainResult(_parameters(task, inputs), metrics, _environment(device), losses.curve)


def _inputs(task: Task, source: Base, device: str) -> _Inputs:
    tokenizer = _load_tokenizer(source)
    length = task.options.max_length
    learned = tokenize(task.rows, tokenizer, length)
    shown = tokenize(task.evaluation, tokenizer, length) if task.evaluation else None
    half = methods.computes_in_half(source, task.options, device)
    return _Inputs(source, device, half, tokenizer, learned, shown)


def _save(task: Task, trainer: SFTTrainer, source: Base) -> None:
    disk.make_dir(task.output)
    model = trained_model(trainer, task.options.method, task.adapter, source, task.base_name)
    save(model, source, task.output, task.options.weights_format)


def _weights_in(output: Path) -> list[Path]:
    return weight_files(output) if output.is_dir() else []  # only the first process saves


def _counts(inputs: _Inputs) -> dict[str, int]:
    """Return how many samples there were, and what did not fit where something did not."""
    learned, shown = inputs.learned, inputs.shown
    cut = {"samples_truncated": learned.truncated, "samples_dropped": learned.dropped}
    return {
        "samples": len(learned.ids),
        **({} if shown is None else {"eval_samples": len(shown.ids)}),
        **{name: count for name, count in cut.items() if count},
    }


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

    with methods.explained(source):
        tokenizer = AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
    if tokenizer.pad_token is None:
        # what is padded is masked, so that any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


# --- the run


def _trained(task: Task, inputs: _Inputs, losses: Losses, keeping: Keeping | None) -> SFTTrainer:
    """Return the trainer after its training."""
    model = methods.load(inputs.source, task.options, half=inputs.half)
    evaluates = inputs.shown is not None
    arguments = _arguments(
        task, inputs, keeping.work if keeping else task.output, measures=losses.before is None
    )
    trainer = _make_trainer(model, inputs, arguments, task.options)
    watch = Watch(losses, task.options, evaluates=evaluates, keeping=keeping)
    trainer.add_callback(watch.callback())
    if keeping is not None:
        keeping.need(checkpoint_size(trainer.model))
    resumed = keeping.resume_from if keeping else None
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if watch.stopped:
        raise StoppedError("the training was stopped; what it did so far is kept")
    return trainer


def checkpoint_size(model: PreTrainedModel) -> int:
    """Return the bytes of a checkpoint: the weights that are saved, and two moments of AdamW."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    saved = trained if hasattr(model, "peft_config") else list(model.parameters())
    return sum(int(weight.nbytes) for weight in (*saved, *trained, *trained))


def _arguments(task: Task, inputs: _Inputs, work: Path, *, measures: bool) -> SFTConfig:
    """Return what the trainer is told.

    Args:
        work: where it may write.
        measures: whether the base is evaluated first, if there is anything to evaluate it on.
    """
    from trl import SFTConfig

    options, device = task.options, inputs.device
    again = options.activation_checkpointing
    # on a CPU memory is plenty and time is not
    again = device != "cpu" if again is None else again
    return SFTConfig(
        output_dir=str(work),
        num_train_epochs=options.epochs,
        # the trainer's own count of steps ends a run, but it also makes one longer
        max_steps=options.steps(len(inputs.learned.ids), task.processes),
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation,
        learning_rate=options.rate,
        warmup_steps=options.warmup,  # below 1 it is a share of all steps
        seed=options.seed,
        data_seed=options.seed,
        bf16=inputs.half,
        use_cpu=device == "cpu",
        gradient_checkpointing=again,
        gradient_checkpointing_kwargs={"use_reentrant": False} if again else None,
        dataloader_pin_memory=device != "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        ddp_backend="gloo" if task.processes > 1 and device == "cpu" else None,
        ddp_timeout=PATIENCE,
        prediction_loss_only=True,
        eval_on_start=measures and inputs.shown is not None,
        eval_strategy="no",  # `Watch` says when
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show the loss before instead of one that is NaN
        report_to="none",
        disable_tqdm=True,
    )


def _make_trainer(
    model: PreTrainedModel, inputs: _Inputs, arguments: SFTConfig, options: TrainOptions
) -> SFTTrainer:
    from transformers import PrinterCallback
    from trl import SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=inputs.learned.dataset(),
        eval_dataset=None if inputs.shown is None else inputs.shown.dataset(),
        processing_class=inputs.tokenizer,
        peft_config=methods.adapters(options),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


# --- after


def _parameters(task: Task, inputs: _Inputs) -> dict[str, int | float | str]:
    options, together = task.options, task.processes
    adapters = {"lora_rank": options.lora_rank, "lora_alpha": options.lora_alpha}
    return {
        "method": options.method,
        "epochs": options.epochs,
        "max_steps": options.max_steps,
        "batch_size": options.batch_size,
        "gradient_accumulation": options.gradient_accumulation,
        "learning_rate": options.rate,
        "max_length": options.max_length,
        "seed": options.seed,
        "device": inputs.device,
        "compute": "bfloat16" if inputs.half else "float32",
        **({"warmup": options.warmup} if options.warmup else {}),
        **({"processes": together} if together > 1 else {}),
        **(adapters if options.adapts else {}),
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
