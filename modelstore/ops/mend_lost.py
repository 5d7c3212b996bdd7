"""A registry that is lost altogether is made again from the directories of its versions.

Each holds its version's manifest, whose digest is the version's id, so nothing but what the registry
alone knew is lost: which version was ACTIVE, aliases, notes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelstore import manifest as manifests
from modelstore.errors import ConflictError, IntegrityError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest
from modelstore.names import ModelName, is_model, is_version, parse_version
from modelstore.ops.card import MODEL_INFO
from modelstore.ops.findings import Finding
from modelstore.ops.leftover import own_files
from modelstore.ops.publish import Publication
from modelstore.ops.resolve import Resolved
from modelstore.ops.stage import Staged
from modelstore.reading import read_file
from modelstore.store import MANIFEST, META, Store


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A version of which there is the directory, and the content, but no registry."""

    version: str
    id: Digest
    manifest: Manifest
    directory: Path


def lost_registries(store: Store) -> Iterator[tuple[ModelName, list[Unlisted]]]:
    """Yield the models of which only the directories are left, with their versions in order."""
    for directory in sorted(store.root.iterdir()):
        if not directory.is_dir() or directory.name == META or not is_model(directory.name):
            continue
        model = ModelName(directory.name)
        registry = store.registry(model)
        if registry.exists() or registry.is_foreign():
            continue
        versions = list(_versions(store, directory))
        if versions:
            yield model, versions


def _versions(store: Store, directory: Path) -> Iterator[Unlisted]:
    names = [p.name for p in directory.iterdir() if is_version(p.name) and p.name[0] == "v"]
    for name in sorted(names, key=parse_version):
        with suppress(OSError, StoreError):
            data = read_file(directory / name / MANIFEST)
            if digest_of(data) in store.blobs:
                decoded = manifests.decode(data, name)
                yield Unlisted(name, digest_of(data), decoded, directory / name)


def check_lost(store: Store) -> Iterator[Finding]:
    """Yield a problem for every registry that is lost while its versions are there.

    Where there is one version only, a first commit may have been killed before it was one.
    """
    for model, versions in lost_registries(store):
        names = ", ".join(one.version for one in versions)
        if len(versions) > 1:
            what = f"has lost its registry; its versions are there: {names}"
            yield Finding("registry", model, what)
        else:
            what = f"has no registry: it was lost, or the commit of {names} was killed"
            yield Finding(
                "registry", model, f"{what}; take it over with: mstore adopt", serious=False
            )


def mend_lost(store: Store) -> None:
    """Register the versions again, with their numbers and ids; the lowest becomes ACTIVE."""
    for model, versions in list(lost_registries(store)):
        for one in versions:
            # one whose blobs are gone must not keep the others out
            with suppress(ConflictError, IntegrityError):
                _register(store, model, one)


def _register(store: Store, model: ModelName, one: Unlisted) -> None:
    registry = store.registry(model)
    state = registry.state() if registry.exists() else None
    entries = [state.with_id(digest) for digest in one.manifest.parents] if state else []
    Publication(
        model=model,
        manifest=one.manifest,
        id=one.id,
        staged=Staged(0, 0, frozenset(one.manifest.blobs())),
        parents=tuple(Resolved(model, entry) for entry in entries if entry is not None),
        version=one.version,
        in_place=True,
        stale=own_files(one.directory),
        major=False,
        activate=False,
        message=one.manifest.message,
        note="",
        description=_description(one.directory / MODEL_INFO),
        author=one.manifest.author,
        extra={},
        op="adopt",
    ).publish(store)


def _description(path: Path) -> str:
    try:
        value = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(value.get("description", "")) if isinstance(value, dict) else ""
