"""Steers a run from within: when it is evaluated, when it is saved, and when it stops.

All is decided at the end of an optimizer step, and by all processes of the run together: what one
of them alone knows (the time, a signal) is agreed upon first, as an evaluation and a checkpoint
take every process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.training.losses import NOTHING, Losses, Past
from modelstore.training.options import TrainOptions

if TYPE_CHECKING:
    from transformers import TrainerCallback

SAVED_AFTER = 600.0
AT_AN_END_AFTER = 60.0
"""Seconds after which a run is saved, anywhere and where an epoch ends, unless it is told when."""


def _never() -> bool:
    return False


def _not_kept(_: float) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Keeping:
    """How a run is kept, so that it can be continued.

    Attributes:
        work: the trainer's own directory, where its checkpoints appear; it exists.
        save: called with the trainer's checkpoint, whole, and its step; by one process only.
        need: called with the bytes that a checkpoint takes before the first step.
        stopping: asked after every step whether the run is to be saved and to stop.
        base_evaluated: called with the base's loss on the evaluation rows.
        resume_from: the trainer's checkpoint to go on from, in ``work``; None to begin.
        past: what the run did up to that checkpoint.
    """

    work: Path
    save: Callable[[Path, int], None]
    need: Callable[[int], None]
    stopping: Callable[[], bool] = _never
    base_evaluated: Callable[[float], None] = _not_kept
    resume_from: Path | None = None
    past: Past = field(default=NOTHING)


class Watch:
    """Tells the trainer what to do after each step, and `Losses` what came of it.

    Attributes:
        stopped: whether the run stopped because it was asked to.

    Args:
        losses: takes every loss.
        options: say when to evaluate and to save.
        evaluates: whether there is anything to evaluate on.
        keeping: None for a run that is not kept.
    """

    def __init__(
        self, losses: Losses, options: TrainOptions, *, evaluates: bool, keeping: Keeping | None
    ) -> None:
        self._losses = losses
        self._options = options
        self._evaluates = evaluates
        self._keeping = keeping
        self._saved_at = time.monotonic()
        self._is_first = True
        self.stopped = False

    def begun(self) -> None:
        """Let the clocks begin to run."""
        self._losses.start()
        self._saved_at = time.monotonic()

    def step_ended(self, state: Any, control: Any, *, leads: bool) -> None:
        """Decide what follows a step.

        Args:
            leads: whether this process is the one that decides by time.
        """
        last = state.global_step >= state.max_steps
        # the trainer's count of epochs is a whole number where one ends
        epoch_ends = float(state.epoch).is_integer()
        every = self._options.eval_every
        due = state.global_step % every == 0 if every else epoch_ends
        control.should_evaluate = self._evaluates and (due or last)
        if self._keeping is None:
            return
        patience = AT_AN_END_AFTER if epoch_ends else SAVED_AFTER
        late = leads and time.monotonic() - self._saved_at >= patience
        stops, late = _agreed(self._keeping.stopping(), late)
        every = self._options.save_every
        due = state.global_step % every == 0 if every else late
        control.should_save = stops or (due and not last)
        if stops:
            control.should_training_stop = True
            self.stopped = True

    def saved(self, state: Any, output: Path, *, leads: bool) -> None:
        """Take over a checkpoint, once every process has written its part."""
        if self._keeping is None:
            return
        _wait_for_all()
        if leads:
            number = int(state.global_step)
            self._keeping.save(output / f"checkpoint-{number}", number)
        self._saved_at = time.monotonic()

    def evaluated(self, loss: float, number: int) -> None:
        """Take the result of an evaluation."""
        self._losses.evaluated(loss, number)
        if number == 0 and self._keeping is not None:
            self._keeping.base_evaluated(loss)

    def callback(self) -> TrainerCallback:
        """Return this as transformers wants it."""
        from transformers import TrainerCallback

        watch = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                watch.begun()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                watch.step_ended(state, control, leads=state.is_world_process_zero)

            def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if "loss" in kwargs["logs"]:  # the summary at the end has none
                    watch._losses.take(
                        kwargs["logs"],
                        state.global_step,
                        state.max_steps,
                        evaluates=control.should_evaluate,
                    )

            def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                watch.evaluated(float(kwargs["metrics"]["eval_loss"]), state.global_step)

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                leads = state.is_world_process_zero
                watch.saved(state, Path(args.output_dir), leads=leads)

        return Callback()


def _agreed(*said: bool) -> tuple[bool, ...]:
    """Return what any of the processes says."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return said
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    votes = torch.tensor([int(one) for one in said], device=device)
    distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
    return tuple(bool(vote) for vote in votes.tolist())


def _wait_for_all() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
