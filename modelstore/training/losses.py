"""The losses of a run: reported, kept as its curve, summed up; and a run that has run away ended.

A run has run away when a loss or a gradient is not a number, or when the mean loss of its last 20
steps is more than three times the least such mean, and 2 nats more: single steps differ that much
where a batch is one sample, means of 20 do not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from modelstore.errors import DivergedError
from modelstore.training.options import Step

_WINDOW = 20
"""Steps that a mean is taken of."""

_TIMES, _MORE = 3.0, 2.0
"""How much more than the least such mean is too much: so many times as much, and so many nats."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a run did before it was interrupted.

    Attributes:
        steps: in order, each number once.
        before: the base's loss on the evaluation rows; None where it was not measured.
        cpu: seconds of computing.
    """

    steps: tuple[Step, ...] = ()
    before: float | None = None
    cpu: float = 0.0


NOTHING = Past()


class Losses:
    """Takes the losses of a run, and ends the run when it has run away.

    Args:
        progress: called after every optimizer step, with its evaluation where there is one.
        past: what came before, for a run that is continued.
    """

    def __init__(self, progress: Callable[[Step], None], past: Past = NOTHING) -> None:
        self._progress = progress
        self._steps = list(past.steps)
        self._watchdog = Watchdog(step.loss for step in past.steps)
        self._waiting: Step | None = None
        self.before = past.before
        self._earlier = past.steps[-1].seconds if past.steps else 0.0
        self._tokens = past.steps[-1].tokens if past.steps else 0
        self._started = time.monotonic()

    def start(self) -> None:
        """Let the clock begin to run."""
        self._started = time.monotonic()

    @property
    def curve(self) -> tuple[Step, ...]:
        """Every step of the run."""
        return tuple(self._steps)

    def take(
        self, logs: Mapping[str, float], number: int, total: int, *, evaluates: bool = False
    ) -> None:
        """Take what the trainer logs after a step.

        Args:
            evaluates: the step is reported when `evaluated` tells its evaluation.

        Raises:
            DivergedError: the loss or the gradient is infinite or not a number, or the loss grows.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise diverged(f"the {name} of step {number} is {logs[name]}")
        loss = float(logs["loss"])
        self._watchdog.see(loss, number)
        step = Step(
            number,
            total,
            loss,
            self._tokens + int(logs.get("num_tokens", 0)),  # of this process's life
            self._earlier + time.monotonic() - self._started,
            rate=float(logs.get("learning_rate", 0.0)),
        )
        if evaluates:
            self._waiting = step
        else:
            self._report(step)

    def evaluated(self, loss: float, number: int) -> None:
        """Take the mean loss on the evaluation rows after step ``number``; 0 is before the first.

        Raises:
            DivergedError: it is infinite or not a number.
        """
        if not math.isfinite(loss):
            if number == 0:
                raise DivergedError(
                    f"the base's own loss on the evaluation rows is {loss}",
                    "name another base: its weights are damaged, or need --set compute=float32",
                )
            raise diverged(f"the evaluation loss after step {number} is {loss}")
        if number == 0:
            self.before = loss
        elif self._waiting is not None:
            step, self._waiting = self._waiting, None
            self._report(replace(step, evaluation=loss))

    def _report(self, step: Step) -> None:
        self._steps.append(step)
        self._progress(step)

    def metrics(self) -> dict[str, int | float]:
        """Return what a version records of the steps taken."""
        losses = [step.loss for step in self._steps]
        found: dict[str, int | float] = {
            "loss": round(sum(losses) / len(losses), 6),
            "first_loss": round(losses[0], 6),
            "final_loss": round(losses[-1], 6),
            "steps": self._steps[-1].number,
            "tokens": self._steps[-1].tokens,
        }
        evaluations = [step.evaluation for step in self._steps if step.evaluation is not None]
        if evaluations:
            found["eval_loss"] = round(evaluations[-1], 6)
            found["best_eval_loss"] = round(min(evaluations), 6)
        if self.before is not None:
            found["eval_loss_before"] = round(self.before, 6)
        return found


class Watchdog:
    """Sees every loss of a run, and raises when they only grow.

    Args:
        losses: of the steps before.
    """

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._last: deque[float] = deque(maxlen=_WINDOW)
        self._least = math.inf
        for loss in losses:
            self._mean(loss)

    def see(self, loss: float, number: int) -> None:
        """Take the loss of step ``number``.

        Raises:
            DivergedError: the losses of the last steps are far above what they were.
        """
        mean = self._mean(loss)
        if mean is not None and mean > _TIMES * self._least + _MORE:
            raise diverged(
                f"the loss only grows: {mean:.3f} on average in the {_WINDOW} steps up to step "
                f"{number}, and it was {self._least:.3f}"
            )

    def _mean(self, loss: float) -> float | None:
        """Return the mean of the last steps, this one included; None while they are too few."""
        self._last.append(loss)
        if len(self._last) < _WINDOW:
            return None
        mean = sum(self._last) / _WINDOW
        self._least = min(self._least, mean)
        return mean


def diverged(problem: str) -> DivergedError:
    """Return the error that says training ran away."""
    return DivergedError(problem, "train with a smaller --learning-rate")
