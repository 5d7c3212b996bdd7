"""Writing files of versions: decoded aside, proved and synced, and only then given their names.

Whoever looks sees a file as it was before, or whole and right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from modelstore import disk
from modelstore.errors import DiskFullError, IntegrityError
from modelstore.groupsync import GroupSync
from modelstore.hashing import Hasher
from modelstore.manifest import FileEntry
from modelstore.ops import place
from modelstore.progress import Progress
from modelstore.sizes import human_size
from modelstore.store import Store

_ROOM = 16 << 20
"""Bytes that are left free: directories, the registry, other people's last writes."""

Placed = tuple[FileEntry, Path]
"""A file of a version, and the name that it is to get."""


def write_file(
    store: Store, file: FileEntry, path: Path, written: Callable[[int], None] | None = None
) -> None:
    """Write one file to ``path``, which must not exist, checked against its digest.

    Args:
        written: told how many bytes of the file are written so far.

    Raises:
        IntegrityError: the blobs do not make up the file.
    """
    hasher = Hasher()
    with disk.NewFile(path, mode=0o777 if file.executable else 0o666) as new:
        for span in file.spans:
            for piece in store.blobs.blocks(span.blob):
                if new.size + len(piece) > file.size:  # a frame of bytes may give terabytes
                    raise _wrong(file)
                hasher.update(piece)
                new.write(piece)
                if written is not None:
                    written(new.size)
    if new.size != file.size or hasher.digest() != file.blake3:
        disk.remove(path)
        raise _wrong(file)


def _wrong(file: FileEntry) -> IntegrityError:
    return IntegrityError(
        f"{file.path!r} does not come out as it went in", "run: mstore fsck --full"
    )


def require_room(target: Path, files: Iterable[FileEntry], hint: str) -> None:
    """Raise if ``files`` do not fit where the directory ``target`` is or will be.

    Args:
        hint: what else could be done but to free some space.

    Raises:
        DiskFullError: there is no room; nothing was written.
    """
    existing = target
    while not existing.exists():
        existing = existing.parent
    need = sum(file.size for file in files)
    free = disk.free_space(existing)
    if need + _ROOM > free:
        raise DiskFullError(
            f"'{target}' needs {human_size(need)} and {human_size(free)} are free",
            f"free some space, or {hint}",
        )


def write_files(
    store: Store,
    directory: Path,
    wanted: Sequence[Placed],
    progress: Progress,
    *,
    taken: Callable[[FileEntry, Path], bool] | None = None,
    clear: Callable[[Path], None] | None = None,
) -> None:
    """Write files to their places, all of which lie on the file system of ``directory``.

    Args:
        directory: where they are staged; it exists.
        wanted: the files.
        taken: puts a file there otherwise, and tells whether it could.
        clear: takes away what is in the way of a name.

    Raises:
        DiskFullError: the disk is full; no file got its name.
        IntegrityError: a blob is damaged; no file got its name.
    """
    total = sum(file.size for file, _ in wanted)
    staging = place.staging(directory)
    disk.make_new_dir(staging)
    try:
        with GroupSync(directory) as group:
            done = 0
            for number, (file, _) in enumerate(wanted):
                path = staging / str(number)
                if taken is None or not taken(file, path):
                    write_file(store, file, path, partial(_advance, progress, done, total))
                group.add(path)
                done += file.size
            group.sync()
        for number, (_, final) in enumerate(wanted):
            if clear is not None:
                clear(final)
            disk.make_dir(final.parent)
            disk.rename_unsynced(staging / str(number), final)
        for parent in {final.parent for _, final in wanted}:
            disk.sync_dir(parent)
    finally:
        disk.remove_tree(staging)


def _advance(progress: Progress, before: int, total: int, size: int) -> None:
    progress("write", before + size, total)
