"""What a new version would say, before anything is stored: its manifest, and whether it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore import manifest
from modelstore.curve import CurvePoint
from modelstore.errors import StoreError
from modelstore.manifest import FileEntry, Manifest
from modelstore.names import ModelName
from modelstore.ops.adapter import is_of_adapter, without_adapter
from modelstore.ops.origin import Info, state_of
from modelstore.ops.resolve import Resolved
from modelstore.state import State
from modelstore.store import Store, now


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
        curve: how the loss went.
        base_model: as the user spells it; "": the parent's, else the line's.
        note, description: kept in the registry, where they may change.
        author: who.
        created_at: RFC 3339; "" for now.
        allow_empty: commit even what is equal to its parent.
        activate: make it ACTIVE; a first version always is.
        move: the files go into the version's directory instead of staying where they are.
        follow_symlinks: take what symlinks lead to.
        adapter: directory of the PEFT adapter that was merged into the files, or None.
        expected: by path, what a file is known to hold where it comes from: its SHA-256, or the SHA-1
            that git gives it.
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
    curve: Sequence[CurvePoint] = ()
    base_model: str = ""
    note: str = ""
    description: str = ""
    author: str = ""
    created_at: str = ""
    allow_empty: bool = False
    activate: bool = False
    move: bool = False
    follow_symlinks: bool = False
    adapter: Path | None = None
    expected: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    op: str = "commit"


def files_of(store: Store, parents: Sequence[Resolved]) -> dict[str, FileEntry]:
    """Return the files of the first parent by path; none if that cannot be read."""
    for parent in parents[:1]:
        with suppress(StoreError):
            manifest = store.manifest(parent.model, parent.entry)
            return {file.path: file for file in manifest.files}
    return {}


def draft_of(
    info: Info,
    state: State,
    parents: Sequence[Resolved],
    entries: Sequence[FileEntry],
    options: CommitOptions,
) -> Manifest:
    """Return the manifest of a version that consists of ``entries``, which are sorted by path.

    Args:
        info: what a training left beside the files.
        state: of the line that it will belong to.
        parents: the versions it is made from.
    """
    inherited = parents[0].entry.text("base_model") if parents else ""
    files = [entry for entry in entries if not is_of_adapter(entry)]
    weights = [file.size for file in files if any(span.tensors for span in file.spans)]
    size = sum(weights) or sum(entry.size for entry in entries)
    metrics = {**info.mapping("metrics"), **options.metrics}
    parameters = {**info.mapping("training_parameters"), **options.parameters}
    return Manifest(
        files=tuple(entries),
        parents=tuple(parent.id for parent in parents if parent.id is not None),
        message=options.message,
        author=options.author,
        created_at=options.created_at or now(),
        base_model=options.base_model or inherited or info.text("base_model") or state.base_model,
        parameters=manifest.to_scalars(parameters),
        metrics=manifest.to_scalars({"model_size": size, **metrics}),
        data=tuple(manifest.to_scalars(row) for row in options.data),
        environment=manifest.to_scalars(options.environment),
        curve=tuple(options.curve),
    )


def same_content(
    store: Store, model: ModelName, parents: Sequence[Resolved], draft: Manifest
) -> Resolved | None:
    """Return the version of ``model`` that has this content already, or None.

    That is the parent, or the newest of the line if the parent is another line's.
    """
    if len(parents) != 1 or not _equals(store, parents[0], draft):
        return None
    if parents[0].model == model:
        return parents[0]
    newest = state_of(store, model).newest_stored()
    own = Resolved(model, newest) if newest is not None else None
    return own if own is not None and _equals(store, own, draft) else None


def _equals(store: Store, version: Resolved, draft: Manifest) -> bool:
    return store.manifest(version.model, version.entry).content() == draft.content()


def schema_warning(
    store: Store, parents: Sequence[Resolved], draft: Manifest, options: CommitOptions
) -> tuple[str, ...]:
    """Return what there is to say where a version has other tensors than the one before it."""
    if not parents or options.major or options.version:
        return ()
    parent = parents[0]
    before, after = (
        without_adapter(each) for each in (store.manifest(parent.model, parent.entry), draft)
    )
    if not any(before.tensors()) or before.schema_fingerprint == after.schema_fingerprint:
        return ()
    change = f"the tensors have other names, dtypes or shapes than those of {parent}"
    return (f"{change}; to number such a version as a new major one, commit it with --major",)
