"""Reads files once: splits each into spans and takes every digest, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs import FileSource
from modelstore.errors import ConflictError, IntegrityError
from modelstore.formats.split import split
from modelstore.hashing import Digest, FileHasher, Hasher
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


def scan(
    files: Sequence[Found], progress: Progress, known: Mapping[str, FileEntry] | None = None
) -> list[Scanned]:
    """Split and hash ``files``, in their order.

    Args:
        known: by its path, what each file held before. One that still holds it is read by BLAKE3
            alone, as its other digests are known then; that takes a fraction of the time.

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
                guess = (known or {}).get(file.path)
                scanned.append(_scan_file(file, source, pool, advance, guess))
    return scanned


def _scan_file(
    found: Found,
    source: CommittedFile,
    pool: ThreadPoolExecutor,
    advance: Callable[[int], None],
    guess: FileEntry | None,
) -> Scanned:
    cut = split(source)
    whole = _Whole(source, pool, guess if guess and guess.size == source.size else None)
    spans: list[BlobSpan] = []
    for span in cut.spans:
        hasher = Hasher()
        for piece in _pieces(source, span.start, span.stop):
            other = whole.begin(piece)
            hasher.update(piece)
            other()
            advance(len(piece))
        whole.compare(len(spans), hasher.digest())
        spans.append(BlobSpan(hasher.digest(), span.stop - span.start, span.dtype, span.tensors))
    digests = whole.digests(len(spans))
    source.check_unchanged()
    entry = FileEntry(
        path=found.path,
        size=source.size,
        blake3=digests.blake3,
        sha256=digests.sha256,
        git_sha1=digests.git_sha1,
        format=cut.format,
        executable=found.executable,
        spans=tuple(spans),
    )
    return Scanned(found, entry, source.stamp, cut.warning)


def _pieces(source: CommittedFile, start: int, stop: int) -> Iterator[bytes]:
    for place in range(start, stop, _PIECE):
        yield source.read(place, min(place + _PIECE, stop))


class _Whole:
    """The digests of a whole file, taken beside those of its spans.

    All hashers release the GIL, so with a second core they take no longer than the slowest.

    Args:
        guess: what the file may hold; as long as every span is as it says, nothing else is hashed.
    """

    def __init__(
        self, source: CommittedFile, pool: ThreadPoolExecutor, guess: FileEntry | None
    ) -> None:
        self._source = source
        self._pool = pool
        self._guess = guess
        self._hasher = FileHasher(source.size)
        self._late: Future[None] | None = None

    def begin(self, piece: bytes) -> Callable[[], object]:
        """Begin to hash the next piece, if need be; return what waits for the end of that."""
        if self._guess is not None or self._late is not None:
            return lambda: None
        return self._pool.submit(self._hasher.update, piece).result

    def compare(self, number: int, digest: Digest) -> None:
        """Take note of the digest of a span; the first that is not the guessed one ends guessing."""
        if self._guess is None:
            return
        spans = self._guess.spans
        if number >= len(spans) or spans[number].blob != digest:
            self._guess, self._late = None, self._pool.submit(self._hash_all)

    def digests(self, count: int) -> FileHasher | FileEntry:
        """Return what has the digests of the file, which has so many spans."""
        if self._guess is not None and len(self._guess.spans) == count:
            return self._guess
        if self._guess is not None:
            self._hash_all()
        elif self._late is not None:
            self._late.result()
        return self._hasher

    def _hash_all(self) -> None:
        for piece in _pieces(self._source, 0, self._source.size):
            self._hasher.update(piece)
