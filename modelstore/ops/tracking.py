"""What was last seen of the registries at remotes: `.mstore/remotes/<name>/<model>.json`.

It is the registry there, byte for byte. gc keeps what its versions need, as far as that is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.hashing import Digest
from modelstore.names import ModelName, is_model
from modelstore.records import read
from modelstore.state import State
from modelstore.store import Store
from modelstore.view import open_view

DIRECTORY = "remotes"

LAZY = "lazy"
"""The setting that names the remote whose frames are fetched only when they are needed."""


def path_of(store: Store, remote: str, model: ModelName) -> Path:
    """Return where the registry of a model, as last seen at a remote, lies or would lie."""
    return store.meta / DIRECTORY / remote / f"{model}.json"


def note(store: Store, remote: str, model: ModelName, data: bytes) -> None:
    """Keep the registry of a model as it was seen at a remote."""
    path = path_of(store, remote, model)
    if read(path) != data:
        disk.make_dir(path.parent)
        disk.replace(path, data)


def seen(store: Store, remote: str, model: ModelName) -> Mapping[str, Any] | None:
    """Return the registry of a model as it was last seen at a remote; None where it never was."""
    return open_view(read(path_of(store, remote, model)), f"{model} at {remote}")


def forget(store: Store, remote: str) -> None:
    """Forget all that was seen at a remote."""
    disk.remove_tree(store.meta / DIRECTORY / remote)


def all_seen(store: Store) -> Iterator[tuple[str, ModelName, Mapping[str, Any]]]:
    """Yield every registry that was seen: the remote, the model, and its state."""
    for path in sorted((store.meta / DIRECTORY).glob("*/*.json")):
        if is_model(path.stem):
            document = open_view(read(path), path.name)
            if document is not None:
                yield path.parent.name, ModelName(path.stem), document


def manifests(store: Store) -> set[Digest]:
    """Return the manifests of all versions that were seen at remotes."""
    found = (State(document).entries() for _, _, document in all_seen(store))
    return {entry.id for entries in found for entry in entries if entry.id is not None}


def lazy(store: Store) -> str:
    """Return the remote whose frames are fetched only when they are needed, "" for none."""
    name = store.config().get(LAZY)
    return name if isinstance(name, str) else ""
