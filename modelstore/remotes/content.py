"""What is put at a remote: bytes in memory, a file, or pieces that are made while they are sent.

Pieces can be had again from the beginning, because sending may have to begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from modelstore import disk
from modelstore.errors import ConflictError
from modelstore.hashing import Bytes

PIECE = 4 << 20
"""Bytes that are read, sent and received at a time."""


class Content(Protocol):
    """A value of a known size, piece by piece."""

    @property
    def size(self) -> int:
        """Bytes of all pieces together."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the value from its beginning; may be called again.

        Raises:
            ConflictError: it has not the size that it had.
        """
        ...


Source = Bytes | Path | Content
"""A file is named by its path, and must not change until it is sent."""


class HeldContent:
    """A value in memory."""

    def __init__(self, data: Bytes) -> None:
        self._data = bytes(data)
        self.size = len(self._data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the value at once."""
        yield self._data


class FileContent:
    """A value in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with disk.explained(path, "read"):
            self.size = path.stat().st_size

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes."""
        left = self.size
        with disk.explained(self._path, "read"), self._path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left:
            raise ConflictError(f"'{self._path}' was changed while it was sent")


class MadeContent:
    """A value that is made while it is sent.

    Args:
        size: its bytes.
        make: yields it from its beginning, each time it is called.
    """

    def __init__(self, size: int, make: Callable[[], Iterator[bytes]]) -> None:
        self.size = size
        self._make = make

    def pieces(self) -> Iterator[bytes]:
        """Yield what is made."""
        left = self.size
        for piece in self._make():
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise ConflictError("a value was changed while it was sent")


def content_of(source: Source) -> Content:
    """Return ``source`` as a content."""
    if isinstance(source, bytes | bytearray | memoryview):
        return HeldContent(source)
    if isinstance(source, Path):
        return FileContent(source)
    return source


def held(content: Content) -> bytes:
    """Return the whole of a small ``content``."""
    return b"".join(content.pieces())
