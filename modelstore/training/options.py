"""What a training run is asked for, what it reports on the way, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelstore.errors import UsageError

METHODS = ("lora", "full")
DEVICES = ("auto", "cpu", "cuda")

LEARNING_RATES = {"lora": 2e-4, "full": 2e-5}
"""What is used unless the user says otherwise; adapters bear ten times the rate of full training."""

LORA_RANK = 16
LORA_ALPHA = 32
"""Rank and scale of the adapters, which are put on all linear layers."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to fine-tune.

    Attributes:
        epochs: passes over the data, at least 1; `max_steps` ends them early.
        batch_size: samples per forward pass on the device.
        learning_rate: of AdamW, falling linearly to 0; None for that of the method in `LEARNING_RATES`.
        max_steps: optimizer steps to stop after; 0 for no limit.
        method: "lora" trains adapters and merges them, "full" trains every weight.
        max_length: tokens a sample has at most.
        seed: of the order of the data and of the adapters' first values.
        gradient_accumulation: forward passes per optimizer step.
        device: "auto" is a GPU where torch sees one.

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

    def __post_init__(self) -> None:
        smallest = {"epochs": 1, "batch_size": 1, "max_steps": 0, "max_length": 2, "seed": 0}
        for name, least in {**smallest, "gradient_accumulation": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; the least is {least}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError(f"learning_rate is {self.learning_rate}; it lies between 0 and 1")
        _one_of("method", self.method, METHODS)
        _one_of("device", self.device, DEVICES)

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate


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
    """

    number: int
    total: int
    loss: float
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a version records of the run that made it; numbers and strings only.

    Attributes:
        parameters: what was asked for, resolved: epochs, batch_size, learning_rate, device, ...
        metrics: training_time in seconds, loss (mean over the run), first_loss, final_loss, steps,
            tokens, samples, model_size in bytes; samples_truncated and samples_dropped if any were.
        environment: versions of Python and the packages, the device's name, threads.
    """

    parameters: Mapping[str, int | float | str]
    metrics: Mapping[str, int | float]
    environment: Mapping[str, int | str]
