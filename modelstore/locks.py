"""Locks between processes; the one home of filelock.

A lock is the operating system's: it dies with its holder, so none is ever stale.
Beside it lies a note of who holds it, for the message of whoever waits in vain.
Readers take no lock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelstore import disk
from modelstore.errors import LockTimeoutError

DEFAULT_TIMEOUT = 30.0
"""Seconds to wait for a lock that is held for milliseconds when all is well."""


def store_lock(meta: Path) -> Path:
    """Return the lock under which everything in the store at ``meta`` is published and swept."""
    return meta / "locks" / "store.lock"


def gc_lock(meta: Path) -> Path:
    """Return the lock of whoever goes over all frames of the store at ``meta``: one at a time."""
    return meta / "locks" / "gc.lock"


@contextmanager
def locked(path: Path, *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[None]:
    """Hold the lock file ``path`` for the length of the block.

    Args:
        path: the lock file; created if need be, never removed.
        timeout: seconds to wait.

    Raises:
        LockTimeoutError: another process held it all that time.
    """
    from filelock import FileLock, Timeout  # readers must not load it

    owner = path.with_suffix(".owner")
    lock = FileLock(path, timeout=timeout, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise _timed_out(path, owner, timeout) from error
    except OSError as error:
        raise disk.explain(error, path, "lock") from error
    try:
        _note_owner(owner)
        yield
    finally:
        lock.release()


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
