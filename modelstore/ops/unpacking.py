"""Unpacking: files of versions that come are written while their blobs are proved.

To prove a blob is to decode it, and so is to write it out; whoever wants both pays once. What lies
here is read again and compared with the file's own digest before it counts, as if anybody had
written it; that is done as soon as a file is whole, while others are decoded or the disk is waited
for.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from modelstore import disk
from modelstore.hashing import Bytes, Digest, Hasher
from modelstore.manifest import FileEntry

_MOST_OPEN = 64
"""Files that are unpacked; the smaller ones are decoded when they are written out."""

_PIECE = 1 << 20


class _Unpacked:
    """A file that becomes whole.

    Attributes:
        written: the bytes that were written at each place.
        digest: what lies there, once it is whole; None before.
    """

    def __init__(self, new: disk.NewFile) -> None:
        self.new = new
        self.written: dict[int, int] = {}
        self.digest: Future[Digest] | None = None


class Unpacking:
    """Files that become whole while their blobs come, in any order and from several threads.

    Args:
        directory: where they are written; the caller removes it with all that is in it.
        files: those that are wanted; the largest of them are unpacked.
    """

    def __init__(self, directory: Path, files: Iterable[FileEntry]) -> None:
        self._directory = directory
        self._entering = threading.Lock()
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="mstore-unpacked")
        self._files: dict[Digest, _Unpacked] = {}
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
                one = self._files.get(file.blake3) or self._begun(file)
            if one.digest is not None:  # it is whole, and being read
                continue
            one.new.write_at(data, offset + start)
            with self._entering:
                one.written[offset + start] = len(data)
                if one.digest is None and sum(one.written.values()) == file.size:
                    one.digest = self._reading.submit(_digest, one.new.path)

    def _begun(self, file: FileEntry) -> _Unpacked:
        mode = 0o777 if file.executable else 0o666
        new = disk.NewFile(self._directory / f"file-{file.blake3}", mode=mode)
        return self._files.setdefault(file.blake3, _Unpacked(new))

    def blobs(self) -> Iterable[Digest]:
        """Return the blobs that the files consist of which are unpacked."""
        return self._places.keys()

    def paths(self) -> dict[Digest, Path]:
        """Return where the files lie that are whole, by their digests."""
        return {digest: one.new.path for digest, one in self._files.items() if one.digest}

    def has(self, file: FileEntry) -> bool:
        """Tell whether all bytes of a file were written."""
        one = self._files.get(file.blake3)
        return one is not None and one.digest is not None

    def move(self, file: FileEntry, target: Path) -> bool:
        """Move the whole file to ``target``; return False where it is not here, whole and right."""
        one = self._files.get(file.blake3)
        if one is None or one.digest is None:
            return False
        del self._files[file.blake3]
        one.new.close(sync=False)
        if one.new.size != file.size or one.digest.result() != file.blake3:
            return False
        if os.stat(one.new.path).st_dev != os.stat(target.parent).st_dev:
            return False
        disk.rename_unsynced(one.new.path, target)
        return True

    def close(self) -> None:
        """Close what was not moved."""
        self._reading.shutdown(cancel_futures=True)
        for one in self._files.values():
            one.new.discard()


def _digest(path: Path) -> Digest:
    hasher = Hasher()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.digest()
