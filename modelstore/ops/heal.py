"""Healing: what the store has lost of a version comes back from a directory that holds its files.

A version is its manifest and its blobs, and all of them are known by their digests. So bytes from
anywhere will do, and wrong ones cannot get in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelstore import manifest as manifests
from modelstore.blobs import BytesSource
from modelstore.blobs.parallel import in_order
from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import FileEntry, Manifest
from modelstore.numeric import BYTES
from modelstore.ops import working
from modelstore.ops.bases import Bases
from modelstore.ops.resolve import Resolved
from modelstore.ops.scan import Scanned
from modelstore.ops.stage import stage
from modelstore.ops.tree import Found
from modelstore.progress import Progress, silent
from modelstore.reading import read_if_readable
from modelstore.store import MANIFEST, Store


def heal(store: Store, resolved: Resolved, directory: Path, progress: Progress = silent) -> int:
    """Bring back every blob of a version that the store has lost or that is damaged.

    Args:
        directory: holds the version's files, or is the one file that it consists of.

    Returns:
        how many blobs came back, the manifest counted; 0 where nothing was lost.

    Raises:
        NotFoundError: a file that is needed is not in ``directory``, or the manifest is nowhere.
        ConflictError: a file that is needed is not what was committed; nothing was changed.
        DiskFullError: no room for a frame.
    """
    data = _manifest_bytes(store, resolved, directory)
    version = manifests.decode(data, f"the manifest of {resolved}")
    lost = set(_unsound(store, version.blobs()))
    if not lost and store.blobs.is_sound(digest_of(data)):
        return 0
    needed = [file for file in version.files if any(span.blob in lost for span in file.spans)]
    scanned = [_scanned(resolved, file, directory) for file in needed]
    store.prepare()
    with store.blobs.transaction() as transaction:
        parents = _parents(store, resolved, version)
        bases = Bases(store, resolved.model, parents, alone=_founding(store))
        staged = stage(transaction, scanned, bases, progress)
        transaction.publish()  # first: a manifest names only blobs that are here
        added = transaction.add(digest_of(data), BytesSource(data), dtype=BYTES)
        transaction.publish()
    return staged.new + added.new


def mend_manifest(store: Store, resolved: Resolved) -> int:
    """Replace the manifest of a version in the blobs if it is damaged and the directory has it.

    Returns:
        1 if it was replaced, else 0.
    """
    if resolved.id is None or resolved.id not in store.blobs or store.blobs.is_sound(resolved.id):
        return 0
    place = store.version_dir(resolved.model, resolved.entry.version) / MANIFEST
    data = read_if_readable(place)
    if data is None or digest_of(data) != resolved.id:
        return 0
    with store.blobs.transaction() as transaction:
        transaction.add_bytes(data)
        transaction.publish()
    return 1


def _manifest_bytes(store: Store, resolved: Resolved, directory: Path) -> bytes:
    if resolved.id is None:
        raise NotFoundError(f"{resolved} never had any content here", "run: mstore adopt")
    try:
        return store.blobs.read(resolved.id)
    except (IntegrityError, NotFoundError) as error:
        home = store.version_dir(resolved.model, resolved.entry.version)
        for place in (home / MANIFEST, directory / MANIFEST):
            data = read_if_readable(place)
            if data is not None and digest_of(data) == resolved.id:
                return data
        raise NotFoundError(
            f"the manifest of {resolved} is lost", f"put an intact copy at '{home / MANIFEST}'"
        ) from error


def _unsound(store: Store, digests: set[Digest]) -> Iterator[Digest]:
    """Yield those that are lost or damaged, or built on what is; every frame is read once or twice."""
    ordered = sorted(digests)
    sound = in_order(store.blobs.is_sound, ordered, store.blobs.threads)
    yield from (digest for digest, good in zip(ordered, sound, strict=True) if not good)


def _scanned(resolved: Resolved, file: FileEntry, directory: Path) -> Scanned:
    """Return a file of the version where it lies, after checking that it is what was committed."""
    path = directory if directory.is_file() else directory / file.path
    if not path.is_file():
        raise NotFoundError(
            f"the store has lost {file.path!r} of {resolved}, and '{path}' does not exist",
            "look in other places it was checked out to: mstore status",
        )
    if not working.holds(path, file, None):
        raise ConflictError(
            f"the store has lost {file.path!r} of {resolved}, and '{path}' is not what it was",
            "look in other places it was checked out to: mstore status",
        )
    found = Found(file.path, path, file.size, file.executable)
    return Scanned(found, file, "")


def _parents(store: Store, resolved: Resolved, version: Manifest) -> list[Resolved]:
    state = store.state(resolved.model)
    entries = (state.with_id(digest) for digest in version.parents)
    return [Resolved(resolved.model, entry) for entry in entries if entry is not None]


def _founding(store: Store) -> frozenset[Digest]:
    """Return the blobs that frames in the store are built on, be they here or lost."""
    found: set[Digest] = set()
    for digest in store.blobs.iter_digests():
        # what cannot be read, or went just now, is built on nothing any more
        with suppress(IntegrityError, NotFoundError):
            found.update(store.blobs.header(digest).built_on)
    return frozenset(found)
