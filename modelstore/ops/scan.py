"""Reads files once: splits each into spans and takes every digest, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs import FileSource
from modelstore.errors import ConflictError, IntegrityError
from modelstore.formats.split import split
from modelstore.hashing import FileHasher, Hasher
from modelstore.manifest import BlobSpan, FileEntry
from modelstore.ops.tree import Found, Seen, seen_of
from modelstore.progress import Progress

_PIECE = 8 << 20
"""Bytes read at once; large enough that threads beat their own cost."""


class CommittedFile:
    """The bytes of a file, read by position and never mapped: a shrinking file must not kill us.

    Use as a context manager.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        try:
            self._file = FileSource(path)
        except IntegrityError as error:
            raise _changed(path) from error
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
        now, then = seen_of(self._file.status()), self.seen
        if now[:3] != then[:3]:
            raise self.changed()

    @property
    def seen(self) -> Seen:
        """What it was when it was opened, as `modelstore.ops.tree.seen_of` gives it."""
        return seen_of(self._status)

    def changed(self) -> ConflictError:
        """Return the error that says that somebody wrote to the file."""
        return _changed(self._file.path)


def _changed(path: Path) -> ConflictError:
    return ConflictError(
        f"'{path}' changed while it was being committed", "commit again when it is whole"
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
        warning: from the split, which names the file, or "".
        seen: what it was when it was read, as `modelstore.ops.tree.seen_of` gives it.
    """

    found: Found
    entry: FileEntry
    warning: str
    seen: Seen = ()

    @property
    def changed_before(self) -> bool:
        """Whether it was written to between being found and being read."""
        return self.found.seen != self.seen

    @property
    def changed_since(self) -> bool:
        """Whether it was written to, replaced or removed since it was read."""
        try:
            return seen_of(self.found.source.stat()) != self.seen
        except OSError:
            return True


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
        spans.append(BlobSpan(hasher.digest(), span.stop - span.start, span.dtype, span.tensors))
        whole.compare(spans)
    digests = whole.digests(spans)
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
    return Scanned(found, entry, cut.warning, source.seen)


def require_digests(scanned: Sequence[Scanned], expected: Mapping[str, str]) -> None:
    """Raise unless files hold what they are known to hold where they come from.

    Args:
        expected: by path, a SHA-256, or the SHA-1 that git gives a file; of large files none is known.

    Raises:
        IntegrityError: one holds something else.
    """
    for item in scanned:
        said = expected.get(item.entry.path)
        if said in (None, item.entry.sha256, item.entry.git_sha1):
            continue
        kind, is_ = ("SHA-256", item.entry.sha256)
        if len(said) < len(is_):
            kind, is_ = ("SHA-1", item.entry.git_sha1)
        if is_:
            raise IntegrityError(
                f"{item.entry.path!r} is damaged: its {kind} is {is_[:12]}..., and where it comes "
                f"from it is {said[:12]}...",
                "fetch it again from where it came, and repeat the command",
            )


def check_one_state(scanned: Sequence[Scanned], listed: Callable[[], Sequence[Found]]) -> None:
    """Raise unless there was a moment at which all files held what was read of them.

    If each was read as it was found, that is the moment when all were found: what changes later
    does no harm. Otherwise it can only be now, and nothing may have changed since it was read.

    Args:
        listed: finds the files again.

    Raises:
        ConflictError: what was read may be of two states.
    """
    if not any(item.changed_before for item in scanned):
        return
    for item in scanned:
        if item.changed_since:
            raise _changed(item.found.source)
    now = {found.path for found in listed()}
    for path in now.symmetric_difference(item.found.path for item in scanned):
        raise ConflictError(
            f"{path!r} came or went while its directory was being committed",
            "commit again when it is whole",
        )


def _pieces(source: CommittedFile, start: int, stop: int) -> Iterator[bytes]:
    for place in range(start, stop, _PIECE):
        yield source.read(place, min(place + _PIECE, stop))


class _Whole:
    """The digests of a whole file, taken beside those of its spans.

    All hashers release the GIL, so with a second core they take no longer than the slowest.

    Args:
        guess: what the file may hold; as long as every span is as it says, only the BLAKE3 is taken
            of the whole, which then must be the guessed one: a manifest may come from a stranger.
    """

    def __init__(
        self, source: CommittedFile, pool: ThreadPoolExecutor, guess: FileEntry | None
    ) -> None:
        self._source = source
        self._pool = pool
        self._guess = guess
        self._blake3 = Hasher()
        self._all = FileHasher(source.size)

    def begin(self, piece: bytes) -> Callable[[], object]:
        """Begin to hash the next piece; return what waits for the end of that."""
        hasher = self._all if self._guess is None else self._blake3
        return self._pool.submit(hasher.update, piece).result

    def compare(self, spans: Sequence[BlobSpan]) -> None:
        """Take note of the spans so far; the first that is not the guessed one ends guessing."""
        if self._guess is None:
            return
        guessed, last = self._guess.spans, len(spans) - 1
        if last >= len(guessed) or guessed[last].blob != spans[last].blob:
            self._give_up(spans)

    def digests(self, spans: Sequence[BlobSpan]) -> FileHasher | FileEntry:
        """Return what has the digests of the file, which consists of ``spans``."""
        guess = self._guess
        if guess is not None:
            if len(guess.spans) == len(spans) and guess.blake3 == self._blake3.digest():
                return guess
            self._give_up(spans)
        return self._all

    def _give_up(self, spans: Sequence[BlobSpan]) -> None:
        """Hash what was read so far with all hashers; that it is read again must change nothing."""
        self._guess = None
        start = 0
        for span in spans:
            again = Hasher()
            for piece in _pieces(self._source, start, start + span.size):
                other = self.begin(piece)
                again.update(piece)
                other()
            if again.digest() != span.blob:
                raise self._source.changed()
            start += span.size
