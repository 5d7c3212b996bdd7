"""Runs: a directory per training that is not over, in `.mstore/runs/<id>/`.

`run.json` is written first and says what is to be done; `checkpoints/` names what the store has of
the run's state; `metrics.jsonl` is what was measured; `result.json` is written last, when `output/`
is whole. Everything else may go at any moment: `base/` and `work/` are made again.
A run is alive while a process holds its lock. What is killed leaves its directory, to be continued
or discarded; a run that is over leaves none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import disk, moments
from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import (
    AmbiguousError,
    ConflictError,
    IntegrityError,
    LockTimeoutError,
    NotFoundError,
    StoreError,
)
from modelstore.locks import locked
from modelstore.names import ModelName, parse_model
from modelstore.ops.in_use import checkpoints
from modelstore.ops.place import RUNS
from modelstore.store import Store
from modelstore.training.checkpoints import Checkpoints
from modelstore.training.plan import Plan, plan_value

_RUN, _RESULT = "run.json", "result.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A training that is not over.

    Attributes:
        id: the moment it began, and six random digits.
        path: its directory.
    """

    id: str
    path: Path

    @property
    def work(self) -> Path:
        """The trainer's own directory."""
        return self.path / "work"

    @property
    def output(self) -> Path:
        """Where the result is put together."""
        return self.path / "output"

    @property
    def base(self) -> Path:
        """Where what it starts from is laid out, unless that is a directory of the user's."""
        return self.path / "base"

    @property
    def metrics(self) -> Path:
        """What was measured."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """What a version will record of it, there once the output is whole."""
        return self.path / _RESULT

    @property
    def failure(self) -> Path:
        """Why the processes that train together ended."""
        return self.path / "failure.json"

    @property
    def stop(self) -> Path:
        """There if the processes that train together are to stop."""
        return self.path / "stop"

    @property
    def lock(self) -> Path:
        """Held by whoever conducts the run."""
        return self.path / "lock"

    @property
    def worker_lock(self) -> Path:
        """Held by the first of the processes that train together."""
        return self.path / "worker.lock"

    @property
    def command(self) -> str:
        """What continues it."""
        return f"mstore train --resume {self.id}"

    def value(self) -> dict[str, Any]:
        """Return what `run.json` says: the plan, and what the commit will say.

        Raises:
            IntegrityError: it is damaged.
        """
        path = self.path / _RUN
        with disk.explained(path, "read"):
            value = parse_mapping(path.read_bytes(), f"'{path}'")
        if not (isinstance(value.get("plan"), dict) and isinstance(value.get("commit"), dict)):
            raise IntegrityError(f"'{path}' says of no run what is to be done", self._give_up)
        return value

    @property
    def _give_up(self) -> str:
        return f"give it up: mstore train --discard {self.id}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for the length of the block.

        Raises:
            ConflictError: it is alive, or is continued by another process.
        """
        with self._held(self.lock):
            with self._held(self.worker_lock):
                pass  # its processes may outlive the one that conducted them, for a moment
            yield

    @contextmanager
    def held_by_worker(self) -> Iterator[None]:
        """Hold the run as the first of the processes that train together.

        Raises:
            ConflictError: another one does.
        """
        with self._held(self.worker_lock):
            yield

    @contextmanager
    def _held(self, lock: Path) -> Iterator[None]:
        with disk.explained(self.path, "read"):
            if not self.path.is_dir():
                raise _no_run(self.id)
        holding = locked(lock, timeout=0)
        try:
            holding.__enter__()
        except LockTimeoutError as error:
            raise ConflictError(
                f"the run {self.id} is alive ({error.message})", "wait for it to end"
            ) from error
        try:
            yield
        finally:
            holding.__exit__(None, None, None)

    def is_over(self) -> bool:
        """Tell whether nothing says any more what is to be done."""
        return not (self.path / _RUN).exists()

    def is_alive(self) -> bool:
        """Tell whether a process works at it."""
        return any(map(_is_held, (self.lock, self.worker_lock)))


def _is_held(lock: Path) -> bool:
    if not lock.is_file():
        return False
    try:
        with locked(lock, timeout=0):
            return False
    except LockTimeoutError:
        return True


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What there is to say of a run.

    Attributes:
        id: its name.
        model: the line that it trains, "" where that cannot be read.
        base: what it starts from, as the user spells it.
        state: "running"; "resumable": it can be continued; "trained": the result is there and is
            to be committed; "left": nothing can be made of it.
        step: optimizer steps of its newest checkpoint, 0 without one.
        started_at: RFC 3339, "" where the name does not tell.
        size: bytes of its directory, what the store has of it not counted.
    """

    id: str
    model: str
    base: str
    state: str
    step: int
    started_at: str
    size: int


# --- one run


def create(store: Store, plan: Plan, commit: Mapping[str, object]) -> Run:
    """Begin a run: from now on it is there.

    Args:
        commit: what the commit will say, of texts and truth values.
    """
    name = f"{moments.stamp(moments.now())}-{os.urandom(3).hex()}"
    run = Run(name, store.meta / RUNS / name)
    store.prepare()
    disk.make_dir(run.path)
    value = {"plan": plan_value(plan), "commit": dict(commit)}
    disk.replace(run.path / _RUN, canonical(value) + b"\n")
    return run


def open_run(store: Store, name: str = "") -> Run:
    """Return the run of that name, or whose name begins so; "" for the newest to be continued.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: several begin so.
    """
    runs = _runs(store)
    if not name:
        open_ones = [run for run in runs if (run.path / _RUN).is_file() and not run.is_alive()]
        if not open_ones:
            raise NotFoundError("there is no run to continue", "mstore train --list-runs")
        return open_ones[-1]
    exact = [run for run in runs if run.id == name]
    found = exact or [run for run in runs if run.id.startswith(name)]
    if not found:
        raise _no_run(name)
    if len(found) > 1:
        raise AmbiguousError(
            f"{len(found)} runs begin with {name!r}", f"say which: {found[0].id}, {found[1].id}"
        )
    return found[0]


def list_runs(store: Store) -> list[RunInfo]:
    """Return what there is of runs that are not over, the oldest first."""
    return [_info(run) for run in _runs(store)]


def discard_run(store: Store, name: str) -> RunInfo:
    """Remove a run, and what the store has of it; return what it was.

    Raises:
        ConflictError: it is alive.
        NotFoundError: there is no such run.
    """
    run = open_run(store, name)
    info = _info(run)
    with run.held():
        clear(store, run)
    disk.remove_tree(run.path)
    return info


def clear(store: Store, run: Run) -> None:
    """Make of a run what nobody can continue; its directory is then to be removed.

    What is left after a crash in the middle is a directory that names no checkpoint.
    """
    model, damaged = ModelName("run"), False
    with suppress(StoreError):
        model = parse_model(run.value()["plan"]["model"])
    kept = Checkpoints(store, run.path, model)
    try:
        kept.let_go(kept.all())
    except IntegrityError:
        damaged = True
    if damaged:  # gc frees what they named
        disk.remove_tree(run.path / "checkpoints")
    disk.remove(run.path / _RUN)


def _info(run: Run) -> RunInfo:
    model = base = ""
    with suppress(StoreError):
        plan = run.value()["plan"]
        model, base = str(plan.get("model", "")), str(plan.get("base", ""))
    step = 0
    with suppress(StoreError):
        step = max((one.step for one in checkpoints(run.path)), default=0)
    return RunInfo(run.id, model, base, _state(run, model), step, _started_at(run), _size(run.path))


def _state(run: Run, model: str) -> str:
    if run.is_alive():
        return "running"
    if run.is_over() or not model:
        return "left"
    return "trained" if run.result.is_file() else "resumable"


def _started_at(run: Run) -> str:
    try:
        return moments.rfc3339(moments.parse_stamp(run.id.split("-")[0]))
    except ValueError:
        return ""


def _size(directory: Path) -> int:
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # it went just now
                total += Path(parent, name).lstat().st_size
    return total


def _runs(store: Store) -> list[Run]:
    directory = store.meta / RUNS
    if not directory.is_dir():
        return []
    with disk.explained(directory, "read"):
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    return [Run(name, directory / name) for name in names if (directory / name).is_dir()]


def _no_run(name: str) -> NotFoundError:
    return NotFoundError(f"there is no run {name!r}", "mstore train --list-runs")
