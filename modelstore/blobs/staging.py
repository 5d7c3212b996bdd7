"""Staging: a directory below `tmp/` for frames that have no name in `blobs/` yet.

It is held by a lock that dies with its process. So what a killed process leaves behind is known
for what it is, and a process knows whether others are at work.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType

from modelstore import disk
from modelstore.errors import LockTimeoutError, StoreError
from modelstore.groupsync import GroupSync
from modelstore.hashing import Digest
from modelstore.locks import DEFAULT_TIMEOUT, locked, store_lock


class Staging:
    """A directory of new frames, and their way to the disk.

    Use as a context manager. `new_path` and `add` may be called by several threads at once.

    Attributes:
        directory: `tmp/<id>`; removed at the end with all that is in it.

    Args:
        root: the store's `.mstore` directory.
        lock_timeout: seconds to wait for the store's lock.
    """

    def __init__(self, root: Path, lock_timeout: float = DEFAULT_TIMEOUT) -> None:
        self.directory = root / "tmp" / os.urandom(8).hex()
        self._root = root
        self._lock_timeout = lock_timeout
        self._numbers = itertools.count()
        self._exit = ExitStack()

    def __enter__(self) -> Staging:
        with ExitStack() as stack:
            stack.callback(_remove_lock, self.directory)
            stack.enter_context(locked(_lock_of(self.directory)))
            with self.lock():  # whoever has the lock knows that nobody begins meanwhile
                disk.make_new_dir(self.directory)
            stack.callback(disk.remove_tree, self.directory)
            self._sync = stack.enter_context(GroupSync(self.directory))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    def new_path(self, digest: Digest) -> Path:
        """Return where a frame of ``digest`` may be written; never the same place twice."""
        return self.directory / f"{digest}.{next(self._numbers)}"

    def add(self, path: Path) -> None:
        """Note a file or directory that the next `sync` must make durable."""
        self._sync.add(path)

    def sync(self) -> None:
        """Make everything added since the last call durable.

        Raises:
            StoreError: the kernel could not write something back; nothing may be trusted.
        """
        self._sync.sync()

    def lock(self) -> AbstractContextManager[None]:
        """Return a context that holds the store's lock, under which frames get their names."""
        return locked(store_lock(self._root), timeout=self._lock_timeout)

    def is_alone(self) -> bool:
        """Tell whether nobody else is staging; whoever holds the lock knows that it stays so."""
        others = (path for path in _directories(self._root) if path != self.directory)
        return not any(map(_is_live, others))


def remove_abandoned(root: Path) -> int:
    """Remove what killed processes left staged in the store ``root``; return how many did.

    A staging directory is made when its lock is held, and removed while it is. So a directory
    whose lock is to be had is nobody's; a lock without one may be about to be taken.
    """
    removed = 0
    for directory in _directories(root):
        try:
            with locked(_lock_of(directory), timeout=0):
                removed += directory.is_dir()  # else it ended just now
                disk.remove_tree(directory)
        except LockTimeoutError:
            continue
        _remove_lock(directory)
    _remove_lone_locks(root)
    return removed


def _remove_lone_locks(root: Path) -> None:
    """Remove the locks of those who were killed before they made, or after they removed, a directory.

    Each goes while it is held: whoever waits for it finds that its file has gone, and makes another.
    """
    for lock in sorted((root / "tmp").glob("*.lock")):
        directory = lock.with_suffix("")
        with suppress(LockTimeoutError):
            if not directory.is_dir():
                with locked(lock, timeout=0):
                    if not directory.is_dir():
                        _remove_lock(directory)


def _directories(root: Path) -> Iterator[Path]:
    yield from sorted(path for path in (root / "tmp").glob("*") if path.is_dir())


def _is_live(directory: Path) -> bool:
    try:
        with locked(_lock_of(directory), timeout=0):
            pass
    except LockTimeoutError:
        return True
    if not directory.is_dir():  # it ended just now, and looking at its lock made that anew
        _remove_lock(directory)
    return False


def _lock_of(directory: Path) -> Path:
    return directory.with_suffix(".lock")


def _remove_lock(directory: Path) -> None:
    with suppress(StoreError):  # what stays is known as abandoned; the error before it matters more
        disk.remove(directory.with_suffix(".lock"))
        disk.remove(directory.with_suffix(".owner"))
