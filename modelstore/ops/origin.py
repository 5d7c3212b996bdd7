"""Where a committed path lies, and so what it was made from and which of its files are content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore.blobs.source import FileSource
from modelstore.errors import ConflictError, StoreError, UsageError
from modelstore.names import ModelName, is_version, parse_version
from modelstore.ops import leftover, working
from modelstore.ops.card import MODEL_INFO
from modelstore.ops.resolve import Resolved
from modelstore.ops.tree import Found, Tree, walk
from modelstore.registry import VIEW
from modelstore.state import State, empty_document
from modelstore.store import MANIFEST, META, Store, model_of_path

_MOST_INFO = 4 << 20
"""Bytes of a `model_info.json` that is understood."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the committed path lies.

    Attributes:
        checkout: the version it was checked out from, or None.
        recorded: whether it is a working directory elsewhere, which moves on to what is committed.
        adoptable: the version it is called if it is a version directory that is not registered.
        own: files in it that mstore generated, by their digest.
    """

    checkout: Resolved | None = None
    recorded: bool = False
    adoptable: str = ""
    own: Mapping[str, str] = field(default_factory=dict)


def state_of(store: Store, model: ModelName) -> State:
    """Return the state of ``model``, the empty one if it is about to begin.

    Raises:
        ConflictError: it would begin with a name that some systems take for another model's.
    """
    registry = store.registry(model)
    if registry.exists() or registry.is_foreign():  # a foreign one is refused before any work
        return registry.state()
    for other in store.models():
        if other.casefold() == model.casefold():
            raise ConflictError(
                f"{model!r} and the model {other!r} are one name on some systems",
                f"use another name, or commit to it: mstore commit PATH -M {other}",
            )
    return State(empty_document(model))


def place_of(store: Store, path: Path, model: ModelName, version: str) -> Place:
    """Return where ``path`` lies.

    Args:
        version: the number that the version is to have, or "".
    """
    inside = model_of_path(store, path)
    of_a_version = inside is not None and is_version(inside[1])
    if inside is not None and of_a_version and _is_two_below(store, path):
        home, name = inside
        registry = store.registry(home)
        entry = state_of(store, home).entry(name) if registry.exists() else None
        if entry is not None and entry.id is not None:
            own = {**entry.mapping("generated"), MANIFEST: entry.id}
            return Place(checkout=Resolved(home, entry), own=own)
        if home == model and name == str(parse_version(name)) and version in ("", name):
            return Place(adoptable=name, own=leftover.own_files(path))
        return Place()
    known = working.checkout_at(store, path)
    if known is None:
        return Place()
    exists = store.registry(known.model).exists()
    entry = store.state(known.model).with_id(known.id) if exists else None
    return Place(checkout=Resolved(known.model, entry) if entry else None, recorded=True)


def _is_two_below(store: Store, path: Path) -> bool:
    return path.resolve().parent.parent == store.root.resolve()


def content(store: Store, path: Path, place: Place, *, follow_symlinks: bool) -> Tree:
    """Return the files at ``path`` that become a version.

    Raises:
        UsageError: there is none, or ``path`` is no single version.
    """
    root, real = store.root.resolve(), path.resolve()
    internal = real.is_relative_to(root / META)
    of_a_run = real.is_relative_to(root / META / "runs")  # what a training has made
    if real == root or real in root.parents or (internal and not of_a_run):
        raise UsageError(f"'{path}' is the store itself", "give the directory of one version")
    if real.parent == root and real.is_dir() and (real / VIEW).exists():
        raise UsageError(f"'{path}' holds all versions of a model", f"give one: {path}/v1.0")
    tree = walk(path, follow_symlinks=follow_symlinks)
    files = tuple(file for file in tree.files if not _is_own(file, place))
    if not files:
        raise UsageError(f"'{path}' holds no files to commit", "check the path and .mstoreignore")
    return Tree(files, tree.skipped)


def _is_own(file: Found, place: Place) -> bool:
    digest = place.own.get(file.path)
    return digest is not None and working.hash_file(file.source) == digest


@dataclass(frozen=True, slots=True)
class Info:
    """What a training left in `model_info.json` beside the weights; nothing where there is none."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path) -> Info:
        """Read it; what cannot be read says nothing."""
        try:
            with FileSource(path / MODEL_INFO) as source:
                value = json.loads(source.read(0, min(source.size, _MOST_INFO)))
        except (StoreError, ValueError, RecursionError):
            return cls({})
        return cls(value if isinstance(value, dict) else {})

    def mapping(self, key: str) -> dict[str, object]:
        """Return the numbers and texts of the object at ``key``, {} where there is none."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            return {}
        return {k: v for k, v in value.items() if isinstance(v, str | int | float)}

    def text(self, key: str) -> str:
        """Return the text at ``key``, "" where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""
