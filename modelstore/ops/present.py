"""What a lazy clone lacks of a version comes when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from modelstore.blobs.closure import Closure
from modelstore.blobs.staging import Staging
from modelstore.hashing import Bytes, Digest
from modelstore.manifest import FileEntry, Manifest
from modelstore.ops import tracking
from modelstore.ops.remotes import opened
from modelstore.ops.resolve import Resolved
from modelstore.ops.transfer import Brought, Expected, bring
from modelstore.ops.unpacking import Unpacking
from modelstore.progress import Progress, silent
from modelstore.store import Store

Took = Callable[[Digest, int, Bytes], None]


def require(
    store: Store, resolved: Resolved, progress: Progress = silent, *, took: Took | None = None
) -> Brought:
    """See to it that everything it takes to read a version is here, if the store is a lazy clone.

    Args:
        took: is given the raw bytes of blobs that come, as `bring` has it.

    Raises:
        RemoteError: the remote it was cloned from cannot be reached.
        IntegrityError: what comes from there is damaged.
    """
    name = tracking.lazy(store)
    if not name or resolved.id is None:
        return Brought()
    manifest = store.manifest(resolved.model, resolved.entry)
    if not _absent(store, manifest, resolved.id):
        return Brought()
    sizes = {span.blob: span.size for file in manifest.files for span in file.spans}
    with opened(store, name) as place:
        wanted = [resolved.id, *sizes]
        return bring(store, place.remote, wanted, progress, expected=Expected(sizes), took=took)


@contextmanager
def unpacked(
    store: Store,
    resolved: Resolved,
    select: Callable[[Manifest], Iterable[FileEntry]],
    progress: Progress = silent,
) -> Iterator[Unpacking | None]:
    """Do as `require` does, and write files while their blobs are proved, each decoded once.

    Args:
        select: returns the files that are wanted.

    Yields:
        the files of which something came; None where nothing was lacking.

    Raises: as `require` does; and DiskFullError, where there is no room for them.
    """
    if not tracking.lazy(store) or resolved.id is None:
        yield None
        return
    manifest = store.manifest(resolved.model, resolved.entry)
    absent = _absent(store, manifest, resolved.id)
    files = [f for f in select(manifest) if any(span.blob in absent for span in f.spans)]
    if not files:
        require(store, resolved, progress)
        yield None
        return
    with Staging(store.meta, store.lock_timeout) as area:
        unpacking = Unpacking(area.directory, files)
        try:
            _unpack(store, resolved, unpacking, progress)
            yield unpacking
        finally:
            unpacking.close()


def _absent(store: Store, manifest: Manifest, digest: Digest) -> set[Digest]:
    closure = Closure(store.blobs)
    return set(closure.absent(closure.of([digest, *manifest.blobs()])))


def _unpack(store: Store, resolved: Resolved, unpacking: Unpacking, progress: Progress) -> None:
    taken: set[Digest] = set()

    def take(digest: Digest, start: int, data: Bytes) -> None:
        taken.add(digest)
        unpacking.take(digest, start, data)

    require(store, resolved, progress, took=take)
    for digest in sorted(set(unpacking.blobs()) - taken):  # those that were here already
        start = 0
        for piece in store.blobs.blocks(digest):
            unpacking.take(digest, start, piece)
            start += len(piece)
