"""A training run: from a base and data files to a committed version.

`plan` settles everything that can be settled in a second, so that a mistake is told before any time
is spent; `train` does the work.
While it runs, base, adapters and result lie in ``.mstore/runs/<id>/``. Whatever ends the run, the
directory goes, except where the result is complete and could not be committed: then it stays, and
the error says how to commit it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import DiskFullError, NotFoundError, StoreError, UsageError
from modelstore.names import ModelName
from modelstore.ops import working
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.place import STARTED_FROM
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.progress import Progress, silent
from modelstore.sizes import human_size
from modelstore.store import Store
from modelstore.training.base import open_base
from modelstore.training.data import Data, load_data
from modelstore.training.finetune import fine_tune, resolve_device
from modelstore.training.hub import download, hub_id
from modelstore.training.options import Step, TrainOptions, TrainResult

_STACK = ("torch", "transformers", "accelerate", "trl", "peft", "datasets")
"""What `mstore[train]` installs and every run needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that could begin.

    Attributes:
        model: the line that gets the version.
        base: what it starts from, for people: a full ref, a directory, or an id on the Hub.
        version: the version it starts from, or None.
        directory: the directory it starts from, or None.
        data: the rows.
        options: how to train.
    """

    model: ModelName
    base: str
    version: Resolved | None
    directory: Path | None
    data: Data
    options: TrainOptions


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run led to: the version, and the measurements recorded with it."""

    committed: Committed
    result: TrainResult


def options_for(store: Store, model: ModelName, given: Mapping[str, Any]) -> TrainOptions:
    """Return ``given``, completed by what the line was set up with and by our own defaults.

    Args:
        given: fields of `TrainOptions`; None for those that were not said.
    """
    registry = store.registry(model)
    defaults = registry.state().document.get("defaults", {}) if registry.exists() else {}
    known = {field.name for field in fields(TrainOptions)}
    chosen = {name: value for name, value in defaults.items() if name in known}
    chosen.update((name, value) for name, value in given.items() if value is not None)
    return TrainOptions(**chosen)


def plan(
    store: Store,
    model: ModelName,
    data_files: Sequence[Path],
    options: TrainOptions,
    *,
    source: str = "",
    base: str = "",
) -> Plan:
    """Read the data and find out what to start from.

    Args:
        source: a ref of the version to start from, or "".
        base: a directory, or the id of a model on the Hub, to start from, or "".
            With neither it is the line's ACTIVE version, else the model the line was set up with.

    Raises:
        StoreError: the training packages are not installed.
        UsageError: the data is wrong, both a ref and a base are given, or there is neither.
        NotFoundError: the ref, the directory or a data file does not exist.
    """
    _check_installed()
    if source and base:
        raise UsageError("--from and --base exclude each other", "leave one of them out")
    version, directory, name = None, None, base
    if base:
        directory = _directory(base)
    else:
        version = _version(store, model, source)
        name = str(version) if version else _line_base(store, model)
    if directory is not None:
        open_base(directory)
    return Plan(model, name, version, directory, load_data(data_files), options)


def _check_installed() -> None:
    missing = [name for name in _STACK if find_spec(name) is None]
    if missing:
        raise StoreError(
            f"training needs packages that are not installed: {', '.join(missing)}",
            'pip install "mstore[train]"',
        )


def _directory(base: str) -> Path | None:
    path = Path(base)
    if path.is_dir():
        return path
    if path.is_absolute() or base.startswith(".") or base.count("/") != 1 or path.parent.is_dir():
        raise NotFoundError(f"there is no directory '{base}'", "name a model: --base DIR")
    return None


def _version(store: Store, model: ModelName, source: str) -> Resolved | None:
    if source:
        return resolve(store, source, Context(model=model))
    registry = store.registry(model)
    if registry.exists() and registry.state().active:
        return resolve(store, f"{model}@ACTIVE")
    return None


def _line_base(store: Store, model: ModelName) -> str:
    registry = store.registry(model)
    base = registry.state().base_model if registry.exists() else ""
    if not base:
        raise UsageError(
            f"{model} has no version to start from, and no base is recorded for it",
            f"name one: mstore train {model} --base DIR --data FILE",
        )
    return hub_id(base)


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
