"""Staging: the blobs of scanned files, encoded against the best base, ready to be published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from modelstore.blobs import Added, Transaction
from modelstore.blobs.parallel import default_threads, in_order
from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.hashing import Digest
from modelstore.manifest import BlobSpan, Manifest
from modelstore.numeric import dtype_named
from modelstore.ops.resolve import Resolved
from modelstore.ops.scan import CommittedFile, Part, Scanned
from modelstore.progress import Progress
from modelstore.state import Entry, State
from modelstore.store import Store

_SMALL = 4 << 20
"""Bytes of a blob that has too few blocks to keep all threads busy by itself."""


_FILES = 64
"""Files that are open at once; a process may have a thousand."""


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
    *,
    founding: frozenset[Digest] = frozenset(),
) -> Staged:
    """Encode every blob of ``scanned`` that the store lacks.

    Args:
        parents: versions whose tensors may be bases.
        founding: blobs that other frames are built on; they get no base, or might come out deeper
            than those.

    Raises:
        ConflictError: a file is no longer what was scanned.
        DiskFullError: no room for a frame.
    """
    bases = _Bases(store, parents, founding)
    total = sum(item.entry.size for item in scanned)
    done = stored = new = 0
    needed: set[Digest] = set()
    for start in range(0, len(scanned), _FILES):
        group = scanned[start : start + _FILES]
        with ExitStack() as files:
            tasks = _tasks(group, files)
            done += sum(item.entry.size for item in group) - sum(task.part.size for task in tasks)
            for task, added in _added(transaction, tasks, bases):
                stored += added.stored_size if added.new else 0
                new += added.new
                needed |= {task.span.blob, *([added.base] if added.base else [])}
                done += task.part.size
                progress("store", done, total)
    return Staged(stored, new, frozenset(needed))


@dataclass(frozen=True, slots=True)
class _Task:
    """A blob to add: its span and its bytes."""

    span: BlobSpan
    part: Part


def _tasks(scanned: Sequence[Scanned], files: ExitStack) -> list[_Task]:
    """Return every blob once; the files it is read from are open until ``files`` closes."""
    tasks: dict[Digest, _Task] = {}
    for item in scanned:
        source = files.enter_context(CommittedFile(item.found.source, item.found.path))
        start = 0
        for span in item.entry.spans:
            tasks.setdefault(span.blob, _Task(span, Part(source, start, span.size)))
            start += span.size
    return list(tasks.values())


def _added(
    transaction: Transaction, tasks: Sequence[_Task], bases: _Bases
) -> Iterator[tuple[_Task, Added]]:
    """Add every blob: small ones side by side, large ones one by one, as those use all threads."""

    def add(task: _Task) -> tuple[_Task, Added]:
        dtype = dtype_named(task.span.dtype)
        try:
            found = transaction.add(
                task.span.blob, task.part, dtype=dtype, bases=bases.of(task.span)
            )
        except ConflictError as error:  # a transaction knows digests and no names of files
            raise task.part.file.changed() from error
        return task, found

    small = [task for task in tasks if task.part.size <= _SMALL]
    yield from in_order(add, small, default_threads())
    yield from map(add, (task for task in tasks if task.part.size > _SMALL))


class _Bases:
    """The blobs that a tensor may be a small change of: its namesakes in older versions."""

    def __init__(self, store: Store, parents: Sequence[Resolved], alone: frozenset[Digest]) -> None:
        self._alone = alone
        self._by_name: list[dict[tuple[str, int], Digest]] = []
        for manifest in _older(store, parents):
            self._by_name.append(
                {(tensor.name, span.size): span.blob for _, span, tensor in manifest.tensors()}
            )

    def of(self, span: BlobSpan) -> list[Digest]:
        """Return the candidates for ``span``, nearest version first."""
        found: list[Digest] = []
        if span.blob in self._alone:
            return found
        for by_name in self._by_name:
            for tensor in span.tensors:
                digest = by_name.get((tensor.name, span.size))
                if digest is not None and digest not in found:
                    found.append(digest)
        return found


def _older(store: Store, parents: Sequence[Resolved]) -> Iterable[Manifest]:
    """Yield the manifests of the parents, and then of the version their line began with.

    One that is lost or damaged is passed over, as a damaged base is.
    """
    roots = [Resolved(p.model, _root(store.state(p.model), p.entry)) for p in parents]
    seen = set()
    for version in (*parents, *roots):
        if version.id in seen:
            continue
        seen.add(version.id)
        with suppress(IntegrityError, NotFoundError):
            yield store.manifest(version.model, version.entry)


def _root(state: State, entry: Entry) -> Entry:
    """Return the version that ``entry`` descends from by first parents; may be 10,000 steps away."""
    versions = state.document["versions"]
    names = {values.get("id"): name for name, values in reversed(versions.items())}
    oldest, values = "", entry.values
    while values.get("parents") and values["parents"][0] in names:
        oldest = names[values["parents"][0]]
        values = versions[oldest]
    return state.entry(oldest) or entry
