"""Reads files once: splits each into spans and takes every digest, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs import FileSource
from modelstore.errors import ConflictError, IntegrityError
from modelstore.formats.base import Span
from modelstore.formats.split import split
from modelstore.hashing import FileHasher, Hasher
from modelstore.manifest import BlobSpan, FileEntry
from modelstore.ops.tree import Found
from modelstore.progress import Progress

_PIECE = 8 << 20
"""Bytes read at once; large enough that threads beat their own cost."""


class CommittedFile:
    """The bytes of a file, read by position and never mapped: a shrinking file must not kill us.

    Use as a context manager.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._file = FileSource(path)
        self._status = self._file.status()
        self.size = self._file.size

    def __enter__(self) -> CommittedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, start: int, stop: int) -> bytes:
        """Return exactly the bytes ``[start, stop)``.

        Raises:
            ConflictError: the file has become shorter since it was opened.
        """
        try:
            return self._file.read(start, stop)
        except IntegrityError as error:
            raise self.changed() from error

    def check_unchanged(self) -> None:
        """Raise unless the file has the size and the times it was opened with.

        Raises:
            ConflictError: somebody wrote to it.
        """
        now, then = self._file.status(), self._status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise self.changed()

    @property
    def stamp(self) -> tuple[int, int, int]:
        """Size in bytes, modification time in nanoseconds and inode when it was opened."""
        return self._status.st_size, self._status.st_mtime_ns, self._status.st_ino

    def changed(self) -> ConflictError:
        """Return the error that says that somebody wrote to the file."""
        return ConflictError(
            f"'{self._file.path}' changed while it was being committed",
            "commit again when it is whole",
        )


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes ``[start, start + size)`` of an open file, as what a blob is made from."""

    file: CommittedFile
    start: int
    size: int

    def read(self, start: int, stop: int) -> bytes:
        """Return exactly the bytes ``[start, stop)`` of the part."""
        return self.file.read(self.start + start, self.start + stop)


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file with its digests.

    Attributes:
        found: where it is.
        entry: what the manifest will say.
        stamp: size, modification time and inode of what was read, as `working.stamp` gives them.
        warning: from the split, which names the file, or "".
    """

    found: Found
    entry: FileEntry
    stamp: tuple[int, int, int]
    warning: str


def scan(files: Sequence[Found], progress: Progress) -> list[Scanned]:
    """Split and hash ``files``, in their order.

    Raises:
        ConflictError: a file changed while it was read.
    """
    total = sum(file.size for file in files)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress("hash", done, total)

    scanned = []
    with ThreadPoolExecutor(max_workers=1) as pool:
        for file in files:
            with CommittedFile(file.source, file.path) as source:
                scanned.append(_scan_file(file, source, pool, advance))
    return scanned


def _scan_file(
    found: Found, source: CommittedFile, pool: ThreadPoolExecutor, advance: Callable[[int], None]
) -> Scanned:
    cut = split(source)
    whole = FileHasher(source.size)
    spans = []
    for span in cut.spans:
        hasher = Hasher()
        for piece in _pieces(source, span):
            # both hashers release the GIL, so a second core halves the time
            other = pool.submit(whole.update, piece)
            hasher.update(piece)
            other.result()
            advance(len(piece))
        spans.append(BlobSpan(hasher.digest(), span.stop - span.start, span.dtype, span.tensors))
    source.check_unchanged()
    entry = FileEntry(
        path=found.path,
        size=source.size,
        blake3=whole.blake3,
        sha256=whole.sha256,
        git_sha1=whole.git_sha1,
        format=cut.format,
        executable=found.executable,
        spans=tuple(spans),
    )
    return Scanned(found, entry, source.stamp, cut.warning)


def _pieces(source: CommittedFile, span: Span) -> Iterator[bytes]:
    for start in range(span.start, span.stop, _PIECE):
        yield source.read(start, min(start + _PIECE, span.stop))
