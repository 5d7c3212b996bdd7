"""Unpacking: files of versions that come are written while their blobs are proved.

To prove a blob is to decode it, and so is to write it out; whoever wants both pays once. What lies
here is compared with the file's own digest before it counts, as if anybody had written it.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from modelstore import disk
from modelstore.hashing import Bytes, Digest, Hasher
from modelstore.manifest import FileEntry

_MOST_OPEN = 64
"""Files that are unpacked; the smaller ones are decoded when they are written out."""

_PIECE = 4 << 20


class Unpacking:
    """Files that become whole while their blobs come, in any order and from several threads.

    Args:
        directory: where they are written; the caller removes it with all that is in it.
        files: those that are wanted; the largest of them are unpacked.
    """

    def __init__(self, directory: Path, files: Iterable[FileEntry]) -> None:
        self._directory = directory
        self._entering = threading.Lock()
        self._open: dict[Digest, disk.NewFile] = {}
        self._written: defaultdict[Digest, dict[int, int]] = defaultdict(dict)
        self._places: defaultdict[Digest, list[tuple[FileEntry, int]]] = defaultdict(list)
        distinct = {file.blake3: file for file in files}
        for file in sorted(distinct.values(), key=lambda one: -one.size)[:_MOST_OPEN]:
            start = 0
            for span in file.spans:
                self._places[span.blob].append((file, start))
                start += span.size

    def take(self, blob: Digest, start: int, data: Bytes) -> None:
        """Write the bytes of ``blob`` that begin at ``start`` wherever files have them.

        Raises:
            DiskFullError: no room.
        """
        for file, offset in self._places.get(blob, ()):
            with self._entering:
                new = self._open.get(file.blake3) or self._begun(file)
                self._written[file.blake3][offset + start] = len(data)
            new.write_at(data, offset + start)

    def _begun(self, file: FileEntry) -> disk.NewFile:
        mode = 0o777 if file.executable else 0o666
        path = self._directory / f"file-{file.blake3}"
        return self._open.setdefault(file.blake3, disk.NewFile(path, mode=mode))

    def has(self, file: FileEntry) -> bool:
        """Tell whether all bytes of a file were written."""
        written = self._written.get(file.blake3, {})
        return bool(written) and sum(written.values()) == file.size

    def move(self, file: FileEntry, target: Path) -> bool:
        """Move the whole file to ``target``; return False where it is not here, whole and right."""
        if not self.has(file):
            return False
        del self._written[file.blake3]
        new = self._open.pop(file.blake3)
        new.close(sync=False)
        if new.size != file.size or _digest(new.path) != file.blake3:
            return False
        if os.stat(new.path).st_dev != os.stat(target.parent).st_dev:
            return False
        disk.rename_unsynced(new.path, target)
        return True

    def close(self) -> None:
        """Close what was not moved."""
        for new in self._open.values():
            new.discard()


def _digest(path: Path) -> Digest:
    hasher = Hasher()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.digest()
