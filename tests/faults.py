"""System calls that fail, die or are written down, put in the place of the real ones.

`modelstore.disk` makes every change of the disk through `disk.calls`; what is exchanged here is the
kernel's part, and none of mstore.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.syscalls import Syscalls

CHANGES = (
    *("open", "write", "pwrite", "truncate", "mkdir", "link", "symlink"),
    *("rename", "unlink", "rmdir"),
)
"""The calls after which the disk looks different to another process."""

SYNCS = ("fsync", "syncfs")
OTHERS = ("close", "clone", "chmod")
ALL = (*CHANGES, *SYNCS, *OTHERS)


@contextmanager
def exchanged(calls: Syscalls) -> Iterator[None]:
    """Let mstore make ``calls`` within the block."""
    before, disk.calls = disk.calls, calls
    try:
        yield
    finally:
        disk.calls = before


def is_change(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a call changes the disk; opening something to sync or read it does not."""
    if name == "open":
        return bool(arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return name in CHANGES


class Watched(Syscalls):
    """Real calls, each announced to `before` first."""

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Be told of a call that is about to be made."""

    def __getattribute__(self, name: str) -> Any:
        """Return the call ``name``, watched."""
        found = super().__getattribute__(name)
        if name not in ALL:
            return found

        def call(*arguments: Any) -> Any:
            self.before(name, arguments)
            return found(*arguments)

        return call


class Counting(Watched):
    """Counts the calls that ``matters`` says yes to."""

    def __init__(self, matters: Callable[[str, tuple[Any, ...]], bool]) -> None:
        self.matters = matters
        self.count = 0

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Count, and let `at` see the number of the call."""
        if self.matters(name, arguments):
            self.count += 1
            self.at(self.count, name, arguments)

    def at(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        """Be told of the ``number``-th call that matters, before it is made."""


class Failing(Counting):
    """Lets the ``step``-th call, and with ``lasting`` every one after it, fail with ``error``.

    Attributes:
        failed: the names of the calls that failed.
    """

    def __init__(
        self,
        step: int,
        error: int,
        matters: Callable[[str, tuple[Any, ...]], bool],
        *,
        lasting: bool = False,
    ) -> None:
        super().__init__(matters)
        self.step, self.error, self.lasting = step, error, lasting
        self.failed: list[str] = []

    def at(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        """Fail if it is this one's turn; what is closed is closed all the same, as close(2) says."""
        if number == self.step or (self.lasting and number > self.step):
            self.failed.append(name)
            if name == "close":
                os.close(arguments[0])
            raise OSError(self.error, os.strerror(self.error))


class Unsynced(Syscalls):
    """Syncs nothing, and says that it did."""

    def fsync(self, handle: int) -> None:
        """Do nothing."""

    def syncfs(self, handle: int) -> None:
        """Do nothing."""


class Short(Syscalls):
    """Takes less than it is given at every write, as a signal or a full pipe makes the kernel do."""

    def write(self, handle: int, data: Any) -> int:
        """Write one byte, or half of what there is."""
        return os.write(handle, data[: max(1, len(data) // 2)])

    def pwrite(self, handle: int, data: Any, offset: int) -> int:
        """Do the same at a place."""
        return os.pwrite(handle, data[: max(1, len(data) // 2)], offset)


@dataclass(frozen=True)
class Call:
    """One call as it was made.

    Attributes:
        name: that of the method.
        arguments: its arguments; data is copied.
        result: what it returned: a descriptor, or bytes written.
        site: the lines of mstore that led to it, innermost first; see `site`.
    """

    name: str
    arguments: tuple[Any, ...]
    result: Any
    site: tuple[str, ...]


class Recording(Syscalls):
    """Makes the calls and writes down those that succeed."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.order = threading.RLock()  # as they are made, so are they written down

    def made(self, call: Call) -> None:
        """Be told of a call that succeeded."""

    def __getattribute__(self, name: str) -> Any:
        """Return the call ``name``, which is written down."""
        found = super().__getattribute__(name)
        if name not in ALL:
            return found

        def call(*arguments: Any) -> Any:
            kept = tuple(bytes(a) if isinstance(a, memoryview) else a for a in arguments)
            with self.order:
                result = found(*arguments)
                self.calls.append(Call(name, kept, result, site()))
                self.made(self.calls[-1])
            return result

        return call


_SEAM = ("disk.py", "syscalls.py", "groupsync.py", "staging.py")


def site() -> tuple[str, ...]:
    """Return where in mstore a call comes from: up to the first line that is not of the seam.

    So the two syncs within one `disk.replace` differ, and so do two places that use it.
    """
    frame, found = sys._getframe(1), []
    while frame.f_back is not None:
        frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        if "modelstore" not in path.parts:
            if found:
                break
            continue
        found.append(f"{path.name}:{frame.f_lineno}:{frame.f_code.co_name}")
        if path.name not in _SEAM:
            break
    return tuple(found)
