"""Bringing frames back: damaged ones go to quarantine/, and their blobs come from other places.

A blob is known by its digest, so bytes from anywhere will do, and wrong ones cannot get in. What
comes back from a file is stored without a base: whatever is built on it still is less deep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs import FileSource, Known, Transaction
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest, Hasher
from modelstore.manifest import BlobSpan, FileEntry, Manifest
from modelstore.numeric import BYTES, DType, dtype_named
from modelstore.ops import working
from modelstore.ops.absent import places
from modelstore.ops.fsck_registry import Quarantine
from modelstore.ops.resolve import Resolved
from modelstore.ops.stage import columns_of
from modelstore.store import MANIFEST, Store

_PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the bytes of a blob may be: ``size`` bytes from ``start`` on in a file.

    Attributes:
        dtype, columns: how they are read as numbers.
    """

    path: Path
    start: int
    size: int
    dtype: DType
    columns: int


Spots = Mapping[Digest, list[Spot]]

Place = Callable[[Store, set[Digest], Spots], None]
"""Brings back those of the lost blobs that it has; what it cannot bring it leaves alone."""


def quarantine(store: Store, digests: Iterable[Digest]) -> None:
    """Move damaged frames out of the way of readers, under the store's lock; they are kept."""
    keep = Quarantine(store.meta)
    for digest in digests:
        path = store.blobs.path(digest)
        with store.lock():
            if path.exists():
                keep.take(path, digest)


def bring_back(
    store: Store, lost: set[Digest], spots: Spots, more: Sequence[Place] = ()
) -> set[Digest]:
    """Look for lost blobs in one place after the other; return those that can be read again.

    Args:
        more: further places, looked at last.
    """
    for place in (*PLACES, *more):
        place(store, {digest for digest in lost if not store.blobs.is_sound(digest)}, spots)
    return {digest for digest in lost if store.blobs.is_sound(digest)}


def from_trash(store: Store, lost: set[Digest], _: Spots) -> None:
    """Take frames back that gc took away."""
    with store.lock():
        trash = store.blobs.trash()
        for digest in sorted(lost):
            trash.give_back(digest)
        trash.sync()


def from_files(store: Store, lost: set[Digest], spots: Spots) -> None:
    """Store blobs again whose bytes lie in checked-out files."""
    if not any(spots.get(digest) for digest in lost):
        return
    with store.blobs.transaction() as transaction:
        for digest in sorted(lost):
            for spot in spots.get(digest, []):
                if _add(transaction, digest, spot):
                    break
        transaction.publish()


PLACES: tuple[Place, ...] = (from_trash, from_files)
"""Where lost blobs are always looked for, the cheapest first."""


def _add(transaction: Transaction, digest: Digest, spot: Spot) -> bool:
    """Add the blob if its bytes are at ``spot``; return whether they are."""
    try:
        with _Part(spot) as part:
            if part.digest() != digest:
                return False
            transaction.add(digest, part, dtype=spot.dtype, known=Known(spot.columns))
    except (ConflictError, IntegrityError):
        return False  # the file is changing
    return True


class _Part(FileSource):
    """A part of a file."""

    def __init__(self, spot: Spot) -> None:
        super().__init__(spot.path)
        self._start = spot.start
        if self.size < spot.start + spot.size:
            self.close()
            raise IntegrityError(f"'{spot.path}' is too short", "run: mstore status")
        self.size = spot.size

    def __enter__(self) -> _Part:
        return self

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)`` of the part."""
        return super().read(self._start + start, self._start + stop)

    def digest(self) -> Digest:
        """Return the BLAKE3 of the part."""
        hasher = Hasher()
        for start in range(0, self.size, _PIECE):
            hasher.update(self.read(start, min(start + _PIECE, self.size)))
        return hasher.digest()


# --- where the bytes of a version lie


def find_spots(
    store: Store, versions: Iterable[tuple[Resolved, Manifest]], lost: set[Digest]
) -> Spots:
    """Return where the bytes of lost blobs may be, in everything that a version was written to."""
    spots: defaultdict[Digest, list[Spot]] = defaultdict(list)
    for resolved, manifest in versions:
        if lost.isdisjoint(manifest.blobs()):
            continue
        directories = list(_directories(store, resolved))
        for file in manifest.files:
            for digest, start, span in _lost_spans(file, lost):
                spots[digest] += _spots(directories, file, start, span)
    return spots


def manifest_spots(store: Store, versions: Iterable[Resolved]) -> Spots:
    """Return where the bytes of lost manifests may be."""
    spots: defaultdict[Digest, list[Spot]] = defaultdict(list)
    for resolved in versions:
        for directory in _directories(store, resolved):
            path = directory / MANIFEST
            if resolved.id is not None and path.is_file():
                spots[resolved.id].append(Spot(path, 0, path.stat().st_size, BYTES, 0))
    return spots


def _directories(store: Store, resolved: Resolved) -> Iterator[Path]:
    """Yield the version's own directories, and those that it was checked out to."""
    found = places(store, resolved)
    found += [c.path for c in working.checkouts(store, partial=True) if c.id == resolved.id]
    yield from (path for path in dict.fromkeys(found) if path.is_dir())


def _lost_spans(file: FileEntry, lost: set[Digest]) -> Iterator[tuple[Digest, int, BlobSpan]]:
    start = 0
    for span in file.spans:
        if span.blob in lost:
            yield span.blob, start, span
        start += span.size


def _spots(
    directories: Iterable[Path], file: FileEntry, start: int, span: BlobSpan
) -> Iterator[Spot]:
    for directory in directories:
        path = directory / file.path
        with suppress(OSError, StoreError, NotFoundError):
            if path.is_file():
                yield Spot(path, start, span.size, dtype_named(span.dtype), columns_of(span))
