"""Room: whether what a commit adds can fit at all, asked before anything is encoded.

How small frames become is known only when they are made, so this is what they take at least: a
file each, and a block of the disk. A commit that passes may still find the disk full; then it
fails as cleanly, only later.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from modelstore import disk
from modelstore.errors import DiskFullError, StoreError
from modelstore.hashing import Digest
from modelstore.sizes import human_size
from modelstore.store import Store

_BLOCK = 4096
"""Bytes that the smallest file takes on most file systems."""

_OTHERS = 24
"""Files beside the frames: staging, a version's directory, records, temporary ones."""


def require_room(store: Store, blobs: Iterable[Digest]) -> None:
    """Raise if the frames of those of ``blobs`` that the store lacks surely do not fit.

    Raises:
        DiskFullError: there is no room for so many files, or bytes.
    """
    files = sum(digest not in store.blobs for digest in set(blobs)) + _OTHERS
    place = store.meta if store.meta.exists() else store.root
    hint = "free some space, as with: mstore gc"
    left = _files_left(place)
    if left is not None and files > left:
        raise DiskFullError(
            f"the commit makes {files} files, and '{store.root}' has room for {left}", hint
        )
    free = disk.free_space(place)
    if files * _BLOCK > free:
        raise DiskFullError(
            f"the commit takes at least {human_size(files * _BLOCK)}, "
            f"and {human_size(free)} are free at '{store.root}'",
            hint,
        )


def require_writable(store: Store) -> None:
    """Raise if the store's directories say that it may only be read."""
    for place in (store.root, store.meta, store.meta / "tmp"):
        if place.exists() and not os.access(place, os.W_OK):
            raise StoreError(
                f"the store '{store.root}' cannot be written to",
                f"check the permissions: ls -ld '{place}'",
            )


def _files_left(place: Path) -> int | None:
    """Return how many files may still be made; None where the file system has no such limit."""
    if sys.platform == "win32":
        return None
    with disk.explained(place, "inspect"):
        found = os.statvfs(place)
    return found.f_favail if found.f_files else None
