"""Rm: versions are removed; what they consist of stays in the store until a gc, and then in the trash.

The registry keeps the whole entry of a removed version, so that `undelete` can put it back as it
was, and never gives its number again. Children stay as they are: blobs that anything needs, if
only as bases, are live. The version's directory goes to the trash as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modelstore.errors import ConflictError, NotFoundError
from modelstore.names import ModelName
from modelstore.ops import in_use
from modelstore.ops.refusal import names
from modelstore.ops.resolve import Resolved
from modelstore.state import Change, State
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class RmPlan:
    """What removing versions would do.

    Attributes:
        versions: those that would be removed.
        directories: what would go to the trash.
    """

    versions: tuple[Resolved, ...]
    directories: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed.

    Attributes:
        versions: the versions; `undelete` brings them back.
        directories: what lies in the trash now.
    """

    versions: tuple[Resolved, ...]
    directories: tuple[Path, ...]


def plan_rm(store: Store, versions: Iterable[Resolved], *, force: bool = False) -> RmPlan:
    """Return what removing ``versions`` would do; changes nothing.

    Args:
        force: also versions that were changed in their directories, or that a training started from.

    Raises:
        ConflictError: one is ACTIVE, or has an alias; or one is in use, as above.
    """
    chosen = tuple({str(one): one for one in versions}.values())
    trained = in_use.training(store)
    for one in chosen:
        _require_unnamed(store.state(one.model), one)
        if str(one) in trained and not force:
            raise ConflictError(
                f"a training that is not over started from {one}",
                f"wait for it; or remove the version all the same: mstore rm {one} -f",
            )
        changes = None if force else in_use.local_changes(store, one)
        if changes is not None:
            directory, changed = changes
            raise ConflictError(
                f"'{directory}' has files that nothing else holds: {names(changed)}",
                f"commit them with: mstore commit {directory}; "
                f"or remove the version with them: mstore rm {one} -f",
            )
    directories = (path for one in chosen for path in in_use.directories(store, one))
    return RmPlan(chosen, tuple(directories))


def rm(store: Store, plan: RmPlan, *, why: str = "") -> Removed:
    """Remove the versions of ``plan``, all of one model in one change of its registry.

    Raises:
        ConflictError: one was made ACTIVE, or given an alias, since it was planned.
        NotFoundError: one was removed by somebody else.
    """
    by_model: dict[ModelName, list[Resolved]] = defaultdict(list)
    for one in plan.versions:
        by_model[one.model].append(one)
    moved: list[Path] = []
    for model, versions in by_model.items():
        store.change(model, partial(change, versions=versions, why=why))
        moved += put_away(store, versions)
    return Removed(plan.versions, tuple(moved))


def change(state: State, versions: Sequence[Resolved], why: str) -> Change:
    """Return the change of the registry that removes ``versions``, which are all of one model."""
    entries = {}
    for one in versions:
        _require_unnamed(state, one)
        entry = state.entry(str(one.entry.version))
        if entry is None or entry.id != one.id:
            raise NotFoundError(f"{one} was removed meanwhile", f"run: mstore log {one.model}")
        entries[str(entry.version)] = entry.values
    return Change("rm", versions=dict.fromkeys(entries), removed=entries, why=why)


def put_away(store: Store, versions: Iterable[Resolved]) -> list[Path]:
    """Move the directories of removed versions to the trash; return where they were.

    A crash may come between the removal and this, so gc does it, too.
    """
    moved = []
    for one in versions:
        with store.lock():
            if store.state(one.model).removed_entry(str(one.entry.version)) is None:
                continue  # somebody took it back
            for directory in in_use.directories(store, one):
                what = f"{one.model}@{directory.name}"
                store.blobs.trash().put_directory(directory, what)
                moved.append(directory)
    return moved


def left_behind(store: Store, model: ModelName) -> list[Resolved]:
    """Return the removed versions of a model that still have a directory."""
    state = store.state(model)
    found = []
    for version in state.removed():
        entry = state.removed_entry(str(version))
        if entry is not None and in_use.directories(store, Resolved(model, entry)):
            found.append(Resolved(model, entry))
    return found


def _require_unnamed(state: State, one: Resolved) -> None:
    """Raise if anything points at a version."""
    version = str(one.entry.version)
    if state.active == version:
        others = [str(v) for v in state.versions() if str(v) != version]
        to = f"{one.model}@{others[-1]}" if others else "another version, once there is one"
        raise ConflictError(
            f"{one} is ACTIVE", f"make another version ACTIVE first: mstore set-active {to}"
        )
    for name in in_use.pointers(state, version):
        alias = name.removeprefix("alias ")
        raise ConflictError(
            f"{one} is what the alias {alias!r} means",
            f"let it mean another version: mstore alias {alias} {one.model}@REF; "
            f"or remove it: mstore alias -d {alias} -M {one.model}",
        )
