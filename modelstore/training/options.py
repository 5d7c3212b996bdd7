"""What a training run is asked for, what it reports on the way, and what it hands back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelstore.errors import UsageError

Value = bool | int | float | str
"""What a setting can be."""

METHODS = ("lora", "qlora", "full", "last-N")
"""Adapters, adapters on a base held in four bits, every weight, the last N layers."""

DEVICES = ("auto", "cpu", "cuda")

COMPUTES = ("auto", "bfloat16", "float32")
"""What products are computed in."""

WEIGHTS_FORMATS = ("safetensors", "bin")
"""How the result is written: as the base's shards, or as the `pytorch_model.bin` of older tools."""

LEARNING_RATES = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5, "last-N": 5e-5}
"""What is used unless the user says otherwise; adapters bear ten times the rate of full training."""

LORA_RANK = 16
LORA_ALPHA = 32
"""Rank and scale of the adapters unless said otherwise; they are put on all linear layers."""

_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "max_steps": 0,
    "max_length": 2,
    "seed": 0,
    "gradient_accumulation": 1,
    "lora_rank": 1,
    "lora_alpha": 1,
    "eval_every": 0,
    "save_every": 0,
    "processes": 0,
}

_LAST = re.compile(r"last-([1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to fine-tune.

    Attributes:
        epochs: passes over the data, at least 1; `max_steps` ends them early.
        batch_size: samples per forward pass on a device.
        learning_rate: of AdamW, falling linearly to 0; None for that of the method in `LEARNING_RATES`.
        max_steps: optimizer steps to stop after; 0 for no limit.
        method: "lora" trains adapters and merges them, "qlora" does so on a base held in four bits,
            "full" trains every weight, "last-4" those of the last four layers.
        max_length: tokens a sample has at most.
        seed: of the order of the data and of the adapters' first values.
        gradient_accumulation: forward passes per optimizer step.
        device: "auto" is a GPU where torch sees one.
        lora_rank: of the adapters.
        lora_alpha: their scale is this over the rank.
        warmup: share of the steps in which the rate rises from 0.
        eval_every: steps between evaluations; 0 for one at the end of each epoch.
        save_every: steps between checkpoints; 0 for one when ten minutes have gone by since the
            last, or where an epoch ends one minute.
        compute: what products are computed in; "auto" is bfloat16 for weights that have no more
            digits, where the processor has instructions for it: without, it is ten times slower.
        activation_checkpointing: compute activations again instead of keeping them, which is slower
            and needs less memory; None for yes on a GPU and no on a CPU.
        processes: that train together; 0 for one per GPU, and 1 on a CPU.
        weights_format: one of `WEIGHTS_FORMATS`.

    Raises:
        UsageError: a value is out of its range.
    """

    epochs: int = 1
    batch_size: int = 1
    learning_rate: float | None = None
    max_steps: int = 0
    method: str = "lora"
    max_length: int = 1024
    seed: int = 42
    gradient_accumulation: int = 1
    device: str = "auto"
    lora_rank: int = LORA_RANK
    lora_alpha: int = LORA_ALPHA
    warmup: float = 0.0
    eval_every: int = 0
    save_every: int = 0
    compute: str = "auto"
    activation_checkpointing: bool | None = None
    processes: int = 0
    weights_format: str = "safetensors"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; the least is {least}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError(f"learning_rate is {self.learning_rate}; it lies between 0 and 1")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup is {self.warmup}; it is a share of the steps, from 0 to 1")
        if self.last_layers is None and self.method not in METHODS[:-1]:
            raise UsageError(
                f"method is {self.method!r}; it is one of {', '.join(METHODS[:-1])}, or last-4 for "
                "the last four layers"
            )
        _one_of("device", self.device, DEVICES)
        _one_of("compute", self.compute, COMPUTES)
        _one_of("weights_format", self.weights_format, WEIGHTS_FORMATS)

    def steps(self, samples: int, processes: int) -> int:
        """Return the optimizer steps of a run on ``samples`` samples, shared by ``processes``."""
        batches = math.ceil(samples / self.batch_size / processes)
        steps = math.ceil(batches / self.gradient_accumulation) * self.epochs
        return min(steps, self.max_steps or steps)

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        family = self.method if self.last_layers is None else "last-N"
        return LEARNING_RATES[family] if self.learning_rate is None else self.learning_rate

    @property
    def last_layers(self) -> int | None:
        """How many of the last layers are trained, by the method "last-N"; else None."""
        found = _LAST.fullmatch(self.method)
        return int(found[1]) if found else None

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained, and merged at the end."""
        return self.method in {"lora", "qlora"}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it is one of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run is after an optimizer step.

    Attributes:
        number, total: optimizer steps done, and in all.
        loss: of this step, in nats per token.
        tokens: shown to the model so far.
        seconds: since the first step began.
        evaluation: mean loss on the evaluation rows after this step, in nats per token; None where
            it was not evaluated.
        rate: the learning rate of this step.
    """

    number: int
    total: int
    loss: float
    tokens: int
    seconds: float
    evaluation: float | None = None
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a version records of the run that made it; numbers and strings only.

    Attributes:
        parameters: what was asked for, resolved: epochs, batch_size, learning_rate, device, ...
        metrics: training_time and cpu_time in seconds, loss (mean over the run), first_loss,
            final_loss, steps, tokens, samples, model_size in bytes; samples_truncated and
            samples_dropped if any were; with evaluation rows eval_loss_before (of the base),
            best_eval_loss and eval_loss (the last).
        environment: versions of Python and the packages, the device's name, threads.
        curve: every step of the run.
    """

    parameters: Mapping[str, int | float | str]
    metrics: Mapping[str, int | float]
    environment: Mapping[str, int | str]
    curve: tuple[Step, ...] = ()
