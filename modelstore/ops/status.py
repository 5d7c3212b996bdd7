"""Status: what is checked out where, what was changed there, and what lies about unregistered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from modelstore.errors import StoreError
from modelstore.names import ModelName, is_version, parse_version
from modelstore.ops import tracking, working
from modelstore.ops.resolve import Resolved
from modelstore.ops.survey import plan_adopt
from modelstore.ops.tree import walk
from modelstore.state import Entry, State
from modelstore.store import MANIFEST, Store


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """A directory that holds files of a version.

    Attributes:
        path: the directory.
        ref: the version, in full.
        modified, missing, added: paths that differ from it.
    """

    path: Path
    ref: str
    modified: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether committing the directory would find nothing to commit."""
        return not (self.modified or self.missing or self.added)


@dataclass(frozen=True, slots=True)
class SeenAt:
    """A model as it was last seen at a remote.

    Attributes:
        remote: its name.
        same: whether the registry there is as the one here.
        ahead: versions here that are not there, by their content.
        behind: versions there that are not here.
    """

    remote: str
    same: bool
    ahead: tuple[str, ...]
    behind: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model.

    Attributes:
        model: its name.
        active, latest: versions, "" before the first.
        versions: how many it has.
        absent: versions that are registered without content.
        unregistered: version directories that the registry does not know and adopt would take.
        without_weights: those that adopt would leave alone, since they hold no weights.
        notice: what is odd about its registry, or "".
        remotes: what was last seen of it at each remote.
    """

    model: ModelName
    active: str
    latest: str
    versions: int
    absent: tuple[str, ...]
    unregistered: tuple[str, ...]
    without_weights: tuple[str, ...]
    notice: str
    remotes: tuple[SeenAt, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a store: its models, and the directories that hold files of versions."""

    models: tuple[ModelStatus, ...]
    copies: tuple[WorkingCopy, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing differs from what is committed."""
        return all(copy.clean for copy in self.copies)


def status(store: Store, only: ModelName | None = None) -> Status:
    """Look at every model, or at one, and at every directory that was checked out."""
    models = [only] if only is not None else store.models()
    copies = [
        copy
        for known in working.checkouts(store, partial=True)
        if known.model in models
        for copy in _copy(store, known)
    ]
    return Status(tuple(_model(store, model) for model in models), tuple(copies))


def _copy(store: Store, known: working.Checkout) -> Iterator[WorkingCopy]:
    entry = _entry(store.state(known.model), known)
    if entry is None:
        return
    resolved = Resolved(known.model, entry)
    manifest = store.manifest(known.model, entry)
    written = tuple(f for f in manifest.files if not known.partial or f.path in known.files)
    differences = working.compare(known.path, replace(manifest, files=written), known)
    own = {MANIFEST, *entry.mapping("generated")} if _is_home(store, known) else set()
    try:
        found = {file.path for file in walk(known.path).files}
    except StoreError:
        found = set()  # what cannot be committed is said when somebody tries to
    added = sorted(found - {file.path for file in manifest.files} - own)
    yield WorkingCopy(
        known.path, str(resolved), differences.modified, differences.missing, tuple(added)
    )


def _entry(state: State, known: working.Checkout) -> Entry | None:
    entry = state.entry(known.version)
    return entry if entry is not None and entry.id == known.id else state.with_id(known.id)


def _is_home(store: Store, known: working.Checkout) -> bool:
    return known.path == store.version_dir(known.model, known.version).resolve()


def _model(store: Store, model: ModelName) -> ModelStatus:
    state = store.state(model)
    entries = state.entries()
    unknown = _unregistered(store, model, state)
    adoptable = _adoptable(store, model, unknown) if unknown else set()
    return ModelStatus(
        model=model,
        active=state.active,
        latest=str(entries[-1].version) if entries else "",
        versions=len(entries),
        absent=_absent(store, entries),
        unregistered=tuple(name for name in unknown if name in adoptable),
        without_weights=tuple(name for name in unknown if name not in adoptable),
        notice=state.notice,
        remotes=tuple(_seen_at(store, model, state)),
    )


def _seen_at(store: Store, model: ModelName, state: State) -> Iterator[SeenAt]:
    ours = state.entries()
    for remote, other, document in tracking.all_seen(store):
        if other == model:
            theirs = State(document).entries()
            yield SeenAt(
                remote=remote,
                same=document["head"] == state.head,
                ahead=_without(ours, theirs),
                behind=_without(theirs, ours),
            )


def _without(entries: list[Entry], others: list[Entry]) -> tuple[str, ...]:
    known = {entry.id for entry in others}
    return tuple(str(e.version) for e in entries if e.id is not None and e.id not in known)


def _absent(store: Store, entries: list[Entry]) -> tuple[str, ...]:
    return tuple(str(e.version) for e in entries if e.id is None or e.id not in store.blobs)


def _unregistered(store: Store, model: ModelName, state: State) -> list[str]:
    """Return the version directories of no version that there is or was, sorted."""
    directory = store.root / model
    if not directory.is_dir():
        return []
    removed = set(state.removed())
    found = (path.name for path in directory.iterdir() if path.is_dir())
    names = (name for name in found if is_version(name) and name[0] == "v")
    return sorted(n for n in names if not state.entry(n) and parse_version(n) not in removed)


def _adoptable(store: Store, model: ModelName, names: list[str]) -> set[str]:
    """Return those of ``names`` that adopt would take, or would say why it cannot."""
    try:
        plans = [plan for plan in plan_adopt(store.root).models if plan.model == model]
    except StoreError:
        return set(names)
    versions = [version for plan in plans for version in plan.versions]
    return {v.directory.name for v in versions if v.directory and (v.problem or not v.missing)}
