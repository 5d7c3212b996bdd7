"""Watching a run: its losses are reported and summed up, and a run that has run away is ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modelstore.errors import DivergedError
from modelstore.training.options import Step

if TYPE_CHECKING:
    from transformers import TrainerCallback


class Losses:
    """Watches a run: passes every step on, and ends the run when it has run away.

    Args:
        progress: called after every optimizer step.
    """

    def __init__(self, progress: Callable[[Step], None]) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._steps: list[Step] = []

    def take(self, logs: Mapping[str, float], number: int, total: int) -> None:
        """Take what the trainer logs after a step.

        Raises:
            DivergedError: the loss or the gradient is infinite or not a number.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise diverged(f"the {name} of step {number} is {logs[name]}")
        seconds = time.monotonic() - self._started
        tokens = int(logs.get("num_tokens", 0))
        self._steps.append(Step(number, total, float(logs["loss"]), tokens, seconds))
        self._progress(self._steps[-1])

    def metrics(self) -> dict[str, int | float]:
        """Return what a version records of the steps taken."""
        losses = [step.loss for step in self._steps]
        return {
            "loss": round(sum(losses) / len(losses), 6),
            "first_loss": round(losses[0], 6),
            "final_loss": round(losses[-1], 6),
            "steps": self._steps[-1].number,
            "tokens": self._steps[-1].tokens,
        }

    def callback(self) -> TrainerCallback:
        """Return this as transformers wants it."""
        from transformers import TrainerCallback

        losses = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                losses._started = time.monotonic()

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if "loss" in kwargs["logs"]:  # the summary at the end has none
                    losses.take(kwargs["logs"], state.global_step, state.max_steps)

        return Callback()


def diverged(problem: str) -> DivergedError:
    """Return the error that says training ran away."""
    return DivergedError(problem, "train with a smaller --learning-rate")
