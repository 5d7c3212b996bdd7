"""Kills a process at every step of what it does to the disk, for tests of what is left behind."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from tests.faults import Counting, exchanged, is_change

_CRASHED = 99


def crashes(action: Callable[[], object], step: int) -> bool:
    """Run ``action`` in a child that dies at the ``step``-th place where that makes a difference.

    That is before each call that changes what others see on the disk, and in the middle of each
    write.

    Returns:
        True if it died there, False if it was done before.
    """
    code = forked(lambda: _doomed(action, step))
    assert code in {0, _CRASHED}, f"the child ended with {code}"
    return code == _CRASHED


def forked(action: Callable[[], object]) -> int:
    """Run ``action`` in a child; return its exit code, 1 after an exception, which is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _doomed(action: Callable[[], object], step: int) -> None:
    with exchanged(_Dying(step)):
        action()


class _Dying(Counting):
    def __init__(self, step: int) -> None:
        super().__init__(is_change)
        self.step = step

    def at(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number == self.step:
            os._exit(_CRASHED)
        if name in {"write", "pwrite"}:
            self.count += 1
            if self.count == self.step:
                handle, data, *_ = arguments
                half = memoryview(data).cast("B")[: len(data) // 2]
                os.write(handle, half) if name == "write" else os.pwrite(handle, half, *_)
                os._exit(_CRASHED)
