"""Commit: a directory or a file becomes the next version of a model.

Every step that can fail comes before the registry changes; what a failed commit leaves is staging
that dies with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelstore import disk, manifest
from modelstore.errors import NotFoundError, UsageError
from modelstore.hashing import Digest
from modelstore.manifest import Manifest
from modelstore.names import ModelName, is_version, parse_version
from modelstore.ops import card, leftover, working
from modelstore.ops.publish import Publication, Published
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.ops.scan import Scanned, scan
from modelstore.ops.stage import stage
from modelstore.ops.tree import Found, Tree, walk
from modelstore.progress import Progress, silent
from modelstore.registry import VIEW
from modelstore.state import State, empty_document
from modelstore.store import MANIFEST, META, Store, model_of_path, now


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """What a commit says beside the files.

    Attributes:
        message: why this version exists.
        version: its number, or "" for the next.
        parents: refs of the versions it was made from; None: the one PATH was checked out from,
            else the model's latest.
        major: start the next major line.
        parameters, metrics: of the training; `model_info.json` in the directory fills in the rest.
        data: one mapping (name, size, rows, blake3) per file of training data.
        environment: what it was trained with.
        base_model: as the user spells it; "": the parent's, else the line's.
        note, description: kept in the registry, where they may change.
        author: who.
        created_at: RFC 3339; "" for now.
        allow_empty: commit even what is equal to its parent.
        activate: make it ACTIVE; a first version always is.
        move: the files go into the version's directory instead of staying where they are.
        follow_symlinks: take what symlinks lead to.
        extra: further keys for the version's registry entry.
        op: the verb the journal records.
    """

    message: str = ""
    version: str = ""
    parents: Sequence[str] | None = None
    major: bool = False
    parameters: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    data: Sequence[Mapping[str, object]] = ()
    environment: Mapping[str, object] = field(default_factory=dict)
    base_model: str = ""
    note: str = ""
    description: str = ""
    author: str = ""
    created_at: str = ""
    allow_empty: bool = False
    activate: bool = False
    move: bool = False
    follow_symlinks: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    op: str = "commit"


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did.

    Attributes:
        model, version, id: the version; the parent's where there was nothing to commit.
        created: False where the content equals the parent's and nothing was done.
        parent: the first parent, as a full ref, or "".
        active: whether it is ACTIVE now.
        files, tensors: how many it has.
        size: bytes of its files.
        stored: bytes it added to the store.
        new_blobs: blobs it added, the manifest not counted.
        skipped: paths that a rule left out.
        warnings: sentences about what was odd.
    """

    model: ModelName
    version: str
    id: Digest
    created: bool
    parent: str
    active: bool
    files: int
    tensors: int
    size: int
    stored: int
    new_blobs: int
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


def commit(
    store: Store,
    path: Path,
    model: ModelName,
    options: CommitOptions,
    progress: Progress = silent,
) -> Committed:
    """Make the files at ``path`` the next version of ``model``.

    A version directory of the model that no registry knows yet is taken as what its name says.

    Raises:
        NotFoundError: nothing at ``path``, or a parent that does not exist.
        ConflictError: the version exists, or a file changed while it was read.
        DiskFullError: no room; nothing was changed.
    """
    state = _state(store, model)
    place = _place(store, path, model, state, options.version)
    tree = _content(store, path, place, options)
    parents = _parents(store, model, state, place, options)
    scanned = scan(tree.files, progress)
    draft = _draft(path, state, parents, scanned, options)
    warnings = (*_warnings(scanned), *_schema_warning(store, parents, draft, options))
    outcome = _Outcome(draft, tree, warnings, tuple(parents))
    if not options.allow_empty and not place.adoptable and _equals(store, parents, draft):
        return outcome.nothing()
    store.prepare()
    with store.blobs.transaction() as transaction:
        staged = stage(store, transaction, scanned, parents, progress)
        digest = transaction.add_bytes(manifest.encode(draft))
        transaction.publish()
    published = Publication(
        model=model,
        manifest=draft,
        id=digest,
        staged=staged,
        parents=tuple(parents),
        version=place.adoptable or options.version,
        in_place=bool(place.adoptable),
        stale=place.own if place.adoptable else {},
        major=options.major,
        activate=options.activate,
        message=options.message,
        note=options.note,
        description=options.description or _info_text(path, "description"),
        author=options.author,
        extra=options.extra,
        op=options.op,
    ).publish(store)
    _settle(store, path, published, scanned, options, place)
    return outcome.created(published)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the committed path lies.

    Attributes:
        checkout: the version it was checked out from, or None.
        adoptable: the version it is called if it is a version directory that is not registered.
        own: files in it that mstore generated, by their digest.
    """

    checkout: Resolved | None = None
    adoptable: str = ""
    own: Mapping[str, str] = field(default_factory=dict)


def _state(store: Store, model: ModelName) -> State:
    registry = store.registry(model)
    known = registry.exists() or registry.is_foreign()  # a foreign one is refused before any work
    return registry.state() if known else State(empty_document(model))


def _place(store: Store, path: Path, model: ModelName, state: State, version: str) -> _Place:
    inside = model_of_path(store, path)
    if (
        inside is not None
        and is_version(inside[1])
        and path.resolve().parent.parent == (store.root.resolve())
    ):
        home, name = inside
        entry = _state(store, home).entry(name)
        if entry is not None and entry.id is not None:
            own = {**entry.mapping("generated"), MANIFEST: entry.id}
            return _Place(checkout=Resolved(home, entry), own=own)
        if home == model and name == str(parse_version(name)) and version in ("", name):
            return _Place(adoptable=name, own=leftover.own_files(path))
        return _Place()
    known = working.checkout_at(store, path)
    if known is not None and store.registry(known.model).exists():
        entry = store.state(known.model).with_id(known.id)
        return _Place(checkout=Resolved(known.model, entry)) if entry else _Place()
    return _Place()


def _content(store: Store, path: Path, place: _Place, options: CommitOptions) -> Tree:
    root, real = store.root.resolve(), path.resolve()
    internal = real.is_relative_to(root / META)
    of_a_run = real.is_relative_to(root / META / "runs")  # what a training has made
    if real == root or real in root.parents or (internal and not of_a_run):
        raise UsageError(f"'{path}' is the store itself", "give the directory of one version")
    if real.parent == root and real.is_dir() and (real / VIEW).exists():
        raise UsageError(f"'{path}' holds all versions of a model", f"give one: {path}/v1.0")
    tree = walk(path, follow_symlinks=options.follow_symlinks)
    files = tuple(file for file in tree.files if not _is_own(file, place))
    if not files:
        raise UsageError(f"'{path}' holds no files to commit", "check the path and .mstoreignore")
    return Tree(files, tree.skipped)


def _is_own(file: Found, place: _Place) -> bool:
    digest = place.own.get(file.path)
    return digest is not None and working.hash_file(file.source) == digest


def _parents(
    store: Store, model: ModelName, state: State, place: _Place, options: CommitOptions
) -> list[Resolved]:
    if options.parents is not None:
        return [resolve(store, text, Context(model=model)) for text in options.parents]
    if place.checkout is not None:
        return [place.checkout]
    newest = state.newest_stored()
    return [Resolved(model, newest)] if newest else []


def _draft(
    path: Path,
    state: State,
    parents: Sequence[Resolved],
    scanned: Sequence[Scanned],
    options: CommitOptions,
) -> Manifest:
    inherited = parents[0].entry.text("base_model") if parents else ""
    weights = [s.entry.size for s in scanned if any(span.tensors for span in s.entry.spans)]
    size = sum(weights) or sum(s.entry.size for s in scanned)
    metrics = {**_info_mapping(path, "metrics"), **options.metrics}
    parameters = {**_info_mapping(path, "training_parameters"), **options.parameters}
    return Manifest(
        files=tuple(item.entry for item in scanned),
        parents=tuple(parent.id for parent in parents if parent.id is not None),
        message=options.message,
        author=options.author,
        created_at=options.created_at or now(),
        base_model=options.base_model
        or inherited
        or _info_text(path, "base_model")
        or state.base_model,
        parameters=manifest.to_scalars(parameters),
        metrics=manifest.to_scalars({"model_size": size, **metrics}),
        data=tuple(manifest.to_scalars(row) for row in options.data),
        environment=manifest.to_scalars(options.environment),
    )


def _info(path: Path) -> dict[str, Any]:
    """Return the `model_info.json` that the training left beside the weights, {} if none."""
    try:
        value = json.loads((path / card.MODEL_INFO).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _info_mapping(path: Path, key: str) -> dict[str, object]:
    value = _info(path).get(key)
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, str | int | float)}


def _info_text(path: Path, key: str) -> str:
    value = _info(path).get(key)
    return value if isinstance(value, str) else ""


def _equals(store: Store, parents: Sequence[Resolved], draft: Manifest) -> bool:
    if len(parents) != 1:
        return False
    return store.manifest(parents[0].model, parents[0].entry).content() == draft.content()


def _warnings(scanned: Sequence[Scanned]) -> tuple[str, ...]:
    return tuple(f"{item.found.path}: {item.warning}" for item in scanned if item.warning)


def _schema_warning(
    store: Store, parents: Sequence[Resolved], draft: Manifest, options: CommitOptions
) -> tuple[str, ...]:
    if not parents or options.major or options.version:
        return ()
    parent = parents[0]
    before = store.manifest(parent.model, parent.entry)
    if not any(before.tensors()) or before.schema_fingerprint == draft.schema_fingerprint:
        return ()
    warning = f"the tensors have other names, dtypes or shapes than in {parent}"
    return (f"{warning}; commit with --major where that should show",)


def _settle(
    store: Store,
    path: Path,
    published: Published,
    scanned: Sequence[Scanned],
    options: CommitOptions,
    place: _Place,
) -> None:
    """Move the files where they belong and note what is checked out where; all is durable now."""
    target = store.version_dir(published.model, published.entry.version)
    if options.move and not place.adoptable:
        for item in scanned:
            _move(item.found.source, target / item.found.path)
        if path.is_dir():
            parents = {file.found.source.parent for file in scanned}
            disk.remove_empty_dirs([*parents, path])
        working.forget(store, path)
    elif not place.adoptable:
        return
    resolved = Resolved(published.model, published.entry)
    working.record(store, target, resolved, [item.entry for item in scanned])


def _move(source: Path, target: Path) -> None:
    if target.exists():  # README.md or model_info.json, written with the version's directory
        disk.remove(source)
        return
    disk.make_dir(target.parent)
    try:
        disk.rename(source, target)
    except Exception as error:
        if not isinstance(error.__cause__, OSError):
            raise
        disk.copy_new(source, target)
        disk.remove(source)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What there is to report, whichever way the commit ends."""

    draft: Manifest
    tree: Tree
    warnings: tuple[str, ...]
    parents: tuple[Resolved, ...]

    def nothing(self) -> Committed:
        """Report that the content equals the parent's."""
        parent = self.parents[0]
        if parent.id is None:
            raise NotFoundError(f"{parent} has no content", "run: mstore adopt")
        return self._report(parent.model, str(parent.entry.version), parent.id)

    def created(self, published: Published) -> Committed:
        """Report the version that was made."""
        report = self._report(published.model, str(published.entry.version), published.id)
        return replace(
            report,
            created=True,
            active=published.active,
            stored=published.stored,
            new_blobs=published.new_blobs,
        )

    def _report(self, model: ModelName, version: str, digest: Digest) -> Committed:
        return Committed(
            model=model,
            version=version,
            id=digest,
            created=False,
            parent=str(self.parents[0]) if self.parents else "",
            active=False,
            files=len(self.draft.files),
            tensors=sum(1 for _ in self.draft.tensors()),
            size=self.draft.size,
            stored=0,
            new_blobs=0,
            skipped=self.tree.skipped,
            warnings=self.warnings,
        )
