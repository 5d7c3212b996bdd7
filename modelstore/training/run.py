"""A training run: from a plan to a committed version, over as many starts as it takes.

While it runs, all that it needs lies in ``.mstore/runs/<id>/`` and in the store's blobs; the
registry is touched at the end, by the commit. What ends a run early decides what is left of it: one
that has a checkpoint, or a result that could not be committed, can be continued, and the error says
how; of any other nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import (
    ConflictError,
    DiskFullError,
    DivergedError,
    NotFoundError,
    StoreError,
)
from modelstore.ops.adapter import DIRECTORY
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.in_use import checkpoints
from modelstore.progress import Progress, silent
from modelstore.sizes import human_size
from modelstore.store import Store
from modelstore.training import methods, runs
from modelstore.training.base import open_base
from modelstore.training.curve import write_chart
from modelstore.training.engine import Engine, result_of
from modelstore.training.finetune import resolve_device
from modelstore.training.launch import processes_for, train_together
from modelstore.training.options import Step, TrainResult
from modelstore.training.plan import Plan, downloaded, plan_from, plan_value
from modelstore.training.provenance import with_provenance
from modelstore.training.runs import Run, open_run
from modelstore.training.signals import asked
from modelstore.training.start import lay_out

_RUN_KEY = "run"
"""The key of a version's registry entry that names the run that made it."""

_SAID = ("message", "version", "note", "description", "author")
_ASKED = ("activate", "major")
"""What a user says of the version when a run begins; it is kept for when it ends."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run led to: the version, and the measurements recorded with it."""

    committed: Committed
    result: TrainResult


def train(
    store: Store,
    plan: Plan,
    commit_options: CommitOptions,
    watch: Callable[[Step], None],
    progress: Progress = silent,
    *,
    run: Run | None = None,
) -> Trained:
    """Train as planned and commit the result as the model's next version.

    Args:
        commit_options: message ("" for one that names base and data), note, activate, ...; what
            the run itself knows is filled in.
        watch: called after every optimizer step.
        progress: told about bytes before and after the training.
        run: one to go on with, whose plan this is; None to begin one.

    Raises:
        DiskFullError: there is no room for checkpoints and result; found before training begins.
        DivergedError: see `modelstore.training.finetune.carry_out`.
        RemoteError: the base cannot be fetched.
        StoppedError: a signal asked to stop; the hint continues the run.
        UsageError: there is no GPU, or the base is not a model that can be trained.
    """
    # fetching a base may take long, so ask before
    methods.check(plan.options, resolve_device(plan.options.device))
    plan = downloaded(plan)
    if run is None:
        run = runs.create(store, plan, _to_note(commit_options))
    with _removed_once_over(run), run.held(), _ended_well(store, run):
        result = result_of(run) or _trained(store, run, plan, watch, progress)
        made = commit(
            store, run.output, plan.model, _complete(run, plan, result, commit_options), progress
        )
        runs.clear(store, run)
    return Trained(made, result)


def resume(
    store: Store,
    name: str,
    watch: Callable[[Step], None],
    progress: Progress = silent,
    *,
    given: Plan | None = None,
) -> Trained:
    """Go on with a run from its newest checkpoint, and commit the result.

    Args:
        name: of the run, or how it begins; "" for the newest that can be continued.
        watch, progress: as for `train`.
        given: a plan that must be the run's.

    Raises:
        ConflictError: data, base or options are not those of the run; or it is alive; or it has
            been committed.
        NotFoundError: there is no such run.
    """
    run = open_run(store, name)
    if run.is_alive():
        with run.held():  # says by whom it is
            pass
    value = run.value()
    _check_not_committed(store, run, value["plan"])
    if given is not None:
        _check_same(run, value["plan"], plan_value(given))
    plan = plan_from(store, value["plan"])
    return train(store, plan, CommitOptions(**_noted(value["commit"])), watch, progress, run=run)


def _to_note(options: CommitOptions) -> dict[str, str]:
    said = {name: str(getattr(options, name)) for name in _SAID}
    return {**said, **{name: "yes" if getattr(options, name) else "" for name in _ASKED}}


def _noted(value: dict[str, Any]) -> dict[str, Any]:
    said = {name: str(value.get(name, "")) for name in _SAID}
    return {**said, **{name: bool(value.get(name)) for name in _ASKED}}


def _check_same(run: Run, known: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise if a plan is not the run's; what it was estimated to take is no part of it."""
    passing = {"estimate", "sources", "preset"}
    other = [name for name in known if name not in passing and known[name] != given.get(name)]
    if "options" in other:
        known, given = known["options"], given["options"]
        other += [name for name in known if known[name] != given.get(name)]
        other.remove("options")
    if other:
        raise ConflictError(
            f"the run {run.id} was begun with other {', '.join(other)}",
            f"go on as it was begun: {run.command}",
        )


def _check_not_committed(store: Store, run: Run, plan: dict[str, Any]) -> None:
    """Raise if a crash came between the commit and the end of the run, which then is over."""
    try:
        state = store.state(plan["model"])
    except NotFoundError:
        return
    for entry in state.entries():
        if entry.values.get(_RUN_KEY) == run.id:
            runs.discard_run(store, run.id)
            raise ConflictError(
                f"the run {run.id} is over: it made {plan['model']}@{entry.version}",
                f"mstore show {plan['model']}@{entry.version}",
            )


# --- the training


def _trained(
    store: Store, run: Run, plan: Plan, watch: Callable[[Step], None], progress: Progress
) -> TrainResult:
    disk.remove_tree(run.base)  # somebody may have written to it since it was laid out
    base = lay_out(store, plan.start, run.path, progress)
    _check_room(run.path, base)
    engine = Engine(store, run, plan, base)
    resumed = engine.prepare()
    count = processes_for(plan.options, resolve_device(plan.options.device))
    with asked() as stopping:
        if count > 1:
            return train_together(store, run, count, watch, stopping)
        return engine.train(watch, stopping, resumed)


def _check_room(place: Path, base: Path) -> None:
    """Refuse to begin what could not be saved: the result, and at worst as much in the store."""
    need = 2 * sum(path.stat().st_size for path in open_base(base).weights)
    free = disk.free_space(place)
    if need > free:
        raise DiskFullError(
            f"the result needs up to {human_size(need)} and {human_size(free)} are free",
            "free some space; what is checked out can go: mstore checkout --release REF",
        )


def _complete(run: Run, plan: Plan, result: TrainResult, said: CommitOptions) -> CommitOptions:
    adapter = run.output / DIRECTORY
    complete = with_provenance(
        said,
        plan,
        result,
        adapter=adapter if adapter.is_dir() else None,
        base_digest=str(run.value()["plan"].get("base_digest", "")),
    )
    write_chart(complete.curve, run.output)
    return replace(complete, extra={**said.extra, _RUN_KEY: run.id})


# --- its end


@contextmanager
def _ended_well(store: Store, run: Run) -> Iterator[None]:
    """Leave of a run that ends early what can be continued, and nothing else."""
    try:
        yield
    except DivergedError:  # it would only do so again
        runs.clear(store, run)
        raise
    except StoreError as error:
        if not _can_go_on(run):
            runs.clear(store, run)
            raise
        _tidy(run)
        raise type(error)(error.message, _hint(run, error)) from error
    except BaseException:
        if _can_go_on(run):
            _tidy(run)
        else:
            runs.clear(store, run)
        raise


def _hint(run: Run, error: StoreError) -> str:
    if run.result.is_file():
        return f"the trained model is kept; commit it with: {run.command}"
    first = f"{error.hint}; " if error.hint else ""
    return f"{first}go on from the last checkpoint: {run.command}"


def _can_go_on(run: Run) -> bool:
    try:
        return run.result.is_file() or bool(checkpoints(run.path))
    except StoreError:
        return True  # somebody should look at it


def _tidy(run: Run) -> None:
    """Remove what is made again when the run goes on; `started_from` keeps the base alive."""
    leftover = (run.work, run.base) if run.result.is_file() else (run.work, run.base, run.output)
    for path in leftover:
        disk.remove_tree(path)


@contextmanager
def _removed_once_over(run: Run) -> Iterator[None]:
    """Remove the directory of a run that was cleared, when its lock is let go."""
    try:
        yield
    finally:
        if run.is_over():
            disk.remove_tree(run.path)
