"""A remote that is a directory: of another disk, of a share that is mounted, of this machine.

A value is a file; the key is its path. Values are born whole, as everything in the store is:
written under a name in `.mstore-tmp/` that no listing shows, synced, and then given their own.

A writer's files there lie in a directory of its own, held by a lock that dies with its process; so
what a killed writer left is known for what it is, at whatever age, and the next writer removes it.
"""

from __future__ import annotations

import itertools
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path

from modelstore import disk
from modelstore.errors import (
    ConflictError,
    DiskFullError,
    LockTimeoutError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from modelstore.hashing import digest_of
from modelstore.locks import locked
from modelstore.remotes.base import (
    GET_LIMIT,
    Found,
    Tag,
    check_range,
    check_swap,
    is_key,
    parse_key,
    parse_prefix,
)
from modelstore.remotes.content import PIECE, Content, Source, content_of

_TEMPORARY = ".mstore-tmp"
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class DirectoryRemote:
    """A directory as a `Remote`.

    Tags are digests of values: neither inode numbers nor times can be trusted to differ everywhere.
    `swap` needs locks that all writers see. Where a share has none it is refused; where it only
    looks as if it had, two machines may both win, which the registries' chains of records tell.

    Args:
        root: must exist, so that a disk which is not mounted is not taken for an empty remote.
    """

    writable = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self.shown = str(root)
        self._writer: Path | None = None
        self._numbers = itertools.count()
        self._beginning = threading.Lock()
        self._exit = ExitStack()
        if not root.is_dir():
            raise RemoteError(
                f"there is no directory '{root}'",
                f"mount its disk, or make the directory: mkdir -p '{root}'",
            )

    def close(self) -> None:
        """Remove this writer's own directory; the next writer does so for one that was killed."""
        self._exit.close()
        self._writer = None

    # --- reading

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Return the value of ``key``; see `Remote.get`."""
        with self._opened(key) as (file, size):
            if size > limit:
                raise RemoteError(f"'{key}' at '{self.shown}' has {size} bytes, over {limit}")
            return _read(file, 0, size)

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Return the value of ``key`` and its tag; see `Remote.get_tagged`."""
        data = self.get(key, limit)
        return data, _tag(data)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return a part of the value of ``key``; see `Remote.get_range`."""
        check_range(start, stop)
        with self._opened(key) as (file, size):
            if stop > size:
                raise RemoteError(f"'{key}' at '{self.shown}' ends at {size}, before {stop}")
            return _read(file, start, stop - start)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the value of ``key``; see `Remote.stream`."""
        with self._opened(key) as (file, size):
            for start in range(0, size, PIECE):
                yield _read(file, start, min(PIECE, size - start))

    def head(self, key: str) -> Found | None:
        """Return what is known of ``key``; see `Remote.head`."""
        with self._explained():
            try:
                status = self.path_of(key).lstat()
            except _NOT_THERE:
                self._check_root()
                return None
        return _found(key, status) if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Yield the values below ``prefix``, in the order of their keys; see `Remote.list`."""
        prefix = parse_prefix(prefix)
        self._check_root()
        yield from self._walk(self._root / prefix, f"{prefix}/" if prefix else "")

    def _walk(self, directory: Path, before: str) -> Iterator[Found]:
        with self._explained():
            try:
                with os.scandir(directory) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except _NOT_THERE:
                return
        for entry in entries:
            key = before + entry.name
            if not is_key(key):  # `.mstore-tmp`, lost+found, what file managers leave
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{key}/")
            elif entry.is_file(follow_symlinks=False):
                with self._explained(), suppress(FileNotFoundError):  # deleted just now
                    yield _found(key, entry.stat(follow_symlinks=False))

    # --- writing

    def put(self, key: str, source: Source) -> None:
        """Put a value; see `Remote.put`."""
        target = self.path_of(key)
        with self._staged(content_of(source)) as temporary, self._explained():
            disk.make_dir(target.parent)
            disk.rename(temporary, target)

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Put a value unless there is one; see `Remote.put_if_absent`."""
        target = self.path_of(key)
        if os.path.lexists(target):
            return False
        with self._staged(content_of(source)) as temporary, self._explained():
            disk.make_dir(target.parent)
            if not disk.link(temporary, target):
                return False
            disk.sync_dir(target.parent)
        return True

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Replace a value if it is the expected one; see `Remote.swap`."""
        check_swap(data)
        parse_key(key)
        with self._explained():
            self._begin()
            with locked(self._root / _TEMPORARY / "swap.lock"):
                self._expect(key, expected)
                self.put(key, data)
        return _tag(data)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove values; see `Remote.delete`."""
        paths = [self.path_of(key) for key in keys]
        failures = [failure for path in paths if (failure := self._remove(path))]
        with self._explained():
            for parent in {path.parent for path in paths}:
                if parent.is_dir():
                    disk.sync_dir(parent)
        if failures:
            raise failures[0]

    def _remove(self, path: Path) -> StoreError | None:
        try:
            with self._explained():
                disk.remove(path)
        except StoreError as error:
            return error
        return None

    def _expect(self, key: str, expected: Tag | None) -> None:
        try:
            found = self.get_tagged(key)[1]
        except NotFoundError:
            found = None
        if found != expected:
            raise ConflictError(f"'{key}' at '{self.shown}' was changed by somebody else meanwhile")

    # --- files

    def path_of(self, key: str) -> Path:
        """Return the file that holds the value of ``key``, or would hold it."""
        return self._root / parse_key(key)

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[FileIO, int]]:
        path = self.path_of(key)
        with self._explained():
            try:
                file = FileIO(path)
            except _NOT_THERE as error:
                self._check_root()
                raise NotFoundError(f"'{self.shown}' has no '{key}'") from error
            with file:
                yield file, os.fstat(file.fileno()).st_size

    @contextmanager
    def _staged(self, content: Content) -> Iterator[Path]:
        """Write ``content`` to a temporary file, durably, and remove that at the end."""
        with self._explained():
            path = self._begin() / str(next(self._numbers))
            with disk.NewFile(path) as file:
                for piece in content.pieces():
                    file.write(piece)
                file.close(sync=True)
        try:
            yield path
        finally:
            with self._explained():
                disk.remove(path)

    def _begin(self) -> Path:
        """Return the directory of this writer, making it at first use."""
        with self._beginning:
            if self._writer is None:
                self._check_root()
                disk.make_dir(self._root / _TEMPORARY)
                _remove_abandoned(self._root / _TEMPORARY)
                self._writer = self._exit.enter_context(_writing(self._root / _TEMPORARY))
            return self._writer

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise RemoteError(f"'{self.shown}' is gone", "mount its disk and run the command again")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the disk says into a `RemoteError`; kinds that say more stay what they are."""
        try:
            yield
        except OSError as error:
            raise RemoteError(f"cannot read '{self.shown}': {error.strerror}") from error
        except DiskFullError as error:
            hint = f"free some space at '{self.shown}', or take a larger disk"
            raise DiskFullError(error.message, hint) from error
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            raise RemoteError(error.message, error.hint) from error


def create_directory(root: Path) -> DirectoryRemote:
    """Return ``root`` as a remote, making the directory if there is none."""
    disk.make_dir(root)
    return DirectoryRemote(root)


@contextmanager
def _writing(temporary: Path) -> Iterator[Path]:
    """Hold a directory of one's own in ``temporary``; it and its lock are removed at the end."""
    directory = temporary / os.urandom(8).hex()
    lock = directory.with_suffix(".lock")
    with locked(lock):
        disk.make_new_dir(directory)
        try:
            yield directory
        finally:
            disk.remove_tree(directory)
    _remove_lock(lock)


def _remove_abandoned(temporary: Path) -> None:
    for directory in sorted(path for path in temporary.glob("*") if path.is_dir()):
        lock = directory.with_suffix(".lock")
        try:
            with locked(lock, timeout=0):
                disk.remove_tree(directory)
        except LockTimeoutError:
            continue
        _remove_lock(lock)


def _remove_lock(lock: Path) -> None:
    disk.remove(lock)
    disk.remove(lock.with_suffix(".owner"))


def _read(file: FileIO, start: int, size: int) -> bytes:
    """Return exactly ``size`` bytes from ``start``; a value is never cut, only replaced."""
    file.seek(start)
    data = bytearray()
    while len(data) < size:
        piece = file.read(size - len(data))
        if not piece:
            raise RemoteError("a file at the remote became shorter while it was read")
        data += piece
    return bytes(data)


def _found(key: str, status: os.stat_result) -> Found:
    modified = datetime.fromtimestamp(int(status.st_mtime), tz=timezone.utc)
    return Found(key, status.st_size, None, modified)


def _tag(data: bytes) -> Tag:
    return Tag(digest_of(data))
