"""Bringing lost blobs back from a remote, be they there for a push or for a backup."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from modelstore.blobs.lineage import Lineage
from modelstore.blobs.transit import encode_alone
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.hashing import Digest
from modelstore.ops import transfer
from modelstore.ops.mend_frames import Place, Spots
from modelstore.remotes.base import Remote
from modelstore.store import Store


def from_remote(remote: Remote) -> Place:
    """Return what brings lost blobs back from ``remote``; every byte is proved."""

    def bring(store: Store, lost: set[Digest], _: Spots) -> None:
        there = transfer.there(remote)
        absent = {digest for digest in lost if digest not in store.blobs}
        try:
            transfer.bring(store, remote, sorted(lost))
        except (IntegrityError, NotFoundError):  # one must not keep the others out
            for digest in sorted(lost & there.keys()):
                with suppress(IntegrityError, NotFoundError):
                    transfer.bring(store, remote, [digest])
        _make_less_deep(store, (digest for digest in absent if digest in store.blobs))

    return bring


def _make_less_deep(store: Store, digests: Iterable[Digest]) -> None:
    """Let what came be built on nothing where frames here are built on it: those bear any depth."""
    lineage = Lineage(store.blobs)
    blobs = store.blobs
    deep = [
        d for d in sorted(digests) if blobs.header(d).depth and not lineage.may_become_deeper(d)
    ]
    if not deep:
        return
    with blobs.transaction() as transaction:
        for digest in deep:
            path = transaction.new_path(digest)
            header = encode_alone(blobs.path, digest, path, blobs.threads, blobs.block_log2)
            transaction.take(path, header)
        transaction.publish()
