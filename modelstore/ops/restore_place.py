"""Putting restored versions in place: registries, and the small files beside them.

Frames are here already and durable. A model that the store lacks gets its registry as it was: the
state as a base in refs/, which decides, the journal and the view. One that it has gets a change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.errors import ConflictError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName, Version, next_version, parse_version
from modelstore.ops.backup_document import CONFIG
from modelstore.ops.card import MODEL_INFO, README
from modelstore.ops.publish import build_aside
from modelstore.records import base_path, read
from modelstore.registry import JOURNAL
from modelstore.state import Change, Entry, State
from modelstore.store import MANIFEST, Store
from modelstore.view import render

ReadFile = Callable[[str, str], bytes | None]
"""Gives the file of a name that a version's directory had; None if it had none."""


@dataclass(frozen=True, slots=True)
class Added:
    """A version that came: its full ref in the backup, and here."""

    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A model as a backup has it: its registry's state, and its journal."""

    model: ModelName
    state: State = field(repr=False)
    journal: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What becomes of a model.

    Attributes:
        saved: it, in the backup.
        as_it_was: whether the store gets that, or a further change of its own.
        added: the versions that come, each with its number here.
        present: full refs of versions of the backup that are here, as they are called here.
        entries: those versions, and the ones that come, by their number here.
    """

    saved: Saved
    as_it_was: bool
    added: tuple[tuple[Entry, str], ...]
    present: tuple[str, ...]
    entries: Mapping[str, Entry] = field(repr=False)

    @property
    def model(self) -> ModelName:
        """Its name."""
        return self.saved.model


def plan_model(
    store: Store | None, saved: Saved, entries: Sequence[Entry], *, whole: bool, rebase: bool
) -> ModelPlan:
    """Return what becomes of a model.

    Args:
        store: None where one will be made.
        entries: the versions that are wanted.
        whole: whether these are all.
        rebase: see `modelstore.ops.restore.plan_restore`.

    Raises:
        ConflictError: a version would take a number that another has, or joins another history.
    """
    model = saved.model
    registry = None if store is None else store.registry(model)
    if registry is not None and registry.is_foreign():
        raise ConflictError(
            f"'{registry.directory}' has a registry that mstore did not make", "run: mstore adopt"
        )
    if store is None or registry is None or not registry.exists():
        added = tuple((entry, str(entry.version)) for entry in entries)
        return ModelPlan(saved, whole, added, (), {number: one for one, number in added})
    here = registry.state()
    missing = [one for one in entries if one.id is not None and here.with_id(one.id) is None]
    present = [found for one in entries if one.id and (found := here.with_id(one.id)) is not None]
    related = _related(here, read(registry.directory / JOURNAL) or b"", saved)
    if missing and not (related or rebase or not (here.versions() or here.removed())):
        raise ConflictError(
            f"{model} has another history here than in the backup",
            "give its versions the next free numbers: mstore restore --rebase, or restore elsewhere",
        )
    numbers = _numbers(here, model, missing, rebase=rebase)
    return ModelPlan(
        saved,
        as_it_was=False,
        added=tuple(zip(missing, numbers, strict=True)),
        present=tuple(f"{model}@{one.version}" for one in present),
        entries={
            **{str(one.version): one for one in present},
            **dict(zip(numbers, missing, strict=True)),
        },
    )


def _related(here: State, journal: bytes, saved: Saved) -> bool:
    """Tell whether one of two registries was made from the other, or holds a part of its versions."""
    theirs = _heads(saved.journal)
    if saved.state.head in {here.head, *_heads(journal)} or here.head in theirs:
        return True
    pairs = [(one, saved.state.entry(str(one.version))) for one in here.entries()]
    common = [(one.id, other.id) for one, other in pairs if other is not None]
    return bool(common) and all(ours == other for ours, other in common)


def _heads(journal: bytes) -> set[Digest]:
    return {digest_of(row + b"\n") for row in journal.split(b"\n") if row}


def _numbers(here: State, model: ModelName, missing: Sequence[Entry], *, rebase: bool) -> list[str]:
    """Return the number that each version gets: its own, unless another has it."""
    taken = {*here.versions(), *here.removed()}
    numbers = []
    for one in missing:
        number: Version = one.version
        gone = here.removed_entry(str(number))
        if number in taken and not (gone is not None and gone.id == one.id):
            if not rebase:
                raise ConflictError(
                    f"{model}@{number} is another version here",
                    "give those of the backup the next free numbers: mstore restore --rebase",
                )
            number = next_version(taken, after=number, major=False)
        taken.add(number)
        numbers.append(str(number))
    return numbers


# --- doing it


def place(store: Store, plan: ModelPlan, files: ReadFile) -> list[Added]:
    """Make the versions of ``plan`` exist; return those that came.

    Raises:
        ConflictError: somebody made or changed the model since it was planned.
    """
    registry = store.registry(plan.model)
    if plan.as_it_was:
        with store.lock():
            if registry.exists():
                raise _moved(plan.model)
            _place_directories(store, plan, files)
            _write_registry(store, plan)
    else:
        _complete(store, plan)
        with store.lock():
            _place_directories(store, plan, files)
        if plan.added:
            store.change(plan.model, lambda state: _change(store, plan, state))
    return [
        Added(f"{plan.model}@{one.version}", f"{plan.model}@{number}") for one, number in plan.added
    ]


def _write_registry(store: Store, plan: ModelPlan) -> None:
    """Write the registry as it was; the base in refs/ decides, and the rest follows."""
    refs = store.meta / "refs" / plan.model
    disk.make_dir(store.root / plan.model)
    disk.make_dir(refs)
    disk.create(base_path(refs, plan.saved.state.seq), render(plan.saved.state.document))
    disk.sync_dir(refs)
    _write_journal(store, plan)
    store.registry(plan.model).bring_up()


def _complete(store: Store, plan: ModelPlan) -> None:
    """Finish what an interrupted restore of the whole model began."""
    registry = store.registry(plan.model)
    if registry.exists() and registry.state().head == plan.saved.state.head:
        with store.lock():
            _write_journal(store, plan)
        store.bring_up(plan.model)


def _write_journal(store: Store, plan: ModelPlan) -> None:
    path = store.root / plan.model / JOURNAL
    if plan.saved.journal and not path.exists():
        disk.create(path, plan.saved.journal)
        disk.sync_dir(path.parent)


def _place_directories(store: Store, plan: ModelPlan, files: ReadFile) -> None:
    """Put the small files of every version in place; what is there stays."""
    for number, entry in plan.entries.items():
        if entry.id is None:
            continue
        target = store.version_dir(plan.model, number)
        absent = [n for n in (MANIFEST, MODEL_INFO, README) if not os.path.lexists(target / n)]
        if not absent:
            continue
        small = {MANIFEST: store.blobs.read(entry.id)}
        for name in (MODEL_INFO, README):
            data = files(str(entry.version), name)
            if data is not None:
                small[name] = data
        _fill(target, {name: small[name] for name in absent if name in small})


def _fill(target: Path, small: Mapping[str, bytes]) -> None:
    if target.is_dir():
        for name, data in small.items():
            disk.replace(target / name, data)
        return
    disk.make_dir(target.parent)
    build_aside(target, small)


def _change(store: Store, plan: ModelPlan, here: State) -> Change:
    """Return the change that adds the versions, if their numbers are still free."""
    for one, number in plan.added:
        gone = here.removed_entry(number)
        if here.entry(number) is not None or (gone is not None and gone.id != one.id):
            raise _moved(plan.model)
    versions = {
        number: {
            **one.values,
            "seq": here.seq + 1,
            "path": f"{store.root.name}/{plan.model}/{number}",
        }
        for one, number in plan.added
    }
    first = not here.document["versions"]
    values = _values(plan, versions) if first else {}
    active = plan.saved.state.active
    if active not in versions:
        active = min(versions, key=parse_version)
    return Change(
        op="restore",
        versions=versions,
        values=values,
        active=active if first else None,
        why=f"from a backup of {len(versions)}",
        removed={n: None for n in versions if here.removed_entry(n) is not None},
    )


def _values(plan: ModelPlan, versions: Iterable[str]) -> dict[str, Any]:
    """Return what a model that is new here takes over beside its versions."""
    aliases = {name: v for name, v in plan.saved.state.aliases.items() if v in set(versions)}
    values: dict[str, Any] = {"aliases": aliases} if aliases else {}
    if plan.saved.state.base_model:
        values["base_model"] = plan.saved.state.base_model
    return values


def _moved(model: ModelName) -> ConflictError:
    return ConflictError(f"{model} was changed meanwhile", "run the command again")


# --- the store's own files


def place_files(store: Store, files: Mapping[str, bytes]) -> None:
    """Write the small files of the store itself that it lacks; settings go last, see below."""
    fresh = not any(store.state(model).document["versions"] for model in store.models())
    for path, data in files.items():
        target = store.root / path
        there = read(target)
        if path == CONFIG or there == data:
            continue
        if there is None or (fresh and path == ".gitignore"):  # which every new store has
            disk.make_dir(target.parent)
            disk.replace(target, data)


def place_settings(store: Store, files: Mapping[str, bytes]) -> None:
    """Write the settings of a store that has none, once the models are there that they name."""
    target = store.root / CONFIG
    if CONFIG in files:
        with store.lock():
            if read(target) is None:
                disk.replace(target, files[CONFIG])
