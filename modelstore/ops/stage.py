"""Staging: the blobs of scanned files, encoded against the best base, ready to be published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelstore.blobs import Transaction
from modelstore.hashing import Digest
from modelstore.manifest import BlobSpan, Manifest
from modelstore.numeric import dtype_named
from modelstore.ops.resolve import Resolved
from modelstore.ops.scan import FileSource, Part, Scanned
from modelstore.progress import Progress
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class Staged:
    """What staging added.

    Attributes:
        stored: bytes of the new frames.
        new: how many blobs are new.
        needed: every blob the files consist of, and every base of a new one.
    """

    stored: int
    new: int
    needed: frozenset[Digest]


def stage(
    store: Store,
    transaction: Transaction,
    scanned: Sequence[Scanned],
    parents: Sequence[Resolved],
    progress: Progress,
) -> Staged:
    """Encode every blob of ``scanned`` that the store lacks.

    Raises:
        ConflictError: a file is no longer what was scanned.
        DiskFullError: no room for a frame.
    """
    bases = _Bases(store, parents)
    total = sum(item.entry.size for item in scanned)
    done = stored = new = 0
    needed: set[Digest] = set()
    for item in scanned:
        with FileSource(item.found.source, item.found.path) as source:
            start = 0
            for span in item.entry.spans:
                added = transaction.add(
                    span.blob,
                    Part(source, start, span.size),
                    dtype=dtype_named(span.dtype),
                    bases=bases.of(span),
                )
                stored += added.stored_size if added.new else 0
                new += added.new
                needed |= {span.blob, *([added.base] if added.base else [])}
                start += span.size
                done += span.size
                progress("store", done, total)
    return Staged(stored, new, frozenset(needed))


class _Bases:
    """The blobs that a tensor may be a small change of: its namesakes in older versions."""

    def __init__(self, store: Store, parents: Sequence[Resolved]) -> None:
        self._by_name: list[dict[tuple[str, int], Digest]] = []
        for manifest in _older(store, parents):
            self._by_name.append(
                {(tensor.name, span.size): span.blob for _, span, tensor in manifest.tensors()}
            )

    def of(self, span: BlobSpan) -> list[Digest]:
        """Return the candidates for ``span``, nearest version first."""
        found: list[Digest] = []
        for by_name in self._by_name:
            for tensor in span.tensors:
                digest = by_name.get((tensor.name, span.size))
                if digest is not None and digest not in found:
                    found.append(digest)
        return found


def _older(store: Store, parents: Sequence[Resolved]) -> Iterable[Manifest]:
    """Yield the manifests of the parents, and then of the version their line began with."""
    seen = set()
    for parent in parents:
        seen.add(parent.id)
        yield store.manifest(parent.model, parent.entry)
    for parent in parents:
        state = store.state(parent.model)
        root = parent.entry
        while root.parents:
            older = state.with_id(root.parents[0])
            if older is None:
                break
            root = older
        if root.id not in seen:
            seen.add(root.id)
            yield store.manifest(parent.model, root)
