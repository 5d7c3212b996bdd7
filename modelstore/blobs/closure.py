"""The closure of blobs: they, and all that their frames are built on.

A frame may be replaced by one that is built on others, at any moment and by another process. So
each is remembered together with its file's stamp, and what a look at the stamps shows to be new is
read again: that is quick enough to be done while the store's lock is held.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore.blobs.store import BlobStore
from modelstore.errors import NotFoundError
from modelstore.hashing import Digest

Stamp = tuple[int, int, int]
"""Inode, modification time in nanoseconds, bytes: what changes when a frame is replaced."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame as it was when its header was read; no stamp: there was none."""

    stamp: Stamp | None
    built_on: tuple[Digest, ...]


class Closure:
    """Remembers what frames are built on, and follows that.

    Args:
        blobs: the blob store.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._seen: dict[Digest, _Seen] = {}

    def of(self, blobs: Iterable[Digest]) -> set[Digest]:
        """Return ``blobs`` and, as far as their frames are here, everything they are built on.

        Raises:
            IntegrityError: a frame's header is damaged, so that nobody can tell.
            NewerFormatError: a frame was written by a newer mstore.
            StoreError: a frame cannot be read.
        """
        found: set[Digest] = set()
        waiting = list(blobs)
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self._look(digest).built_on
        return found

    def absent(self, blobs: Iterable[Digest]) -> list[Digest]:
        """Return those of ``blobs`` that have no frame in the store, sorted."""
        return sorted(digest for digest in blobs if self._look(digest).stamp is None)

    def refresh(self) -> None:
        """Forget what is no longer as it was; takes a stat of every frame that is known."""
        changed = [
            d for d, seen in self._seen.items() if stamp_of(self._blobs.path(d)) != seen.stamp
        ]
        for digest in changed:
            del self._seen[digest]

    def _look(self, digest: Digest) -> _Seen:
        if digest not in self._seen:
            stamp = stamp_of(self._blobs.path(digest))  # first: a later frame will be noticed
            built_on: tuple[Digest, ...] = ()
            if stamp is not None:
                with suppress(NotFoundError):  # it went just now, which the next refresh shows
                    built_on = self._blobs.header(digest).built_on
            self._seen[digest] = _Seen(stamp, built_on)
        return self._seen[digest]


def stamp_of(path: Path) -> Stamp | None:
    """Return what tells the file at ``path`` from any other that was there; None for no file.

    Raises:
        StoreError: the directory cannot be looked into.
    """
    with disk.explained(path, "read"):
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
    return status.st_ino, status.st_mtime_ns, status.st_size
