"""Lineage: which frames of the store are built on which.

Whoever replaces a frame by a deeper one must know that nothing is built on it. Frames come and
change while others commit, so this is looked up anew, at the price of a look at every file's
stamp; only headers of files that changed are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from modelstore import disk
from modelstore.blobs.frame import FrameHeader, parse_header
from modelstore.blobs.source import open_frame
from modelstore.blobs.store import BlobStore
from modelstore.errors import IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest

_Stamp = tuple[int, int, int]


class Lineage:
    """The bases of all frames in a blob store.

    A blob that was once seen as a base counts as one for good: a reader may have opened the frame
    that was built on it, and be about to open the base. Frames in the trash count too: they may be
    taken back, and must still fit.

    Attributes:
        unreadable: what of the store could not be read though it may be whole, one sentence each.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._stamps: dict[Digest, _Stamp] = {}
        self._bases: set[Digest] = set()
        self._trashed: set[Path] = set()
        self.unreadable: dict[Digest, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the headers of the frames that are new or were replaced since the last time.

        Raises:
            StoreError: a directory cannot be read.
        """
        stamps = dict(_stamps(self._blobs.root / "blobs"))
        for digest, stamp in stamps.items():
            if self._stamps.get(digest) != stamp:
                self._read(digest, self._blobs.path(digest))
        self._stamps = stamps
        for item in self._blobs.trash().content():
            if item.digest is not None and item.path not in self._trashed:
                self._trashed.add(item.path)
                self._read(item.digest, item.path)

    def note(self, header: FrameHeader) -> None:
        """Take in a frame that was published just now."""
        self._bases.update(header.built_on)

    def may_become_deeper(self, digest: Digest) -> bool:
        """Tell whether nothing is, or may be, built on the frame of ``digest``."""
        return digest not in self._bases and not self.unreadable

    def _read(self, digest: Digest, path: Path) -> None:
        self.unreadable.pop(digest, None)
        try:
            with open_frame(path, digest) as source:
                self.note(parse_header(source, digest))
        except (IntegrityError, NotFoundError):
            return  # nothing can be read from it, on whatever it was built
        except StoreError as error:
            self.unreadable[digest] = error.message


def _stamps(blobs: Path) -> Iterator[tuple[Digest, _Stamp]]:
    """Yield what changes whenever a frame gets its name or is replaced."""
    for directory in filter(os.DirEntry.is_dir, _entries(blobs)):
        for entry in _entries(Path(directory.path)):
            status = entry.stat(follow_symlinks=False)
            yield Digest(entry.name), (status.st_ino, status.st_mtime_ns, status.st_size)


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    with disk.explained(directory, "read"), os.scandir(directory) as entries:
        return list(entries)
