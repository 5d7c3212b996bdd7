"""Durability of many new files at once: hundreds of fsyncs would each wait for the disk in turn."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modelstore import disk

# statfs(2) types of the file systems whose syncfs() is known to wait for the data (Linux >= 5.8).
_SYNCFS_TRUSTED = {0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0xF2F52010: "f2fs"}


class GroupSync:
    """One `syncfs` for many new files, or an fsync of each where that is not to be trusted.

    Open it before the first write: the kernel reports a failed write-back only to descriptors
    that were open when it failed.
    """

    def __init__(self, directory: Path) -> None:
        self._handle = -1
        if durability(directory) == "syncfs":
            with disk.explained(directory, "open"):
                self._handle = disk.calls.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._pending: list[Path] = []

    def __enter__(self) -> GroupSync:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            disk.calls.close(self._handle)
            self._handle = -1

    def add(self, path: Path) -> None:
        """Note a file or directory that the next `sync` must make durable."""
        self._pending.append(path)

    def sync(self) -> None:
        """Make everything added since the last call durable.

        Raises:
            StoreError: the kernel could not write something back; nothing may be trusted.
        """
        paths, self._pending = self._pending, []
        if self._handle >= 0 and len(paths) > _FEW_FILES:
            with disk.explained(paths[0].parent, "sync"):
                disk.calls.syncfs(self._handle)
            return
        for path in paths:
            disk.sync_path(path)


_FEW_FILES = 4
"""Up to this many an fsync each is cheaper than a sync of the whole file system."""


def durability(directory: Path) -> str:
    """Return how a group of files in ``directory`` is made durable: "syncfs" or "fsync"."""
    if not sys.platform.startswith("linux"):
        return "fsync"
    return "syncfs" if _statfs_type(directory) in _SYNCFS_TRUSTED else "fsync"


def _statfs_type(directory: Path) -> int:
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(directory), buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
