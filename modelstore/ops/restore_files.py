"""Restoring files: those of one version are written from a backup into a plain directory.

No store is made. Of a destination that is a directory, frames are read where they lie; from any
other they come into the directory first, in a place that is removed in the end. Every byte of a
frame that is read is compared with its checksum, every blob with its name and every file with its
digest, as it lies on the disk; only files that are right and durable get their names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelstore import disk
from modelstore import manifest as manifests
from modelstore.blobs import parse_header
from modelstore.blobs.frame import MAX_DEPTH
from modelstore.blobs.parallel import default_threads, in_order
from modelstore.blobs.source import open_frame
from modelstore.blobs.transit import write_arrived
from modelstore.canonical import MAX_SIZE
from modelstore.errors import (
    ConflictError,
    DiskFullError,
    IntegrityError,
    NotFoundError,
    UsageError,
)
from modelstore.groupsync import GroupSync
from modelstore.hashing import Digest, Hasher
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import place, working
from modelstore.ops.backup_document import Backup, find
from modelstore.ops.backup_frames import read_blob
from modelstore.ops.elsewhere import AT_ONCE, Tally, key_of
from modelstore.ops.once import Once
from modelstore.ops.restore_source import chosen, state_of, unreadable
from modelstore.ops.unpacking import Unpacking
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.remotes.directory import DirectoryRemote
from modelstore.sizes import human_size

_ROOM = 16 << 20
"""Bytes that are left free."""


@dataclass(frozen=True, slots=True)
class FilesPlan:
    """Which files would be written.

    Attributes:
        backup: where from.
        ref: the version, as a full ref.
        manifest: of it.
        path: the directory, absolute.
        missing: files that are not there yet; the others are right.
    """

    backup: Backup
    ref: str
    manifest: Manifest = field(repr=False)
    path: Path
    missing: tuple[FileEntry, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes that are to be written."""
        return sum(file.size for file in self.missing)


def plan_files(remote: Remote, path: Path, ref: str, *, at: str = "") -> FilesPlan:
    """Return what `restore_files` would write; nothing is written.

    Args:
        path: a directory that does not exist, or has nothing but files of the version.
        ref: one version.
        at: which backup, see `modelstore.ops.backup_document.find`.

    Raises:
        NotFoundError: there is no such backup, or no such version in it.
        UsageError: ``ref`` means more than one version.
        ConflictError: something else is in the directory.
        IntegrityError: the backup cannot be read, or the version was lost when it was made.
    """
    backup = find(remote, at)
    states = {model: state_of(remote, backup, model) for model in backup.models}
    found = [(model, one) for model, some in chosen(states, [ref]).items() for one in some]
    if len(found) != 1 or found[0][1].id is None:
        names = ", ".join(f"{model}@{one.version}" for model, one in found)
        raise UsageError(f"{ref!r} means {names or 'no version'}", "name one version: MODEL@v1.1")
    model, entry = found[0]
    name = f"{model}@{entry.version}"
    if any(name in one.versions for one in backup.missing):
        raise unreadable(backup, name)
    try:
        data = read_blob(remote, found[0][1].id, MAX_SIZE)
    except NotFoundError as error:
        raise unreadable(backup, name) from error
    manifest = manifests.decode(data, f"the manifest of {name}")
    path = path.absolute()
    return FilesPlan(backup, name, manifest, path, tuple(_missing(path, manifest)))


def _missing(path: Path, manifest: Manifest) -> Iterator[FileEntry]:
    """Yield the files that are not at ``path``.

    Raises:
        ConflictError: something else is.
    """
    if os.path.lexists(path):
        if not path.is_dir():
            raise ConflictError(f"'{path}' is no directory", "give a new directory")
        known = {file.path for file in manifest.files}
        there = set(_files_below(path))
        wrong = sorted(there - known)
        wrong += [file.path for file in manifest.files if not _may_be(path, file, there)]
        if wrong:
            raise ConflictError(f"'{path / wrong[0]}' is in the way", "give a new directory")
        yield from (file for file in manifest.files if file.path not in there)
    else:
        yield from manifest.files


def _files_below(path: Path) -> Iterator[str]:
    """Yield what there is and is no directory, but for what restores are working on."""
    for one in path.rglob("*"):
        name = one.relative_to(path)
        if place.is_staging(name.parts[0]) or (one.is_dir() and not one.is_symlink()):
            continue
        yield name.as_posix()


def _may_be(path: Path, file: FileEntry, there: set[str]) -> bool:
    """Tell whether a file is right, or nothing is in its place."""
    target = path / file.path
    if file.path in there:
        return not target.is_symlink() and target.is_file() and working.holds(target, file, None)
    return not os.path.lexists(target)


def restore_files(remote: Remote, plan: FilesPlan, progress: Progress = silent) -> None:
    """Write the files that ``plan`` says; they are durable when it returns.

    Raises:
        IntegrityError: a blob is not, or not whole, in the backup; nothing was written.
        DiskFullError: no room; nothing was written.
    """
    _check_room(plan)
    disk.make_dir(plan.path)
    place.sweep(plan.path)
    staging = place.staging(plan.path)
    disk.make_new_dir(staging)
    try:
        unpacking = Unpacking(staging, plan.missing)
        try:
            _Restoring(remote, plan, staging, unpacking, progress).run()
        finally:
            unpacking.close()
    finally:
        disk.remove_tree(staging)


def _check_room(plan: FilesPlan) -> None:
    existing = plan.path
    while not existing.exists():
        existing = existing.parent
    free = disk.free_space(existing)
    if plan.size + _ROOM > free:
        raise DiskFullError(
            f"'{plan.path}' needs {human_size(plan.size)} and {human_size(free)} are free",
            "free some space, or write to another disk",
        )


class _Restoring:
    """One restore of files."""

    def __init__(
        self,
        remote: Remote,
        plan: FilesPlan,
        staging: Path,
        unpacking: Unpacking,
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._staging = staging
        self._unpacking = unpacking
        self._frames = _Frames(remote, staging)
        self._sizes = {s.blob: s.size for file in plan.missing for s in file.spans}
        self._tally = Tally("write", progress, plan.size)

    def run(self) -> None:
        """Decode everything, make it durable, and give it its names."""
        files = self._plan.missing
        paths = [self._staging / str(number) for number in range(len(files))]
        with GroupSync(self._staging) as group:
            with self._explained():
                self._decode_all()
                unpacked = self._unpacking.paths()
                for path in unpacked.values():
                    group.add(path)
                for file, path in zip(files, paths, strict=True):
                    if unpacked.pop(file.blake3, None) is None:  # a small one, or there twice
                        self._write(file, path)
                        group.add(path)
            group.sync()  # meanwhile the large ones are read again
        with self._explained():
            for file, path in zip(files, paths, strict=True):
                if not os.path.lexists(path) and not self._unpacking.move(file, path):
                    raise _wrong(file)
        self._name(paths)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of what is damaged or missing where it was looked for."""
        try:
            yield
        except (IntegrityError, NotFoundError) as error:
            what = f"{self._plan.ref} of backup {self._plan.backup.name}"
            raise IntegrityError(
                f"{what} cannot be restored: {error.message}",
                "choose another backup with --at; run: mstore backup check DEST",
            ) from error

    def _name(self, paths: list[Path]) -> None:
        root = self._plan.path
        targets = [root / file.path for file in self._plan.missing]
        for path, target in zip(paths, targets, strict=True):
            disk.make_dir(target.parent)
            disk.rename_unsynced(path, target)
        for directory in {target.parent for target in targets}:
            disk.sync_dir(directory)

    # --- decoding

    def _decode_all(self) -> None:
        """Decode every blob of the large files, the largest first: no thread ends long after others."""
        blobs = sorted(self._unpacking.blobs(), key=lambda one: (-self._sizes[one], one))
        whole = in_order(self._frames.fetch, blobs, AT_ONCE)
        for _ in in_order(self._decode, whole, default_threads()):
            pass

    def _decode(self, digest: Digest) -> None:
        for start, block in self._blocks(digest):
            self._unpacking.take(digest, start, block)
            self._tally.add(len(block))

    def _blocks(self, digest: Digest) -> Iterator[tuple[int, memoryview]]:
        """Yield the bytes of a blob and where they begin; all are proved when it ends."""
        from modelstore.blobs.reader import opened  # decoding loads numpy

        hasher = Hasher()
        with opened(self._frames.locate, digest) as reader:
            if reader.header.raw_size != self._sizes[digest]:
                raise IntegrityError(f"blob '{digest}' has another size than its file says")
            for index in range(reader.header.block_count):
                block = reader.block_kept(index)
                hasher.update(block)
                yield reader.header.raw_range(index)[0], block
        if hasher.digest() != digest:
            raise IntegrityError(f"blob '{digest}' is damaged: its bytes are not those of its name")

    def _write(self, file: FileEntry, path: Path) -> None:
        hasher = Hasher()
        with disk.NewFile(path, mode=0o777 if file.executable else 0o666) as new:
            for span in file.spans:
                for _, block in self._blocks(self._frames.fetch(span.blob)):
                    hasher.update(block)
                    new.write(block)
        if new.size != file.size or hasher.digest() != file.blake3:
            raise _wrong(file)


def _wrong(file: FileEntry) -> IntegrityError:
    return IntegrityError(f"{file.path!r} does not come out as it went in")


class _Frames:
    """The frames of a destination as files."""

    def __init__(self, remote: Remote, staging: Path) -> None:
        self._remote = remote
        self._staging = staging
        self._here = Once(self._bring)

    def locate(self, digest: Digest) -> Path:
        """Return where the frame of a blob lies, or would lie."""
        if isinstance(self._remote, DirectoryRemote):
            return self._remote.path_of(key_of(digest))
        return self._staging / f"frame-{digest}"

    def fetch(self, digest: Digest) -> Digest:
        """Let the frame of a blob, and all it is built on, be where `locate` says; return its name."""
        if isinstance(self._remote, DirectoryRemote):
            return digest
        waiting = {digest}
        for _ in range(MAX_DEPTH + 1):
            waiting = {base for one in sorted(waiting) for base in self._here(one)}
        return digest

    def _bring(self, digest: Digest) -> tuple[Digest, ...]:
        path = self.locate(digest)
        write_arrived(self._remote.stream(key_of(digest)), digest, path, lambda _: None)
        with open_frame(path, digest) as source:
            return parse_header(source, digest).built_on
