"""The part of a run that trains: it goes on from the newest checkpoint, and saves itself.

One process does it, or each of several that torchrun started; of those the first one alone writes
what is kept. It knows the store's blobs and the run's directory, and no registry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from modelstore import disk
from modelstore.canonical import line, parse_mapping
from modelstore.errors import DiskFullError
from modelstore.ops.adapter import DIRECTORY
from modelstore.sizes import human_size
from modelstore.store import Store
from modelstore.training.base import open_base
from modelstore.training.checkpoints import Checkpoints
from modelstore.training.finetune import Task, carry_out
from modelstore.training.losses import Past
from modelstore.training.metrics import Metrics, go_back, read, step_of
from modelstore.training.options import Step, TrainResult
from modelstore.training.plan import Plan
from modelstore.training.runs import Run
from modelstore.training.watch import Keeping


class Engine:
    """Trains what a plan says, and keeps the run.

    Args:
        run: whose lock the caller holds.
        base: the directory that it starts from.
    """

    def __init__(self, store: Store, run: Run, plan: Plan, base: Path) -> None:
        self._run = run
        self._plan = plan
        self._base = base
        self._kept = Checkpoints(store, run.path, plan.model, plan.version)
        self._metrics = Metrics(run.metrics)
        self._past = Past()
        self._began = time.process_time()

    def prepare(self) -> Path | None:
        """Make the run's directory ready, and return the trainer's checkpoint to go on from.

        To be called once, by one process, before any of them trains.
        """
        run = self._run
        for leftover in (run.work, run.output):
            disk.remove_tree(leftover)
        for note in (run.stop, run.failure, run.result):
            disk.remove(note)
        disk.make_dir(run.work)
        one = self._kept.restore(run.work)
        self._past = go_back(run.metrics, one.step if one else 0, one.cpu if one else 0.0)
        return run.work / f"checkpoint-{one.step}" if one else None

    def recall(self) -> Path | None:
        """Return what `prepare` did, where another process called it."""
        found = sorted(self._run.work.glob("checkpoint-*"))
        newest = self._kept.all()[-1:] if found else []
        cpu = newest[0].cpu if newest else 0.0
        rows = list(read(self._run.metrics))
        before = [float(row["evaluation"]) for row in rows if row["step"] == 0]
        steps = tuple(step_of(row) for row in rows if row["step"] != 0)
        self._past = Past(steps, before[-1] if before else None, cpu)
        return found[-1] if found else None

    def train(
        self,
        watch: Callable[[Step], None],
        stopping: Callable[[], bool],
        resume_from: Path | None,
        *,
        leads: bool = True,
        processes: int = 1,
    ) -> TrainResult:
        """Train; see `modelstore.training.finetune.carry_out` for what can go wrong.

        Args:
            watch: called after every optimizer step.
            stopping: asked after every step.
            resume_from: what `prepare` returned.
            leads: whether this process keeps the run; one of them does.
            processes: that train together.
        """
        run, plan = self._run, self._plan

        def report(step: Step) -> None:
            if leads:
                self._metrics.take(step)
            watch(step)

        keeping = Keeping(
            work=run.work,
            save=self._save,
            need=self._require_room if leads else _ignore,
            stopping=stopping,
            base_evaluated=self._metrics.base if leads else _ignore,
            resume_from=resume_from,
            past=self._past,
        )
        adapter = run.output / DIRECTORY if plan.options.adapts else None
        task = Task(
            base=self._base,
            rows=plan.data.rows,
            options=plan.options,
            output=run.output,
            adapter=adapter,
            evaluation=plan.data.evaluation,
            base_name=plan.base,
            processes=processes,
        )
        try:
            result = carry_out(task, report, keeping)
        finally:
            self._metrics.flush()
        if leads:
            self._finish(result)
        return result

    def _save(self, directory: Path, number: int) -> None:
        self._metrics.flush()
        cpu = self._past.cpu + time.process_time() - self._began
        self._kept.save(directory, number, cpu)

    def _require_room(self, checkpoint: int) -> None:
        """Refuse to begin what cannot be saved.

        A checkpoint lies once where the trainer writes it, and at worst twice in the store; the
        result once in each, beside the checkpoints that are let go only after it.
        """
        weights = sum(path.stat().st_size for path in open_base(self._base).weights)
        need = max(3 * checkpoint, 2 * checkpoint + 2 * weights)
        free = disk.free_space(self._run.path)
        if need > free:
            raise DiskFullError(
                f"checkpoints and result need up to {human_size(need)} "
                f"and {human_size(free)} are free",
                "free some space, as with: mstore gc"
                + ("" if self._plan.options.adapts else "; or train adapters: --method lora"),
            )

    def _finish(self, result: TrainResult) -> None:
        """Note, once the output is durable, that there is a result."""
        for path in sorted(self._run.output.rglob("*"), reverse=True):
            disk.sync_path(path)
        disk.sync_path(self._run.output)
        value = {
            "parameters": dict(result.parameters),
            "metrics": dict(result.metrics),
            "environment": dict(result.environment),
        }
        disk.replace(self._run.result, line(value).encode("utf-8") + b"\n")


def _ignore(_: float) -> None:
    return None


def result_of(run: Run) -> TrainResult | None:
    """Return the result of a run that is trained; None where it is not."""
    if not run.result.is_file():
        return None
    with disk.explained(run.result, "read"):
        value = parse_mapping(run.result.read_bytes(), f"'{run.result}'")
    steps = []
    for row in read(run.metrics):
        with suppress(KeyError):  # the base's evaluation is no step
            steps.append(step_of(row))
    return TrainResult(value["parameters"], value["metrics"], value["environment"], tuple(steps))
