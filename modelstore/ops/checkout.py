"""Checkout: a version's files are written out, byte for byte what was committed.

Every file is decoded into a staging directory beside its place, checked against its digest and
synced; only then are all of them renamed. A checkout that fails leaves the directory as it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from modelstore import disk
from modelstore.errors import ConflictError, NotFoundError
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import adapter, card, place, present, refusal, working
from modelstore.ops.refusal import names
from modelstore.ops.resolve import Resolved
from modelstore.ops.unpacking import Unpacking
from modelstore.ops.working import Checkout, checkout_at
from modelstore.ops.writing import require_room, write_files
from modelstore.progress import Progress, silent
from modelstore.store import Store


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

    Files that are right already stay, so doing it again proves that the directory is right; its
    own directory gets back its small files too. That it was done is noted in the store if that can
    be written to; nothing is lost where it cannot.

    Args:
        output: a directory outside the store.
        files: shell patterns; only the files that fit one are written.
        force: overwrite local changes.

    Raises:
        ConflictError: a local change, or a file of somebody else, would be overwritten; or
            ``output`` lies in the store.
        DiskFullError: no room; nothing was written.
        IntegrityError: a blob is damaged; nothing was changed.
    """
    with present.unpacked(store, resolved, partial(_select, patterns=files), progress) as unpacked:
        return _checkout(store, resolved, _How(output, files, force, unpacked), progress)


def checkout_unpacked(
    store: Store, resolved: Resolved, unpacked: Unpacking, progress: Progress = silent
) -> CheckedOut:
    """Write a version's files into its own directory, those that are decoded already by moving.

    Raises: as `checkout` does.
    """
    present.require(store, resolved, progress)
    return _checkout(store, resolved, _How(unpacked=unpacked), progress)


def checkout_adapter(
    store: Store,
    resolved: Resolved,
    *,
    output: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> CheckedOut:
    """Write the adapter that a version keeps, and nothing else: a directory that PEFT can load.

    Args:
        output: a directory outside the store; None for the adapter's own in the version's.

    Raises:
        NotFoundError: the version keeps none.
        ConflictError, DiskFullError, IntegrityError: as for `checkout`.
    """
    manifest = store.manifest(resolved.model, resolved.entry)
    files = adapter.files_of(resolved, manifest)
    if output is None:
        only = (f"{adapter.DIRECTORY}/*",)
        done = checkout(store, resolved, files=only, force=force, progress=progress)
        return replace(
            done,
            path=done.path / adapter.DIRECTORY,
            written=adapter.names_within(done.written),
            kept=adapter.names_within(done.kept),
        )
    present.require(store, resolved, progress)
    target = _adapter_target(store, resolved, replace(manifest, files=files), output)
    kept, missing, foreign = _sort_out(target, files, None)
    if foreign and not force:
        raise ConflictError(
            f"'{target}' has files that would be lost: {names(foreign)}",
            f"overwrite them with: mstore checkout {resolved} --adapter -f -o {output}",
        )
    place.sweep(target)
    _check_room(target, missing)
    disk.make_dir(target)
    if missing:
        _write(store, target, missing, None, progress)
    written = tuple(file.path for file in missing)
    return CheckedOut(target, written, tuple(kept), (), sum(file.size for file in missing))


def _adapter_target(store: Store, resolved: Resolved, adapted: Manifest, output: Path) -> Path:
    """Return ``output`` if an adapter may lie there; not where the whole version belongs."""
    target = place.target(store, resolved, adapted, output)
    if place.is_home(store, resolved, target):
        raise ConflictError(
            f"'{target}' is the directory of the whole version",
            f"leave out -o: the adapter then comes to '{target / adapter.DIRECTORY}'",
        )
    return target


@dataclass(frozen=True, slots=True)
class _How:
    """See `checkout`; and files that are decoded already, if there are any."""

    output: Path | None = None
    files: Sequence[str] = ()
    force: bool = False
    unpacked: Unpacking | None = None


def _checkout(store: Store, resolved: Resolved, how: _How, progress: Progress) -> CheckedOut:
    files, force = how.files, how.force
    manifest = store.manifest(resolved.model, resolved.entry)
    target = place.target(store, resolved, manifest, how.output)
    wanted = _select(manifest, files)
    known = checkout_at(store, target)
    kept, missing, stale = _looked_at(store, resolved, target, known, how)
    place.sweep(target)
    _check_room(target, [one for one in missing if not (how.unpacked and how.unpacked.has(one))])
    disk.make_dir(target)
    if missing:
        _write(store, target, missing, how.unpacked, progress)
    _remove(target, stale)
    if place.is_home(store, resolved, target):
        card.restore(store, resolved, manifest, force=force)
    if files:
        working.record_part(store, target, resolved, manifest, wanted)
    elif not working.is_recorded(target, resolved, manifest.files, known):
        working.record(store, target, resolved, manifest.files)
    return CheckedOut(
        path=target,
        written=tuple(file.path for file in missing),
        kept=tuple(kept),
        removed=tuple(stale),
        size=sum(file.size for file in missing),
    )


def plan_checkout(
    store: Store, resolved: Resolved, *, output: Path | None = None, force: bool = False
) -> CheckedOut:
    """Return what `checkout` would do, and change nothing.

    Raises:
        ConflictError: as for `checkout`.
    """
    manifest = store.manifest(resolved.model, resolved.entry)
    target = place.target(store, resolved, manifest, output)
    how, known = _How(output, force=force), checkout_at(store, target)
    kept, missing, stale = _looked_at(store, resolved, target, known, how)
    written = tuple(file.path for file in missing)
    size = sum(file.size for file in missing)
    return CheckedOut(target, written, tuple(kept), tuple(stale), size)


def _looked_at(
    store: Store, resolved: Resolved, target: Path, known: Checkout | None, how: _How
) -> tuple[list[str], list[FileEntry], list[str]]:
    """Return what is right already, what must be written, and what of another version must go."""
    manifest = store.manifest(resolved.model, resolved.entry)
    kept, missing, foreign = _sort_out(target, _select(manifest, how.files), known)
    stale = [] if how.files else _stale(target, manifest, known)
    changed = [*foreign, *(path for path, clean in stale if not clean)]
    if changed and not how.force:
        raise refusal.would_overwrite(store, resolved, target, changed)
    return kept, missing, [path for path, _ in stale]


def release(store: Store, resolved: Resolved, *, output: Path | None = None) -> CheckedOut:
    """Take a version's files away again, after proving that the store holds every one of them.

    The three small files of a version directory stay.

    Raises:
        ConflictError: a file was changed since; nothing is removed.
        IntegrityError: the store lacks, or has damaged, a blob of it; nothing is removed.
    """
    manifest = store.manifest(resolved.model, resolved.entry)
    target = place.target(store, resolved, manifest, output)
    differences = working.compare(target, manifest, checkout_at(store, target))
    if differences.modified:
        raise refusal.would_lose(store, resolved, target, differences.modified)
    for digest in sorted(manifest.blobs()):
        store.blobs.check(digest)
    usual = store.version_dir(resolved.model, resolved.entry.version)
    stay = set(card.SMALL) if target == usual else set()
    gone = [f for f in manifest.files if f.path not in stay | set(differences.missing)]
    _remove(target, [file.path for file in gone])
    working.forget(store, target)
    if target != usual and place.is_home(store, resolved, target):
        disk.remove_empty_dirs([target])  # adopted under another name; the usual one stays
    size = sum(file.size for file in gone)
    return CheckedOut(target, (), tuple(sorted(stay)), tuple(file.path for file in gone), size)


def _select(manifest: Manifest, patterns: Sequence[str]) -> list[FileEntry]:
    if not patterns:
        return list(manifest.files)
    found = [f for f in manifest.files if any(fnmatchcase(f.path, p) for p in patterns)]
    if not found:
        raise NotFoundError(
            f"no file fits {', '.join(map(repr, patterns))}",
            f"it has: {names([file.path for file in manifest.files])}",
        )
    return found


def _sort_out(
    target: Path, wanted: Sequence[FileEntry], known: Checkout | None
) -> tuple[list[str], list[FileEntry], list[str]]:
    """Return what is right already, what must be written, and what stands in the way of that."""
    kept, missing, foreign = [], [], []
    for file in wanted:
        path = target / file.path
        with disk.explained(path, "write"):  # a name may be longer than the system can have
            is_right, is_free = _look(target, path, file, known)
        if is_right:
            kept.append(file.path)
            continue
        missing.append(file)
        if not is_free:
            foreign.append(file.path)
    return kept, missing, foreign


def _look(target: Path, path: Path, file: FileEntry, known: Checkout | None) -> tuple[bool, bool]:
    """Tell whether ``path`` is right already, and whether nothing of the user's is in its place."""
    if _in_the_way(target, path):
        return False, False
    if path.is_file() and not path.is_symlink() and working.holds(path, file, known):
        return True, True
    return False, not os.path.lexists(path) or working.is_untouched(path, file.path, known)


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


def _stale(target: Path, manifest: Manifest, known: Checkout | None) -> list[tuple[str, bool]]:
    """Return the files of another version that lie here, and whether each is still untouched."""
    if known is None:
        return []
    paths = {file.path for file in manifest.files}
    return [
        (name, working.is_untouched(target / name, name, known))
        for name in known.files
        if name not in paths
        and os.path.lexists(target / name)
        and not working.passes_link(target, target / name)
    ]


def _check_room(target: Path, missing: Sequence[FileEntry]) -> None:
    require_room(target, missing, "write fewer files with --files GLOB")


def _write(
    store: Store,
    target: Path,
    missing: Sequence[FileEntry],
    unpacked: Unpacking | None,
    progress: Progress,
) -> None:
    wanted = [(file, target / file.path) for file in missing]
    taken = unpacked.move if unpacked is not None else None
    write_files(store, target, wanted, progress, taken=taken, clear=partial(_clear_way, target))


def _clear_way(target: Path, final: Path) -> None:
    """Remove what may be overwritten but a rename cannot: a directory, or a file for a directory."""
    for path in _in_the_way(target, final):
        disk.remove(path)
    if final.is_dir() and not final.is_symlink():
        disk.remove_tree(final)


def _remove(target: Path, paths: Sequence[str]) -> None:
    for path in paths:
        disk.remove(target / path)
    directories = {(target / path).parent for path in paths}
    disk.remove_empty_dirs(directories - {target})
    for directory in filter(Path.is_dir, directories):
        disk.sync_dir(directory)
