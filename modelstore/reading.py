"""Reads small files that anybody may have put there.

A store, or a directory that is adopted or committed, may come from a stranger: where a file is
expected there may be a pipe, which would wait for ever for somebody to write to it, or a device.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)


def read_if_readable(path: Path, most: int = -1) -> bytes | None:
    """Return the bytes of a regular file, None where there is none that can be read.

    For whoever treats damage and absence alike. With ``most`` it is the first so many bytes.
    """
    try:
        return read_file(path, most)
    except OSError:
        return None


def read_file(path: Path, most: int = -1) -> bytes:
    """Return the bytes of a regular file, or the first ``most`` of them.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | _NO_WAITING | _BINARY)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"'{path}' is not a regular file")
        return file.read(most)
