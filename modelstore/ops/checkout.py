"""Checkout: a version's files are written out, byte for byte what was committed.

Every file is decoded into a staging directory beside its place, checked against its digest and
synced; only then are all of them renamed. A checkout that fails leaves the directory as it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from modelstore import disk
from modelstore.errors import ConflictError, DiskFullError, IntegrityError, NotFoundError
from modelstore.groupsync import GroupSync
from modelstore.hashing import Hasher
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import working
from modelstore.ops.resolve import Resolved
from modelstore.ops.working import Checkout, checkout_at
from modelstore.progress import Progress, silent
from modelstore.sizes import human_size
from modelstore.store import MANIFEST, Store

_ROOM = 16 << 20
"""Bytes that a checkout leaves free: directories, the registry, other people's last writes."""


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """What a checkout did.

    Attributes:
        path: the directory.
        written: paths of files that were written.
        kept: files that were right already.
        removed: files of the version before that this one lacks.
        size: bytes written.
    """

    path: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    size: int


def checkout(
    store: Store,
    resolved: Resolved,
    *,
    output: Path | None = None,
    files: Sequence[str] = (),
    force: bool = False,
    progress: Progress = silent,
) -> CheckedOut:
    """Write the files of a version into its own directory, or into ``output``.

    Args:
        files: shell patterns; only the files that fit one are written.
        force: overwrite local changes.

    Raises:
        ConflictError: a local change, or a file of somebody else, would be overwritten.
        DiskFullError: no room; nothing was written.
        IntegrityError: a blob is damaged; nothing was changed.
    """
    manifest = store.manifest(resolved.model, resolved.entry)
    target = _target(store, resolved, manifest, output)
    wanted = _select(manifest, files)
    known = checkout_at(store, target)
    kept, missing, foreign = _sort_out(target, wanted, known)
    stale = [] if files else _stale(store, target, manifest, known)
    changed = [*foreign, *(path for path, clean in stale if not clean)]
    if changed and not force:
        raise _would_overwrite(target, changed)
    _check_room(target, missing)
    disk.make_dir(target)
    _write(store, target, missing, progress)
    removed = tuple(path for path, _ in stale)
    _remove(target, removed)
    if not files:
        working.record(store, target, resolved, manifest.files)
    return CheckedOut(
        path=target,
        written=tuple(file.path for file in missing),
        kept=tuple(kept),
        removed=removed,
        size=sum(file.size for file in missing),
    )


def release(store: Store, resolved: Resolved, *, output: Path | None = None) -> CheckedOut:
    """Take a version's files away again, after proving that the store holds every one of them.

    The three small files of a version directory stay.

    Raises:
        ConflictError: a file was changed since; nothing is removed.
        IntegrityError: the store lacks, or has damaged, a blob of it; nothing is removed.
    """
    manifest = store.manifest(resolved.model, resolved.entry)
    target = _target(store, resolved, manifest, output)
    differences = working.compare(target, manifest, checkout_at(store, target))
    if differences.modified:
        raise ConflictError(
            f"'{target}' has changes: {_names(differences.modified)}",
            f"commit them with: mstore commit {target}",
        )
    for digest in sorted(manifest.blobs()):
        store.blobs.check(digest)
    stay = set() if output else {"README.md", "model_info.json", MANIFEST}
    gone = [f for f in manifest.files if f.path not in stay | set(differences.missing)]
    _remove(target, [file.path for file in gone])
    working.forget(store, target)
    size = sum(file.size for file in gone)
    return CheckedOut(target, (), tuple(sorted(stay)), tuple(file.path for file in gone), size)


def is_hydrated(store: Store, resolved: Resolved, manifest: Manifest) -> bool:
    """Tell whether the version's own directory holds all its files, by name and size."""
    directory = store.version_dir(resolved.model, resolved.entry.version)
    try:
        return all((directory / f.path).stat().st_size == f.size for f in manifest.files)
    except OSError:
        return False


def write_file(store: Store, file: FileEntry, path: Path, progress: Progress, before: int) -> None:
    """Write one file to ``path``, which must not exist, checked against its digest.

    Args:
        before: bytes to add to what ``progress`` is told.

    Raises:
        IntegrityError: the blobs do not make up the file.
    """
    hasher = Hasher()
    with disk.NewFile(path, mode=0o777 if file.executable else 0o666) as new:
        for span in file.spans:
            for piece in store.blobs.blocks(span.blob):
                hasher.update(piece)
                new.write(piece)
                progress("write", before + new.size, 0)
    if new.size != file.size or hasher.digest() != file.blake3:
        disk.remove(path)
        raise IntegrityError(
            f"{file.path!r} does not come out as it went in", "run: mstore verify REF"
        )


def _target(store: Store, resolved: Resolved, manifest: Manifest, output: Path | None) -> Path:
    if output is not None:
        return output.absolute()
    if manifest.file(MANIFEST) is not None:
        raise ConflictError(
            f"{resolved} has a file {MANIFEST!r} of its own, which the store's would hide",
            f"mstore checkout {resolved} -o DIR",
        )
    return store.version_dir(resolved.model, resolved.entry.version)


def _select(manifest: Manifest, patterns: Sequence[str]) -> list[FileEntry]:
    if not patterns:
        return list(manifest.files)
    found = [f for f in manifest.files if any(fnmatchcase(f.path, p) for p in patterns)]
    if not found:
        raise NotFoundError(
            f"no file fits {', '.join(map(repr, patterns))}",
            f"it has: {_names([file.path for file in manifest.files])}",
        )
    return found


def _sort_out(
    target: Path, wanted: Sequence[FileEntry], known: Checkout | None
) -> tuple[list[str], list[FileEntry], list[str]]:
    """Return what is right already, what must be written, and what stands in the way of that."""
    kept, missing, foreign = [], [], []
    for file in wanted:
        path = target / file.path
        if path.is_file() and not path.is_symlink() and working.holds(path, file, known):
            kept.append(file.path)
            continue
        missing.append(file)
        if _in_the_way(target, path) or (
            os.path.lexists(path) and not _is_untouched(path, file.path, known)
        ):
            foreign.append(file.path)
    return kept, missing, foreign


def _in_the_way(target: Path, path: Path) -> list[Path]:
    """Return what lies at a directory's place between ``target`` and ``path`` and is none.

    A symlink to a directory is none: what is below it is not below ``target``.
    """
    between = [parent for parent in path.parents if parent.is_relative_to(target)]
    return [
        parent
        for parent in between
        if os.path.lexists(parent)
        and (not parent.is_dir() or (parent.is_symlink() and parent != target))
    ]


def _is_untouched(path: Path, name: str, known: Checkout | None) -> bool:
    """Tell whether the file is still what the last checkout wrote there."""
    return (
        known is not None
        and path.is_file()
        and not path.is_symlink()
        and name in known.files
        and known.files[name].stamp == working.stamp(path)
    )


def _stale(
    store: Store, target: Path, manifest: Manifest, known: Checkout | None
) -> list[tuple[str, bool]]:
    """Return the files of another version that lie here, and whether each is still untouched."""
    if known is None:
        return []
    paths = {file.path for file in manifest.files}
    return [
        (name, _is_untouched(target / name, name, known))
        for name in known.files
        if name not in paths and os.path.lexists(target / name)
    ]


def _would_overwrite(target: Path, changed: Sequence[str]) -> ConflictError:
    return ConflictError(
        f"'{target}' has files that would be lost: {_names(changed)}",
        f"commit them with: mstore commit {target}; or overwrite them with -f",
    )


def _check_room(target: Path, missing: Sequence[FileEntry]) -> None:
    place = target
    while not place.exists():
        place = place.parent
    need = sum(file.size for file in missing)
    free = disk.free_space(place)
    if need + _ROOM > free:
        raise DiskFullError(
            f"'{target}' needs {human_size(need)} and {human_size(free)} are free",
            "free some space, or write fewer files with --files GLOB",
        )


def _write(store: Store, target: Path, missing: Sequence[FileEntry], progress: Progress) -> None:
    total = sum(file.size for file in missing)
    staging = target / f".mstore-{os.urandom(4).hex()}.tmp"
    disk.make_new_dir(staging)
    try:
        with GroupSync(target) as group:
            done = 0
            for number, file in enumerate(missing):
                path = staging / str(number)
                write_file(store, file, path, _scaled(progress, total), done)
                group.add(path)
                done += file.size
            group.sync()
        for number, file in enumerate(missing):
            place = target / file.path
            _clear_way(target, place)
            disk.make_dir(place.parent)
            disk.rename_unsynced(staging / str(number), place)
        for directory in {(target / file.path).parent for file in missing}:
            disk.sync_dir(directory)
    finally:
        disk.remove_tree(staging)


def _scaled(progress: Progress, total: int) -> Progress:
    return lambda stage, done, _: progress(stage, done, total)


def _clear_way(target: Path, place: Path) -> None:
    """Remove what may be overwritten but a rename cannot: a directory, or a file for a directory."""
    for path in _in_the_way(target, place):
        disk.remove(path)
    if place.is_dir() and not place.is_symlink():
        disk.remove_tree(place)


def _remove(target: Path, paths: Sequence[str]) -> None:
    for path in paths:
        disk.remove(target / path)
    below = {(target / path).parent for path in paths} - {target}
    disk.remove_empty_dirs(below)


def _names(paths: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(paths[:limit]) + more
