"""The ways in which a blob may be stored better than it is.

A way looks at one blob, beside what might be its base, and proposes how to encode it. All ways of
an effort are tried, each proposal is encoded in full, and the smallest frame wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum

from modelstore.blobs.choice import DEEPEST, Choice, choose
from modelstore.blobs.reader import BlobReader, open_reader
from modelstore.blobs.store import BlobStore
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest
from modelstore.manifest import BlobSpan
from modelstore.numeric import BYTES, dtype_named
from modelstore.ops.bases import Bases
from modelstore.ops.stage import columns_of


class Effort(Enum):
    """How much is tried for each blob."""

    FAST = "fast"
    NORMAL = "normal"
    MAX = "max"

    @property
    def kin(self) -> int:
        """How many versions are searched for a base."""
        return {Effort.FAST: 0, Effort.NORMAL: 5, Effort.MAX: 8}[self]


@dataclass(frozen=True, slots=True)
class Subject:
    """A blob that may be stored better.

    Attributes:
        span: the blob, and the tensors that it is.
        bases: blobs it may be made against, the nearest first.
        search: finds further ones, where there are none of these; None where it is not to be tried.
    """

    span: BlobSpan
    bases: tuple[Digest, ...] = ()
    search: Callable[[], Bases] | None = None


class Trial:
    """A subject, opened: the source of its raw bytes, beside the bases that it may have.

    Attributes:
        subject: the blob.
        reader: its present frame.
        dtype: how its bytes are read as numbers.
        columns: values in a row of the tensor, 0 where that is unknown.

    Args:
        reader, deeper: as `opened_trial` has them.
        open_base: opens a blob for the length of the trial; None where that cannot be.
    """

    def __init__(
        self,
        subject: Subject,
        reader: BlobReader,
        open_base: Callable[[Digest], BlobReader | None],
        *,
        deeper: bool,
    ) -> None:
        self.subject = subject
        self.reader = reader
        dtype = dtype_named(subject.span.dtype)
        fits = self.size % dtype.width == 0
        self.dtype = dtype if fits else BYTES
        self.columns = columns_of(subject.span) if fits else 0
        self._open_base = open_base
        self._deeper = deeper

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return self.reader.header.raw_size

    def read(self, start: int, stop: int) -> bytes:
        """Return the blob's raw bytes ``[start, stop)``."""
        return bytes(self.reader.read_at_most(start, stop))

    def bases(self) -> Iterator[BlobReader]:
        """Yield, open, what a new frame may be built on: the present base, and those known."""
        if self.reader.base is not None:
            yield self.reader.base
        yield from self._opened(self.subject.bases)

    def others(self) -> Iterator[BlobReader]:
        """Yield, open, what a search finds that a new frame may be built on."""
        if self.subject.search is not None and not self.subject.bases:
            yield from self._opened(self.subject.search().others(self.subject.span, self))

    def may_be_built_on(self, base: BlobReader) -> bool:
        """Tell whether a frame of that depth may get the blob's new frame on top of it."""
        most = DEEPEST if self._deeper else self.reader.header.depth
        return base.header.depth < most

    def _opened(self, digests: Iterable[Digest]) -> Iterator[BlobReader]:
        for digest in digests:
            base = self._open_base(digest)
            while base is not None and not self._deeper:
                if base.header.depth < self.reader.header.depth:
                    break
                base = base.base
            if base is not None:
                yield base


Way = Callable[[Trial], Choice | None]
"""Proposes how to encode a blob; None where it has nothing to say."""


def _same_base(trial: Trial) -> Choice:
    """Propose the best codec that is known now, with the base that the blob has."""
    base = trial.reader.base
    return choose(trial, trial.dtype, [base] if base else [], columns=trial.columns)


def _best_base(trial: Trial) -> Choice:
    """Propose the best codec with the best of the present base and all others."""
    return choose(trial, trial.dtype, trial.bases(), columns=trial.columns, others=trial.others())


WAYS: dict[Effort, tuple[Way, ...]] = {
    Effort.FAST: (_same_base,),
    Effort.NORMAL: (_same_base, _best_base),
    Effort.MAX: (_same_base, _best_base),
}
"""What is tried at each effort."""


@contextmanager
def opened_trial(blobs: BlobStore, subject: Subject, *, deeper: bool) -> Iterator[Trial]:
    """Open a subject and its possible bases for the length of the block.

    Args:
        deeper: whether the subject may get a deeper frame than it has.

    Raises:
        NotFoundError: the blob, or what it is built on, is not in the store.
        IntegrityError: one of them is damaged.
    """
    with ExitStack() as stack:

        def open_base(digest: Digest) -> BlobReader | None:
            try:
                base = open_reader(blobs.path, digest)
            except (IntegrityError, NotFoundError, NewerFormatError):
                return None
            stack.callback(base.close)
            return base

        reader = open_reader(blobs.path, subject.span.blob)
        stack.callback(reader.close)
        yield Trial(subject, reader, open_base, deeper=deeper)
