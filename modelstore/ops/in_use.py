"""What is in use, and so must stay: by a pointer, a directory with changes, or a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore.canonical import parse_mapping
from modelstore.errors import IntegrityError, StoreError
from modelstore.hashing import Digest, parse_digest
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops import card, place, working
from modelstore.ops.resolve import Resolved
from modelstore.state import State
from modelstore.store import Store


def pointers(state: State, version: str) -> tuple[str, ...]:
    """Return what points at a version: "ACTIVE", and "alias NAME" for each alias."""
    active = ("ACTIVE",) if state.active == version else ()
    return active + tuple(
        f"alias {name}" for name, v in sorted(state.aliases.items()) if v == version
    )


def training(store: Store) -> frozenset[str]:
    """Return the versions, as full refs, that trainings started from which are not over.

    Raises:
        StoreError: a run's directory cannot be read.
    """
    runs = store.meta / place.RUNS
    with disk.explained(runs, "read"):
        places = [runs / name / place.STARTED_FROM for name in os.listdir(runs)]
        return frozenset(p.read_text(encoding="utf-8").strip() for p in places if p.is_file())


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training's state after a step, whole.

    Attributes:
        path: the note that names it.
        step: optimizer steps done.
        manifest: the blob that names its files.
        cpu: seconds of computing up to then.
        own: the blobs that the store had not had before.
    """

    path: Path
    step: int
    manifest: Digest
    cpu: float
    own: frozenset[Digest]


def checkpoints(run: Path) -> list[Checkpoint]:
    """Return the checkpoints of the training in the directory ``run``, by step.

    Raises:
        IntegrityError: a note cannot be read, so that nobody can tell what it names.
        StoreError: the directory cannot be read.
    """
    directory = run / place.CHECKPOINTS
    if not directory.is_dir():
        return []
    with disk.explained(directory, "read"):
        notes = [path for path in directory.iterdir() if not path.name.startswith(".")]
    found = [one for one in map(_checkpoint, notes) if one is not None]
    return sorted(found, key=lambda one: one.step)


def _checkpoint(path: Path) -> Checkpoint | None:
    with disk.explained(path, "read"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None  # it went just now
    try:
        value = parse_mapping(data, f"'{path}'")
        step, cpu = int(value["step"]), float(value["cpu"])
        digest, own = parse_digest(value["manifest"]), frozenset(map(parse_digest, value["own"]))
    except (IntegrityError, KeyError, TypeError, ValueError) as error:
        run = path.parent.parent.name
        raise IntegrityError(
            f"'{path}' names no checkpoint", f"give the run up: mstore train --discard {run}"
        ) from error
    return Checkpoint(path, step, digest, cpu, own)


def checkpointed(store: Store) -> set[Digest]:
    """Return the manifests of the checkpoints of all trainings that are not over.

    Raises: as `checkpoints` does.
    """
    runs = store.meta / place.RUNS
    if not runs.is_dir():
        return set()
    with disk.explained(runs, "read"):
        places = [runs / name for name in os.listdir(runs)]
    return {one.manifest for run in places for one in checkpoints(run)}


def directories(store: Store, resolved: Resolved) -> list[Path]:
    """Return the version's directories in the store that exist: its own, and one of another name."""
    usual = store.version_dir(resolved.model, resolved.entry.version)
    both = dict.fromkeys([usual, place.home(store, resolved)])
    return [directory for directory in both if directory.is_dir()]


def local_changes(store: Store, resolved: Resolved) -> tuple[Path, list[str]] | None:
    """Return a directory of the version, and the files in it that nothing else holds; None for none.

    These are the version's files that were changed, and all further ones, be they such as a commit
    leaves out: nobody else may have a trainer's checkpoint. What mstore generates does not count.
    """
    try:
        manifest = store.manifest(resolved.model, resolved.entry)
    except StoreError:
        manifest = None  # then every file may be the last copy
    for directory in directories(store, resolved):
        changed = list(_changed(store, manifest, directory))
        if changed:
            return directory, changed
    return None


def protections(
    model: ModelName, state: State, version: str, trained: frozenset[str]
) -> tuple[str, ...]:
    """Return the reasons for which no policy removes a version; () for none.

    Args:
        trained: what `training` returns.
    """
    found = list(pointers(state, version))
    if f"{model}@{version}" in trained:
        found.append("training")
    return tuple(found)


def _changed(store: Store, manifest: Manifest | None, directory: Path) -> Iterator[str]:
    known = working.checkout_at(store, directory)
    files = {} if manifest is None else {file.path: file for file in manifest.files}
    for name in _files_in(directory):
        path, file = directory / name, files.get(name)
        if file is None:
            if name not in card.SMALL and not _is_worthless(path.name):
                yield name
        elif path.is_symlink() or not working.holds(path, file, known):
            yield name


def _is_worthless(name: str) -> bool:
    """Tell whether a file is what a file manager, or a killed mstore, leaves."""
    half_written = name.startswith(".") and name.endswith(".tmp")
    return half_written or name in {".DS_Store", "Thumbs.db"}


def _files_in(directory: Path) -> list[str]:
    """Return everything in a directory that is no directory, by its path below it, sorted."""
    found = []
    with disk.explained(directory, "read"):
        for parent, folders, names in os.walk(directory):
            links = [name for name in folders if Path(parent, name).is_symlink()]
            found += [
                Path(parent, name).relative_to(directory).as_posix() for name in names + links
            ]
    return sorted(found)
