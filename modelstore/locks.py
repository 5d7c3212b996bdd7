"""Locks between processes; the one home of filelock.

A lock is the operating system's: it dies with its holder, so none is ever stale.
Beside it lies a note of who holds it, for the message of whoever waits in vain.
Readers take no lock.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.errors import LockTimeoutError, StoreError

if TYPE_CHECKING:
    from filelock import BaseFileLock

DEFAULT_TIMEOUT = 30.0
"""Seconds to wait for a lock that is held for milliseconds when all is well."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


def store_lock(meta: Path) -> Path:
    """Return the lock under which everything in the store at ``meta`` is published and swept."""
    return meta / "locks" / "store.lock"


def gc_lock(meta: Path) -> Path:
    """Return the lock of whoever goes over all frames of the store at ``meta``: one at a time."""
    return meta / "locks" / "gc.lock"


def make(path: Path) -> None:
    """Create the lock file ``path`` ahead of time, if it is not there and can be made."""
    if not path.exists():
        disk.jot(path, "")
        with suppress(StoreError):
            disk.set_mode(path, _mode(path))


@contextmanager
def locked(path: Path, *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[None]:
    """Hold the lock file ``path`` for the length of the block.

    Args:
        path: the lock file; created if need be, never removed.
        timeout: seconds to wait.

    Raises:
        LockTimeoutError: another process held it all that time.
        StoreError: the file system has no locks; nothing that only looks like one is used instead.
    """
    from filelock import Timeout  # readers must not load it

    owner = path.with_suffix(".owner")
    lock = _lock(path, timeout)
    try:
        lock.acquire()
    except Timeout as error:
        raise _timed_out(path, owner, timeout) from error
    except OSError as error:
        raise _explain(error, path) from error
    try:
        _note_owner(owner)
        yield
    finally:
        lock.release()


def _lock(path: Path, timeout: float) -> BaseFileLock:
    from filelock import FileLock

    try:
        return FileLock(
            path, timeout=timeout, mode=_mode(path), poll_interval=0.01, fallback_to_soft=False
        )
    except TypeError as error:  # before 3.30 a lock file was removed while others waited for it
        raise StoreError(
            "the filelock that is installed is too old", "pip install -U 'filelock>=3.30'"
        ) from error


def _mode(path: Path) -> int:
    """Return who may lock: whoever may write to the directory, so that a group can share a store."""
    try:
        return stat.S_IMODE(path.parent.stat().st_mode) & 0o666 | 0o600
    except OSError:
        return 0o600  # it cannot be made there anyway


def _explain(error: OSError, path: Path) -> StoreError:
    if error.errno in _NO_LOCKS:
        return StoreError(
            f"the file system of '{path}' has no locks ({os.strerror(error.errno or 0)})",
            "keep the store on a local disk, or have the share mounted with locks",
        )
    return disk.explain(error, path, "lock")


def _note_owner(owner: Path) -> None:
    note = {
        "pid": os.getpid(),
        "host": os.uname().nodename if hasattr(os, "uname") else "",
        "command": " ".join(Path(word).name for word in sys.argv[:2]),
        "since": time.time_ns() // 1_000_000_000,
    }
    disk.jot(owner, json.dumps(note))


def _timed_out(path: Path, owner: Path, timeout: float) -> LockTimeoutError:
    who = "another process"
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(owner.read_text(encoding="utf-8"))
        age = max(0, int(time.time()) - int(note["since"]))
        who = (
            f"process {int(note['pid'])} on {str(note['host'])!r} "
            f"({str(note['command'])!r}, for {age} s)"
        )
    return LockTimeoutError(
        f"'{path.name}' is held by {who}; waited {timeout:g} s",
        "wait for it to end, or raise --lock-timeout",
    )
