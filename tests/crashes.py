"""Kills a process at every step of what it does to the disk, for tests of what is left behind.

The interpreter announces each call that makes, renames, links, cuts or removes a file before it is
made (PEP 578), so nothing of ours has to be replaced to die there.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable

_CHANGES = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
_CRASHED = 99


def crashes(action: Callable[[], object], step: int) -> bool:
    """Run ``action`` in a child that dies just before its ``step``-th change of the disk.

    Returns:
        True if it died there, False if it was done before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        child = os.fork()
    if child == 0:
        _die_within(action, step)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, _CRASHED}, f"the child ended with {code}"
    return code == _CRASHED


def _die_within(action: Callable[[], object], step: int) -> None:
    left = step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in _CHANGES or (event == "open" and _writes(arguments[2])):
            left -= 1
            if left == 0:
                os._exit(_CRASHED)

    try:
        sys.addaudithook(count)
        action()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
