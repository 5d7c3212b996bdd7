"""Du: what versions cost on disk, and what could be had back.

A frame's size is that of its file. What a version needs is its manifest, its blobs, and every blob
that these are built on; so a base counts for all versions whose tensors are deltas of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelstore.blobs.closure import stamp_of
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops import tracking
from modelstore.ops.card import MODEL_INFO, README
from modelstore.ops.resolve import Resolved
from modelstore.store import MANIFEST, Store

_STAYS = {README, MODEL_INFO, MANIFEST}
"""What `checkout --release` leaves in a version's directory."""


@dataclass(frozen=True, slots=True)
class VersionUsage:
    """What one version costs, in bytes.

    Attributes:
        resolved: the version.
        logical: its files, as they are when checked out.
        stored: the frames it needs, bases included.
        unique: those of them that no other version needs: what removing it would free.
        hydrated: its files in the version's own directory, which `checkout --release` takes away.
    """

    resolved: Resolved
    logical: int
    stored: int
    unique: int
    hydrated: int

    @property
    def shared(self) -> int:
        """The frames that other versions need too."""
        return self.stored - self.unique


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store costs, in bytes.

    Attributes:
        versions: those that were asked for, oldest first within their model.
        logical: the files of all versions together.
        stored: everything in blobs/.
        reclaimable: frames that no version needs, and the trash; None where something could not be
            read, so that nobody can tell.
        trash: what was taken out of use, and a gc will remove for good.
        hydrated: files of all versions in their own directories.
        unreadable: versions and blobs that are not here or damaged.
    """

    versions: tuple[VersionUsage, ...]
    logical: int
    stored: int
    reclaimable: int | None
    trash: int
    hydrated: int
    unreadable: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """How many times smaller the store is than the files it stands for; 0.0 if it is empty."""
        return self.logical / self.stored if self.stored else 0.0


def usage(store: Store, *, model: ModelName | None = None, only: Resolved | None = None) -> Usage:
    """Return what the store costs, and what its versions do.

    Args:
        model: list only the versions of this model.
        only: list only this version.
    """
    frames = _Frames(store)
    needs = _needs(store, frames)
    counted = Counter(digest for _, _, closure in needs for digest in closure)
    rows = [
        VersionUsage(
            resolved=resolved,
            logical=manifest.size,
            stored=frames.size(closure),
            unique=frames.size(digest for digest in closure if counted[digest] == 1),
            hydrated=_hydrated(store, resolved, manifest),
        )
        for resolved, manifest, closure in needs
    ]
    unneeded = frames.size(digest for digest in frames.sizes if digest not in counted)
    trash = sum(item.size() for item in store.blobs.trash().content())
    return Usage(
        versions=tuple(row for row in rows if _is_asked_for(row.resolved, model, only)),
        logical=sum(row.logical for row in rows),
        stored=sum(frames.sizes.values()),
        reclaimable=None if frames.unreadable else unneeded + trash,
        trash=trash,
        hydrated=sum(row.hydrated for row in rows),
        unreadable=tuple(frames.unreadable),
    )


def _is_asked_for(resolved: Resolved, model: ModelName | None, only: Resolved | None) -> bool:
    if only is not None:
        return (resolved.model, resolved.entry.version) == (only.model, only.entry.version)
    return model in (None, resolved.model)


def _needs(store: Store, frames: _Frames) -> Sequence[tuple[Resolved, Manifest, set[Digest]]]:
    """Return every version whose manifest is here, with all the blobs it needs."""
    found = []
    for model in store.models():
        for entry in store.state(model).entries():
            if entry.id is None:
                continue  # registered, but its files never were here
            resolved = Resolved(model, entry)
            try:
                manifest = store.manifest(model, entry)
            except (NotFoundError, IntegrityError, NewerFormatError) as error:
                frames.unreadable.append(f"{resolved}: {error.message}")
                continue
            found.append((resolved, manifest, frames.closure({entry.id, *manifest.blobs()})))
    return found


class _Frames:
    """The sizes of all frames, and what each is built on.

    Attributes:
        sizes: bytes of every file in blobs/.
        unreadable: what could not be read, one line each.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lazy = bool(tracking.lazy(store))
        self._bases: dict[Digest, tuple[Digest, ...]] = {}
        stamps = ((d, stamp_of(store.blobs.path(d))) for d in store.blobs.iter_digests())
        self.sizes = {digest: stamp[-1] for digest, stamp in stamps if stamp is not None}
        self.unreadable: list[str] = []

    def size(self, digests: Iterable[Digest]) -> int:
        """Return the bytes of frames; those that are not here count nothing."""
        return sum(self.sizes.get(digest, 0) for digest in digests)

    def closure(self, digests: set[Digest]) -> set[Digest]:
        """Return ``digests`` and everything they are built on."""
        found: set[Digest] = set()
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            if digest in found:
                continue
            found.add(digest)
            waiting += self._built_on(digest)
        return found

    def _built_on(self, digest: Digest) -> tuple[Digest, ...]:
        if digest not in self._bases:
            self._bases[digest] = ()
            if self._lazy and digest not in self.sizes:
                return ()  # at the remote
            try:
                self._bases[digest] = self._store.blobs.header(digest).built_on
            except (NotFoundError, IntegrityError, NewerFormatError) as error:
                self.unreadable.append(error.message)
        return self._bases[digest]


def _hydrated(store: Store, resolved: Resolved, manifest: Manifest) -> int:
    directory = store.version_dir(resolved.model, resolved.entry.version)
    total = 0
    for file in manifest.files:
        path = directory / file.path
        if file.path not in _STAYS and path.is_file():
            total += path.stat().st_size
    return total
