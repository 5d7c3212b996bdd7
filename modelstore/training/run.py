"""A training run: from a plan to a committed version.

While it runs, base, adapters and result lie in ``.mstore/runs/<id>/``. Whatever ends the run, the
directory goes, except where the result is complete and could not be committed: then it stays, and
the error says how to commit it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from modelstore import disk
from modelstore.errors import DiskFullError, StoreError
from modelstore.names import ModelName
from modelstore.ops import working
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.place import STARTED_FROM
from modelstore.progress import Progress, silent
from modelstore.sizes import human_size
from modelstore.store import Store
from modelstore.training.base import open_base
from modelstore.training.finetune import fine_tune, resolve_device
from modelstore.training.hub import download
from modelstore.training.options import Step, TrainResult
from modelstore.training.plan import Plan


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run led to: the version, and the measurements recorded with it."""

    committed: Committed
    result: TrainResult


def train(
    store: Store,
    run: Plan,
    commit_options: CommitOptions,
    on_step: Callable[[Step], None],
    progress: Progress = silent,
) -> Trained:
    """Train as planned and commit the result as the model's next version.

    Args:
        commit_options: message ("" for one that names base and data), note, activate, ...; what
            the run itself knows is filled in.
        on_step: called after every optimizer step.
        progress: told about bytes before and after the training.

    Raises:
        DiskFullError: there is no room for the result; found before training begins.
        DivergedError: see `modelstore.training.finetune.fine_tune`.
        RemoteError: the base cannot be fetched.
        UsageError: there is no GPU, or the base is not a model that can be trained.
    """
    resolve_device(run.options.device)  # fetching a base may take long, so ask before
    with _run_directory(store) as place:
        base = _fetch_base(store, run, place, progress)
        _check_room(place, base)
        output, adapter = place / "output", place / "adapter"
        result = fine_tune(base, run.data.rows, run.options, output, on_step, adapter)
        complete = replace(
            commit_options,
            message=commit_options.message or _message(run),
            parents=(str(run.version),) if run.version else (),
            base_model="" if run.version else run.base,
            parameters=result.parameters,
            metrics=result.metrics,
            environment=result.environment,
            data=tuple(asdict(file) for file in run.data.files),
            adapter=adapter if adapter.is_dir() else None,
            op="train",
        )
        with _kept_unless_committed(output, run.model, complete.adapter):
            committed = commit(store, output, run.model, complete, progress)
        return Trained(committed, result)


@contextmanager
def _run_directory(store: Store) -> Iterator[Path]:
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    place = store.meta / "runs" / f"{moment}-{os.urandom(3).hex()}"
    store.prepare()
    disk.make_dir(place)
    try:
        yield place
    except _KeptError as kept:
        raise kept.error from kept.error.__cause__
    except BaseException:
        disk.remove_tree(place)
        raise
    disk.remove_tree(place)


class _KeptError(Exception):
    """Carries an error past the cleaning of the run's directory."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(error.message)
        self.error = error


@contextmanager
def _kept_unless_committed(output: Path, model: ModelName, adapter: Path | None) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        with_adapter = f" --adapter {adapter}" if adapter is not None else ""
        hint = (
            f"the trained model is kept; commit it with: mstore commit {output} -M {model}"
            f"{with_adapter}"
        )
        raise _KeptError(type(error)(error.message, hint)) from error


def _fetch_base(store: Store, run: Plan, place: Path, progress: Progress) -> Path:
    if run.directory is not None:
        return run.directory
    if run.version is None:
        return download(run.base)
    disk.create(place / STARTED_FROM, f"{run.version}\n".encode())
    target = place / "base"
    checkout(store, run.version, output=target, progress=progress)
    working.forget(store, target)  # nobody edits what lies in a run
    return target


def _check_room(place: Path, base: Path) -> None:
    """Refuse to begin what could not be saved: the result, and at worst as much in the store."""
    need = 2 * sum(path.stat().st_size for path in open_base(base).weights)
    free = disk.free_space(place)
    if need > free:
        raise DiskFullError(
            f"the result needs up to {human_size(need)} and {human_size(free)} are free",
            "free some space; what is checked out can go: mstore checkout --release REF",
        )


def _message(run: Plan) -> str:
    names = ", ".join(file.name for file in run.data.files)
    return f"fine-tune of {run.base} on {names}"
