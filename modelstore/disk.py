"""Every call of mstore that changes the disk.

No other module opens a file for writing, syncs, links, renames or removes; a test enforces it.
So durability is argued in one place. All of it is made of `modelstore.syscalls`, which tests
exchange to inject faults.

Files are born whole: written under a temporary name, synced, and then linked or renamed to their
own, and the directory that now names them is synced too.
Errors of the operating system leave here as `StoreError` kinds that name the path.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from modelstore.errors import ConflictError, DiskFullError, StoreError
from modelstore.hashing import Bytes
from modelstore.syscalls import Syscalls

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS}
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_COPY_PIECE = 8 << 20
_BUSY = {5, 32}  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION: a scanner has the file open
_NO_PRIVILEGE = 1314  # ERROR_PRIVILEGE_NOT_HELD: Windows lets only developers make symlinks
_PATIENCE = 2.5  # seconds until that is an error

calls = Syscalls()  # what everything below is made of; exchanged by tests alone


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `StoreError` that names ``path``.

    Args:
        path: what is being changed.
        doing: the verb of the message, as in "write" or "remove".
    """
    try:
        yield
    except OSError as error:
        raise explain(error, path, doing) from error


def explain(error: OSError, path: Path, doing: str) -> StoreError:
    """Return the `StoreError` that says what ``error`` means for ``path``."""
    if error.errno in _NO_ROOM:
        return DiskFullError(
            f"no space left to {doing} '{path}' ({os.strerror(error.errno or 0)})",
            "free some space: mstore gc --purge-now; or: mstore checkout --release REF",
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    denied = error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}
    hint = f"check the permissions: ls -ld '{path.parent}'" if denied else ""
    return StoreError(f"cannot {doing} '{path}': {reason}", hint)


# --- directories


def make_dir(path: Path) -> None:
    """Create ``path`` and its parents, each durable; existing ones are left alone."""
    missing = []
    probe = path
    with explained(path, "create"):
        while not probe.is_dir() and probe != probe.parent:
            missing.append(probe)
            probe = probe.parent
    for directory in reversed(missing):
        with explained(directory, "create"):
            try:
                calls.mkdir(directory)
            except FileExistsError:
                if not directory.is_dir():  # a file has the name; else another process was faster
                    raise
            sync_dir(directory.parent)


def make_dirs_in(parent: Path, names: Iterable[str], *, sync: bool = True) -> None:
    """Create directories in ``parent``, durable with one ``sync``; existing ones are left alone."""
    for name in names:
        with explained(parent / name, "create"), suppress(FileExistsError):
            calls.mkdir(parent / name)
    if sync:
        sync_dir(parent)


def make_new_dir(path: Path) -> None:
    """Create ``path``, which must not exist; not yet durable."""
    with explained(path, "create"):
        calls.mkdir(path)


def sync_dir(path: Path) -> None:
    """Make the names in directory ``path`` durable; Windows has no such call."""
    if sys.platform != "win32":
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_path(path: Path) -> None:
    """Make the file or directory ``path`` durable: its bytes, or the names in it."""
    if path.is_dir():
        sync_dir(path)
    else:
        _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    with explained(path, "sync"):
        handle = calls.open(path, flags)
        try:
            calls.fsync(handle)
        finally:
            calls.close(handle)


# --- files


class NewFile:
    """A file that is being written under a name nobody reads yet.

    Use as a context manager; an exception inside removes the file.
    ``close(sync=True)`` makes the bytes durable; the name is the caller's to make durable.
    """

    def __init__(self, path: Path, *, mode: int = 0o666) -> None:
        self.path = path
        with explained(path, "create"):
            self._handle = calls.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, mode)
        self._open = True
        self.size = 0

    def __enter__(self) -> NewFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
        elif self._open:
            try:
                self.close(sync=False)
            except StoreError:
                self.discard()
                raise

    def write(self, data: Bytes) -> None:
        """Append ``data``, whole."""
        self.write_at(data, self.size)

    def write_at(self, data: Bytes, offset: int) -> None:
        """Write ``data`` at ``offset`` bytes from the beginning, whole."""
        view = memoryview(data).cast("B")
        with explained(self.path, "write"):
            done = 0
            while done < len(view):
                done += calls.pwrite(self._handle, view[done:], offset + done)
        self.size = max(self.size, offset + len(view))

    def set_mode(self, mode: int) -> None:
        """Set the file's permission bits; file systems without any are left alone."""
        set_mode(self.path, mode)

    def close(self, *, sync: bool) -> None:
        """Close the file, after making its bytes durable if ``sync``."""
        self._open = False
        try:
            if sync:
                with explained(self.path, "sync"):
                    calls.fsync(self._handle)  # never again on this descriptor if it fails
        finally:
            with explained(self.path, "write"):  # NFS tells only now that the disk is full
                calls.close(self._handle)

    def discard(self) -> None:
        """Close and remove the file."""
        with suppress(OSError):
            if self._open:
                self._open = False
                calls.close(self._handle)
        with suppress(OSError):
            _unlink(self.path)


def create(path: Path, data: Bytes) -> None:
    """Create ``path`` with ``data``: whole or not at all, and never over something; name not synced.

    Raises:
        FileExistsError: there is something at ``path`` already.
    """
    temporary = _beside(path)
    with NewFile(temporary) as file:
        file.write(data)
        file.close(sync=True)
        created = link(temporary, path)
    remove(temporary)
    if not created:
        raise FileExistsError(path)


def replace(path: Path, data: Bytes) -> None:
    """Make ``path`` hold ``data``: a reader, or a power cut, sees the old bytes or the new ones."""
    temporary = _beside(path)
    with NewFile(temporary) as file:
        file.write(data)
        file.close(sync=True)
        rename(temporary, path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def append(path: Path, data: Bytes) -> None:
    """Append ``data`` to ``path``, which is created if need be, and make it durable."""
    with explained(path, "write"):
        handle = calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NOFOLLOW)
        try:
            view = memoryview(data)
            while view:
                view = view[calls.write(handle, view) :]
            calls.fsync(handle)
        finally:
            calls.close(handle)


def jot(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as a note that nothing depends on: neither durable nor atomic."""
    with suppress(OSError):
        handle = calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NOFOLLOW)
        try:
            calls.write(handle, text.encode("utf-8", "replace"))
        finally:
            calls.close(handle)


def truncate(path: Path, size: int) -> None:
    """Cut ``path`` to its first ``size`` bytes."""
    with explained(path, "write"):
        calls.truncate(path, size)


# --- names


def link(source: Path, target: Path) -> bool:
    """Give ``source`` the further name ``target`` unless that exists; return whether it was free.

    Where hard links are not to be had, ``source`` is moved instead.
    """
    with explained(target, "create"):
        try:
            calls.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(target):
                return False
            calls.rename(source, target)
    return True


def symlink(target: str, path: Path) -> bool:
    """Make ``path``, which must be free, a link that says ``target``; the name is not synced.

    Returns:
        whether it was made: some file systems have no such links, and some users may not make any.
    """
    with explained(path, "create"):
        try:
            calls.symlink(target, path)
        except OSError as error:
            if error.errno in _NO_LINKS or getattr(error, "winerror", None) == _NO_PRIVILEGE:
                return False
            raise
    return True


def rename(source: Path, target: Path) -> None:
    """Move ``source`` over ``target`` and make the new name durable."""
    rename_unsynced(source, target)
    sync_dir(target.parent)


def rename_unsynced(source: Path, target: Path) -> None:
    """Move ``source`` over ``target``; the new name is the caller's to make durable."""
    with explained(target, "write"):
        if sys.platform == "win32" and target.is_file():
            calls.chmod(target, stat.S_IWRITE)  # what is read-only is not replaced there
        _patiently(lambda: calls.rename(source, target))


def _patiently(call: Callable[[], None]) -> None:
    """Make a call again while Windows says that the file is busy, for a while."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.005
    while True:
        try:
            return call()
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _BUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def move_new(source: Path, target: Path) -> None:
    """Move directory or file ``source`` to ``target``, which must not exist, durably.

    Raises:
        ConflictError: there is something at ``target``.
    """
    if os.path.lexists(target):
        raise ConflictError(f"'{target}' exists already")
    with explained(target, "create"):
        _patiently(lambda: calls.rename(source, target))
    sync_dir(target.parent)


def set_mode(path: Path, mode: int) -> None:
    """Set the permission bits of ``path``; file systems without any are left alone."""
    with explained(path, "change"), suppress(PermissionError, NotImplementedError):
        calls.chmod(path, mode)


def remove(path: Path) -> None:
    """Remove the file ``path``; nothing there is fine."""
    with explained(path, "remove"), suppress(FileNotFoundError):
        _unlink(path)


def _unlink(path: Path) -> None:
    if sys.platform == "win32":
        calls.chmod(path, stat.S_IWRITE)
    _patiently(lambda: calls.unlink(path))


def remove_tree(path: Path) -> None:
    """Remove the directory ``path`` and all in it, following no link; nothing there is fine."""
    with explained(path, "remove"), suppress(FileNotFoundError):
        if path.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with os.scandir(path) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(Path(entry.path))
            else:
                remove(Path(entry.path))
        calls.rmdir(path)


def remove_empty_dirs(directories: Iterable[Path]) -> None:
    """Remove those of ``directories`` that are empty, deepest first."""
    for directory in sorted(directories, key=lambda d: len(d.parts), reverse=True):
        with suppress(OSError):
            calls.rmdir(directory)


def copy_new(source: Path, target: Path) -> bool:
    """Copy the file ``source`` to ``target``, which must not exist, sharing blocks where possible.

    A reflink costs no space; where the file system has none the bytes are copied.
    The bytes are not yet durable.

    Returns:
        whether the two share their blocks.
    """
    with explained(source, "read"):
        reader = os.open(source, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        with NewFile(target) as file:
            shared = _clone(reader, file)
            if not shared:
                _copy_bytes(reader, file, source)
            return shared
    finally:
        os.close(reader)


def _copy_bytes(reader: int, file: NewFile, source: Path) -> None:
    while True:
        with explained(source, "read"):
            piece = os.read(reader, _COPY_PIECE)
        if not piece:
            return
        file.write(piece)


def _clone(reader: int, file: NewFile) -> bool:
    try:
        calls.clone(file._handle, reader)  # noqa: SLF001  (same module)
    except OSError:
        return False
    return True


def free_space(path: Path) -> int:
    """Return the bytes an ordinary user may still write at ``path``."""
    with explained(path, "inspect"):
        return shutil.disk_usage(path).free
