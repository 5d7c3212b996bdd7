"""What is checked out where: a record per directory, and how a directory differs from its version.

A record holds each file's size, time and inode as they were when the file was known to be right,
so that looking again costs a stat and not a reading (git's index does the same).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError
from modelstore.hashing import Digest, Hasher, digest_of, parse_digest
from modelstore.manifest import FileEntry, Manifest
from modelstore.names import ModelName, parse_model
from modelstore.ops.resolve import Resolved
from modelstore.store import Store

_SCHEMA = "mstore/checkout/1"
_PIECE = 8 << 20
_RACE = 2_000_000_000
"""Nanoseconds: a file this much younger than its record is hashed, its time may hide a change."""

Stamp = tuple[int, int, int]
"""Size in bytes, modification time in nanoseconds, inode."""


@dataclass(frozen=True, slots=True)
class Noted:
    """One file as it was when it was known to be right: its stamp and its digest."""

    stamp: Stamp
    blake3: Digest


@dataclass(frozen=True, slots=True)
class Checkout:
    """A directory that a version was written to.

    Attributes:
        path: the directory, absolute.
        model, version, id: what was written.
        made_at: when that was noted, in nanoseconds.
        files: what was noted of each, by its path within the version.
    """

    path: Path
    model: ModelName
    version: str
    id: Digest
    made_at: int
    files: Mapping[str, Noted]


def record(store: Store, path: Path, resolved: Resolved, files: Sequence[FileEntry]) -> None:
    """Note that ``path`` holds ``files`` of a version, which are known to be right just now."""
    value = {
        "schema": _SCHEMA,
        "path": str(path.resolve()),
        "model": resolved.model,
        "version": str(resolved.entry.version),
        "id": resolved.id,
        "made_at": time.time_ns(),
        "files": {file.path: [*stamp(path / file.path), file.blake3] for file in files},
    }
    disk.make_dir(store.meta / "checkouts")
    disk.replace(_record_path(store, path), line(value).encode("utf-8") + b"\n")


def forget(store: Store, path: Path) -> None:
    """Remove the record of ``path``."""
    disk.remove(_record_path(store, path))


def checkout_at(store: Store, path: Path) -> Checkout | None:
    """Return the record of the directory ``path``, None where there is none that can be read."""
    return _load(_record_path(store, path))


def checkouts(store: Store) -> list[Checkout]:
    """Return the records of all directories that still exist, sorted by path."""
    directory = store.meta / "checkouts"
    if not directory.is_dir():
        return []
    found = (_load(path) for path in directory.glob("*.json"))
    return sorted((c for c in found if c and c.path.is_dir()), key=lambda c: c.path)


@dataclass(frozen=True, slots=True)
class Differences:
    """How a directory differs from a version: paths that are modified, or missing."""

    modified: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether there is none."""
        return not self.modified and not self.missing


def compare(directory: Path, manifest: Manifest, known: Checkout | None) -> Differences:
    """Return how ``directory`` differs from ``manifest``; files of neither are not looked at."""
    modified, missing = [], []
    for file in manifest.files:
        path = directory / file.path
        if not path.is_file() or path.is_symlink():
            missing.append(file.path) if not path.exists() else modified.append(file.path)
        elif not holds(path, file, known):
            modified.append(file.path)
    return Differences(tuple(modified), tuple(missing))


def holds(path: Path, file: FileEntry, known: Checkout | None) -> bool:
    """Tell whether the regular file ``path`` has the content of ``file``."""
    now = stamp(path)
    if now[0] != file.size:
        return False
    if known is not None and now[1] < known.made_at - _RACE:
        noted = known.files.get(file.path)
        if noted is not None and noted.stamp == now:
            return noted.blake3 == file.blake3
    return hash_file(path) == file.blake3


def hash_file(path: Path) -> Digest:
    """Return the BLAKE3 of the file at ``path``."""
    hasher = Hasher()
    with disk.explained(path, "read"), path.open("rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.digest()


def stamp(path: Path) -> Stamp:
    """Return what tells cheaply whether the file at ``path`` was written to."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _record_path(store: Store, path: Path) -> Path:
    name = digest_of(str(path.resolve()).encode("utf-8", "surrogateescape"))[:32]
    return store.meta / "checkouts" / f"{name}.json"


def _load(path: Path) -> Checkout | None:
    try:
        value = parse_mapping(path.read_bytes(), path.name)
        return Checkout(
            path=Path(value["path"]),
            model=parse_model(value["model"]),
            version=str(value["version"]),
            id=parse_digest(value["id"]),
            made_at=int(value["made_at"]),
            files={name: _noted(row) for name, row in value["files"].items()},
        )
    except (OSError, IntegrityError, KeyError, ValueError, TypeError):
        return None  # it only saves time: without it everything is hashed


def _noted(row: list[object]) -> Noted:
    size, mtime, inode, digest = row
    return Noted((_whole(size), _whole(mtime), _whole(inode)), parse_digest(str(digest)))


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a number")
    return value
