"""Adopt: an existing directory of models becomes a store, and nothing in it is lost.

First a registry of ours lists every version that the old one lists, as missing, with all that was
said of it. Then each version whose files are there is committed where it lies, oldest first, so
that it can be stored as a change of the one before. A run that was cut short is continued by
running it again; so is what was put there since, edited in the registry, or lost from the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelstore.errors import ConflictError, DiskFullError, StoreError
from modelstore.names import ModelName, Version
from modelstore.ops import working
from modelstore.ops.adopt_plan import AdoptPlan, ModelPlan, VersionPlan
from modelstore.ops.card import MODEL_INFO, README
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.edits import read_edits
from modelstore.ops.foreign_entry import beside
from modelstore.ops.heal import heal
from modelstore.ops.resolve import resolve
from modelstore.progress import Progress, silent
from modelstore.sizes import human_size
from modelstore.state import Change, State
from modelstore.store import MANIFEST, Store, create

_ROOM = 16 << 20
"""Bytes beside the files': directories, registries, manifests."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A version whose files were not taken: what went wrong, and what to do about it."""

    ref: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Healed:
    """A version whose content the store had lost and now has again: how many blobs came back."""

    ref: str
    blobs: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """What adopt did.

    Attributes:
        models: those that got a registry of mstore.
        versions: those whose files are stored now.
        missing: full refs of those that are listed without files.
        failed: those whose files could not be taken.
        releasable: bytes that ``mstore checkout --release`` of the adopted versions would free.
        active: the ACTIVE version of each model, as full refs.
        healed: those whose content was brought back.
    """

    models: tuple[ModelName, ...]
    versions: tuple[Committed, ...]
    missing: tuple[str, ...]
    failed: tuple[Failed, ...]
    releasable: int
    active: tuple[str, ...]
    healed: tuple[Healed, ...] = ()


def adopt(
    root: Path, plan: AdoptPlan, progress: Progress = silent, *, force: bool = False
) -> Adopted:
    """Do what ``plan`` says; without anything to do, change nothing.

    Args:
        force: begin although the worst case does not fit on the disk.

    Raises:
        DiskFullError: no room; what was adopted until then is whole.
        ConflictError: somebody else adopted it meanwhile.
    """
    if not plan.pending:
        return Adopted((), (), (), tuple(_problems(plan)), 0, ())
    if plan.need + _ROOM > plan.free and not force:
        raise DiskFullError(
            f"adopting '{root}' takes up to {human_size(plan.need)} and "
            f"{human_size(plan.free)} are free",
            "begin all the same with: mstore adopt --force; it stops where the disk is full, "
            "and goes on when run again",
        )
    store = create(root)
    for model in plan.models:
        if model.fresh:
            _register(store, model)
        elif model.ahead:
            with store.lock():
                store.registry(model.model).take_over()
    done: list[Committed] = []
    healed: list[Healed] = []
    failed = list(_problems(plan))
    releasable = 0
    for model in plan.models:
        for version in _in_order(model.versions):
            result = _try(store, model, version, plan.follow_symlinks, progress)
            if isinstance(result, Failed):
                failed.append(result)
            elif isinstance(result, Healed):
                healed.append(result)
            else:
                done.append(result)
                releasable += _releasable(version)
        _note(store, model)
    return Adopted(
        models=tuple(model.model for model in plan.models if model.fresh),
        versions=tuple(done),
        missing=_missing(plan),
        failed=tuple(failed),
        releasable=releasable,
        active=tuple(_active(store, plan)),
        healed=tuple(healed),
    )


def _register(store: Store, plan: ModelPlan) -> None:
    """Give the model a registry that lists every version as missing; the old one is kept."""

    def decide(state: State) -> Change:
        if state.seq:
            raise ConflictError(f"somebody adopted {plan.model} meanwhile", "run: mstore adopt")
        versions = {str(v.version): {**v.values, "seq": 1} for v in plan.versions}
        return Change("adopt", versions=versions, values=plan.values, active=plan.active or None)

    store.change(plan.model, decide, adopting=True)


def _note(store: Store, plan: ModelPlan) -> None:
    """Take over what edited views say of known versions, and write what `.mstore` lacks of records."""
    registry = store.registry(plan.model)
    if plan.edits.pending:  # read anew: the edited view may have given way to a commit meanwhile
        store.change(plan.model, lambda state: read_edits(registry, state).change(state))
    elif any(version.lost for version in plan.versions) and not registry.has_records():
        store.change(plan.model, lambda _: Change("adopt", why="brought content back"))


def _try(
    store: Store, model: ModelPlan, plan: VersionPlan, follow_symlinks: bool, progress: Progress
) -> Committed | Healed | Failed:
    """Store one version; what is wrong with it alone must not keep the others out."""
    try:
        if plan.lost:
            return _bring_back(store, model, plan, progress)
        return _take(store, model, plan, follow_symlinks, progress)
    except DiskFullError:
        raise
    except StoreError as error:
        return Failed(f"{model.model}@{plan.version}", error.message, error.hint)


def _bring_back(store: Store, model: ModelPlan, plan: VersionPlan, progress: Progress) -> Healed:
    """Bring back what the store has lost of a version, and note that its files lie there."""
    resolved = resolve(store, f"{model.model}@{plan.version}")
    directory = _directory(model, plan)
    count = heal(store, resolved, directory, progress)
    manifest = store.manifest(model.model, resolved.entry)
    if working.compare(directory, manifest, None).clean:
        working.record(store, directory, resolved, manifest.files)
    return Healed(str(resolved), count)


def _directory(model: ModelPlan, plan: VersionPlan) -> Path:
    if plan.directory is None:
        raise ConflictError(f"{model.model}@{plan.version} has no files", "run: mstore adopt")
    return plan.directory


def _take(
    store: Store, model: ModelPlan, plan: VersionPlan, follow_symlinks: bool, progress: Progress
) -> Committed:
    """Commit the files of one version where they lie."""
    directory = _directory(model, plan)
    state = store.state(model.model)
    said = plan.told
    options = CommitOptions(
        message=said.message or said.description.split("\n")[0],
        version=str(plan.version),
        parents=_parents(model.model, state, plan),
        parameters=said.parameters,
        metrics=said.metrics,
        base_model=said.base_model,
        note=said.notes,
        description=said.description,
        created_at=said.created_at,
        allow_empty=True,
        activate=not state.active,
        follow_symlinks=follow_symlinks,
        extra=beside(plan.values),
        op="adopt",
    )
    committed = commit(store, directory, model.model, options, progress)
    if not plan.in_place:
        resolved = resolve(store, f"{model.model}@{committed.version}")
        manifest = store.manifest(model.model, resolved.entry)
        working.record(store, directory, resolved, manifest.files)
    return committed


def _parents(model: ModelName, state: State, plan: VersionPlan) -> list[str]:
    """Return the version that it is said to come from, else the highest lower one that is stored."""
    stored = [entry.version for entry in state.entries() if entry.id is not None]
    if plan.told.parent in stored:
        return [f"{model}@{plan.told.parent}"]
    lower = [version for version in stored if version < plan.version]
    return [f"{model}@{max(lower)}"] if lower else []


def _in_order(plans: Sequence[VersionPlan]) -> Iterator[VersionPlan]:
    """Yield the versions to store by number, but each after the one that it is said to come from."""
    waiting = {plan.version: plan for plan in plans if not plan.missing}

    def visit(version: Version) -> Iterator[VersionPlan]:
        plan = waiting.pop(version, None)
        if plan is None:
            return
        if plan.told.parent is not None:
            yield from visit(plan.told.parent)
        yield plan

    for version in sorted(waiting):
        yield from visit(version)


def _problems(plan: AdoptPlan) -> Iterator[Failed]:
    for model in plan.models:
        for version in model.versions:
            if version.problem:
                yield Failed(f"{model.model}@{version.version}", version.problem, "run it again")


def _missing(plan: AdoptPlan) -> tuple[str, ...]:
    return tuple(
        f"{model.model}@{version.version}"
        for model in plan.models
        for version in model.versions
        if version.missing and not version.problem
    )


def _releasable(plan: VersionPlan) -> int:
    if not plan.in_place:
        return 0
    stay = {README, MODEL_INFO, MANIFEST}
    return sum(file.size for file in plan.tree.files if file.path not in stay)


def _active(store: Store, plan: AdoptPlan) -> Iterator[str]:
    for model in plan.models:
        active = store.state(model.model).active
        if active:
            yield f"{model.model}@{active}"
