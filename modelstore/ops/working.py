"""What is checked out where: a record per directory, and how a directory differs from its version.

A record holds each file's size, time and inode as they were when the file was known to be right,
so that looking again costs a stat and not a reading (git's index does the same).
Records only save time and tell a commit its parent: nothing is lost without them, so what fails
to be noted, as in a store that may only be read, fails in silence.
A directory within the store is noted by its path below the root, and so moves with the store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError, StoreError
from modelstore.hashing import Digest, Hasher, digest_of, parse_digest
from modelstore.manifest import FileEntry, Manifest
from modelstore.names import ModelName, parse_model, parse_path
from modelstore.ops.resolve import Resolved
from modelstore.reading import read_file
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
        partial: whether only some of the version's files were written.
    """

    path: Path
    model: ModelName
    version: str
    id: Digest
    made_at: int
    files: Mapping[str, Noted]
    partial: bool = False


def record(store: Store, path: Path, resolved: Resolved, files: Sequence[FileEntry]) -> None:
    """Note that ``path`` holds ``files``, all of a version's, which are right just now.

    What cannot be noted is not: that costs time, or a parent that has to be named, and no data.
    """
    with suppress(OSError):  # a file that is gone already: then there is nothing to note
        rows = _rows(path, files)
        _put(store, path, resolved, rows, made_at=time.time_ns(), partial=False)


def record_part(
    store: Store, path: Path, resolved: Resolved, manifest: Manifest, files: Sequence[FileEntry]
) -> None:
    """Note that ``path`` holds ``files``, some of a version's, beside what is noted already.

    A directory that still holds files of another version stays that version's.
    """
    with suppress(OSError):
        rows, made_at = _rows(path, files), time.time_ns()
        known = checkout_at(store, path)
        if known is not None and known.id == resolved.id:
            # those noted before are no surer for it, so the time stays
            rows, made_at = {**known.files, **rows}, known.made_at
        elif known is not None and any((path / n).exists() for n in known.files if n not in rows):
            return
        partial = not all(file.path in rows for file in manifest.files)
        _put(store, path, resolved, rows, made_at=made_at, partial=partial)


def is_recorded(
    path: Path, resolved: Resolved, files: Sequence[FileEntry], known: Checkout | None
) -> bool:
    """Tell whether ``known`` says of ``path`` all that `record` would, and can be relied on."""
    if known is None or known.partial or known.id != resolved.id:
        return False
    return known.version == str(resolved.entry.version) and all(
        _trusted(stamp(path / file.path), file.path, known) is not None for file in files
    )


def forget(store: Store, path: Path) -> None:
    """Remove the record of ``path``, if that can be done; a stale one is found out by its stamps."""
    record = _record_path(store, path)
    with suppress(StoreError):
        if record.exists():
            disk.remove(record)
            disk.sync_dir(record.parent)


def checkout_at(store: Store, path: Path) -> Checkout | None:
    """Return the record of the directory ``path``, None where there is none that can be read."""
    return _load(store, _record_path(store, path))


def checkouts(store: Store, *, partial: bool = False) -> list[Checkout]:
    """Return the records of all directories that still exist, sorted by path.

    Args:
        partial: also those of directories that only some files of a version were written to.
    """
    found = (c for c in _all(store) if c.path.is_dir() and (partial or not c.partial))
    return sorted(found, key=lambda c: c.path)


def _all(store: Store) -> Iterator[Checkout]:
    directory = store.meta / "checkouts"
    if directory.is_dir():
        for path in directory.glob("*.json"):
            known = _load(store, path)
            if known is not None and path == _record_path(store, known.path):
                yield known


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
        if passes_link(directory, path):
            modified.append(file.path)
        elif not path.is_file() or path.is_symlink():
            missing.append(file.path) if not path.exists() else modified.append(file.path)
        elif not holds(path, file, known):
            modified.append(file.path)
    return Differences(tuple(modified), tuple(missing))


def passes_link(directory: Path, path: Path) -> bool:
    """Tell whether a directory between ``directory`` and ``path`` is a symlink.

    What is below one lies elsewhere: it is not ours to write to or to remove.
    """
    between = [parent for parent in path.parents if parent.is_relative_to(directory)]
    return any(parent.is_symlink() for parent in between if parent != directory)


def holds(path: Path, file: FileEntry, known: Checkout | None) -> bool:
    """Tell whether the regular file ``path`` has the content of ``file``."""
    return stamp(path)[0] == file.size and digest_at(path, file.path, known) == file.blake3


def is_untouched(path: Path, name: str, known: Checkout | None) -> bool:
    """Tell whether ``path`` is still what was noted of it as the file ``name``."""
    noted = known.files.get(name) if known is not None else None
    if noted is None or not path.is_file() or path.is_symlink():
        return False
    return stamp(path)[0] == noted.stamp[0] and digest_at(path, name, known) == noted.blake3


def digest_at(path: Path, name: str, known: Checkout | None) -> Digest:
    """Return the BLAKE3 of the file at ``path``: as noted of ``name`` if it was not written to."""
    noted = _trusted(stamp(path), name, known)
    return hash_file(path) if noted is None else noted.blake3


def _trusted(now: Stamp, name: str, known: Checkout | None) -> Noted | None:
    """Return what is noted of a file that has the stamp ``now``, None if it may have changed."""
    noted = known.files.get(name) if known is not None else None
    if known is None or noted is None or noted.stamp != now or now[1] >= known.made_at - _RACE:
        return None
    return noted


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


def _rows(path: Path, files: Sequence[FileEntry]) -> dict[str, Noted]:
    return {file.path: Noted(stamp(path / file.path), file.blake3) for file in files}


def _put(
    store: Store,
    path: Path,
    resolved: Resolved,
    rows: Mapping[str, Noted],
    *,
    made_at: int,
    partial: bool,
) -> None:
    value = {
        "schema": _SCHEMA,
        "path": _name_of(store, path),
        "model": resolved.model,
        "version": str(resolved.entry.version),
        "id": resolved.id,
        "made_at": made_at,
        "files": {name: [*noted.stamp, noted.blake3] for name, noted in rows.items()},
        **({"partial": True} if partial else {}),
    }
    try:
        disk.make_dir(store.meta / "checkouts")
        disk.replace(_record_path(store, path), line(value).encode("utf-8") + b"\n")
    except (StoreError, UnicodeError):
        forget(store, path)  # what it says is no longer so


def _name_of(store: Store, path: Path) -> str:
    """Return how a directory is noted: below the root of the store, else absolute."""
    real, root = path.resolve(), store.root.resolve()
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else str(real)


def _record_path(store: Store, path: Path) -> Path:
    name = digest_of(_name_of(store, path).encode("utf-8", "surrogateescape"))[:32]
    return store.meta / "checkouts" / f"{name}.json"


def _load(store: Store, path: Path) -> Checkout | None:
    try:
        value = parse_mapping(read_file(path), path.name)
        return Checkout(
            path=store.root.resolve() / value["path"],
            model=parse_model(value["model"]),
            version=str(value["version"]),
            id=parse_digest(value["id"]),
            made_at=int(value["made_at"]),
            files={parse_path(name): _noted(row) for name, row in value["files"].items()},
            partial=value.get("partial") is True,
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
