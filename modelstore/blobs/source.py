"""Where bytes are read from: anything with a size and exact ranges."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from modelstore import disk
from modelstore.errors import IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Bytes, Digest

_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # a pipe would wait for whoever writes to it


class RawSource(Protocol):
    """Random access to bytes; `modelstore.formats.base.Source` is one."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return exactly the bytes ``[start, stop)``; they lie within the source."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: Bytes) -> None:
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``."""
        return self._view[start:stop].tobytes()


class FileSource:
    """An open file; several threads may read it at once.

    Raises:
        StoreError: it cannot be opened.
        IntegrityError: it is no file but a pipe, a device or a directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk.explained(path, "read"):
            self._handle = os.open(path, os.O_RDONLY | _PLAIN | _NO_WAITING)
        status = self.status()
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise IntegrityError(f"'{path}' is not a regular file", f"look at it: ls -l '{path}'")

    def status(self) -> os.stat_result:
        """Return what the system knows of the file now, wherever its name may lead by now."""
        return os.fstat(self._handle)

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``.

        Raises:
            IntegrityError: the file has become shorter than it was when it was opened.
        """
        with disk.explained(self.path, "read"):
            data = os.pread(self._handle, stop - start, start)
            while len(data) < stop - start:  # one call reads at most 2 GiB, or less on a signal
                more = os.pread(self._handle, stop - start - len(data), start + len(data))
                if not more:
                    raise IntegrityError(f"'{self.path}' ends early", "run: mstore fsck --full")
                data += more
        return data

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def open_frame(path: Path, digest: Digest, child: Digest | None = None) -> FileSource:
    """Open the frame of blob ``digest`` at ``path``, perhaps for blob ``child`` built on it.

    Raises:
        NotFoundError: there is none.
    """
    try:
        return FileSource(path)
    except StoreError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        what = f"blob '{digest}' is not in the store"
        if child is not None:
            what = f"blob '{digest}' is missing, and blob '{child}' is built on it"
        raise NotFoundError(what, "run: mstore fsck --full") from error
