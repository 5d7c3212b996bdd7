"""What the store has lost of a version, and which directory still holds it.

Only looks: blobs are stat'ed and the headers of frames read, nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelstore.errors import IntegrityError, StoreError
from modelstore.hashing import Digest
from modelstore.manifest import FileEntry
from modelstore.ops.place import home
from modelstore.ops.resolve import Resolved
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class Absent:
    """Content of a version that is not in the store, and where it still is.

    Attributes:
        blobs: how many blobs are lost, the manifest counted.
        files: the files that they belong to.
        directory: holds those files.
    """

    blobs: int
    files: tuple[FileEntry, ...]
    directory: Path


class Presence:
    """Remembers of which blobs the store has all that it takes to decode them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Digest, bool] = {}

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob, and all that it is built on, is here."""
        if digest not in self._known:
            self._known[digest] = self._look(digest)
        return self._known[digest]

    def _look(self, digest: Digest) -> bool:
        if digest not in self._store.blobs:
            return False
        try:
            header = self._store.blobs.header(digest)
        except IntegrityError:
            return False
        return all(self.has(base) for base in header.built_on)

    def absent(self, resolved: Resolved) -> Absent | None:
        """Return what is lost of a version if a directory still holds it, else None."""
        if resolved.id is None:
            return None
        try:
            manifest = self._store.manifest(resolved.model, resolved.entry)
        except StoreError:
            return None  # nothing proves what would come back
        lost = {digest for digest in manifest.blobs() if not self.has(digest)}
        count = len(lost) + (not self.has(resolved.id))
        if not count:
            return None
        files = tuple(f for f in manifest.files if any(s.blob in lost for s in f.spans))
        found = next(
            (place for place in places(self._store, resolved) if _holds(place, files)), None
        )
        return Absent(count, files, found) if found is not None else None


def places(store: Store, resolved: Resolved) -> list[Path]:
    """Return the directories in which the version's own files may lie."""
    name = PurePosixPath(resolved.entry.text("path")).name
    directory = store.root / resolved.model
    usual = store.version_dir(resolved.model, resolved.entry.version)
    return list(
        dict.fromkeys([*([directory / name] if name else []), home(store, resolved), usual])
    )


def _holds(directory: Path, files: tuple[FileEntry, ...]) -> bool:
    """Tell whether the largest of ``files`` is there, whatever has become of it.

    Small ones, as README.md, lie in directories that hold no weights too.
    """
    if not files:
        return directory.is_dir()
    return (directory / max(files, key=lambda file: file.size).path).is_file()
