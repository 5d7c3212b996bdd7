"""Staging: the blobs of scanned files, encoded against the best base, ready to be published."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.blobs import Added, Known, Transaction
from modelstore.blobs.parallel import default_threads, in_order
from modelstore.errors import ConflictError
from modelstore.hashing import Digest
from modelstore.manifest import BlobSpan
from modelstore.numeric import dtype_named, item_size
from modelstore.ops.bases import Bases
from modelstore.ops.scan import CommittedFile, Part, Scanned
from modelstore.progress import Progress

if TYPE_CHECKING:
    from modelstore.ops.products import Products

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
    transaction: Transaction,
    scanned: Sequence[Scanned],
    bases: Bases,
    progress: Progress,
    products: Products | None = None,
) -> Staged:
    """Encode every blob of ``scanned`` that the store lacks.

    Args:
        bases: what they may be built on.
        products: what is known to have been added to them.

    Raises:
        ConflictError: a file is no longer what was scanned.
        DiskFullError: no room for a frame.
    """
    total = sum(item.entry.size for item in scanned)
    done = stored = new = 0
    needed: set[Digest] = set()
    for start in range(0, len(scanned), _FILES):
        group = scanned[start : start + _FILES]
        with ExitStack() as files:
            tasks = _tasks(group, files)
            done += sum(item.entry.size for item in group) - sum(task.part.size for task in tasks)
            for task, added in _added(transaction, tasks, bases, products):
                stored += added.stored_size if added.new else 0
                new += added.new
                needed |= {task.span.blob, *added.built_on}
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
    transaction: Transaction, tasks: Sequence[_Task], bases: Bases, products: Products | None
) -> Iterator[tuple[_Task, Added]]:
    """Add every blob: small ones side by side, large ones one by one, as those use all threads."""

    def add(task: _Task) -> tuple[_Task, Added]:
        dtype = dtype_named(task.span.dtype)
        try:
            found = transaction.add(
                task.span.blob,
                task.part,
                dtype=dtype,
                bases=bases.of(task.span),
                known=Known(
                    columns_of(task.span),
                    bases.others(task.span, task.part),
                    None if products is None else products.of(task.span),
                ),
            )
        except ConflictError as error:  # a transaction knows digests and no names of files
            raise task.part.file.changed() from error
        return task, found

    small = [task for task in tasks if task.part.size <= _SMALL]
    yield from in_order(add, small, default_threads())
    yield from map(add, (task for task in tasks if task.part.size > _SMALL))


def columns_of(span: BlobSpan) -> int:
    """Return how many values a row of the tensor in ``span`` has; 0 unless that is clear.

    All but the first dimension count: a convolution's row is what makes one output channel.
    """
    # a complex number is two values
    parts = item_size(span.dtype) // dtype_named(span.dtype).width
    rows = {parts * math.prod(t.shape[1:]) if len(t.shape) > 1 else 0 for t in span.tensors}
    plain = all(tensor.view is None for tensor in span.tensors)
    return rows.pop() if plain and len(rows) == 1 else 0
