"""Which codec and which base a blob gets: whichever codes a sample of it best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from modelstore.blobs.frame import FrameHeader
from modelstore.blobs.open_factors import OpenFactors
from modelstore.blobs.reader import BlobReader
from modelstore.blobs.source import RawSource
from modelstore.codecs import ids
from modelstore.codecs.base import Grid
from modelstore.codecs.blocks import coded_size
from modelstore.codecs.convert import is_convertible
from modelstore.codecs.entropy import estimated_size
from modelstore.codecs.ids import CodecInfo
from modelstore.codecs.worth import tables_pay
from modelstore.errors import StoreError
from modelstore.hashing import Bytes, Digest
from modelstore.numeric import BYTES, DType, as_bits

DEEPEST = 4
"""Frames are written at most so deep: reading one block then decodes at most five."""

_PART = 32  # of a blob is sampled
_LEAST_SAMPLE, _MOST_SAMPLE = 1 << 13, 1 << 16  # values at one place
_ONE_SAMPLE_UP_TO = 1 << 23  # values; larger blobs are sampled in three places

_NOISY = 0.5
"""Of the raw size: floats whose bytes are so close to noise have no patterns for zstd to find."""
_WORTH_CODING = 0.99  # of the raw size: noise is read faster as it is
WORTH_A_BASE = 0.95
"""Of the size without one: a chain is slower to read, and more can go wrong."""

_WORTH_OF_DEPTH = (0.0, 2.2, 1.6, 0.75, 0.0)
"""What a new frame's depth is worth where its parent's is deepest.

In parts of what the best base that is left codes worse than the parent would. What follows the
new frame saves that only if it can be built on it, so the frame must not be deepest again. Found
by search: where increments grow with the distance d as d**e, a chain of 20 comes out 1.13, 1.24
and 1.44 times what it would be without a limit for e = 0.25, 0.35 and 0.55, and the best possible
plan 1.13, 1.19 and 1.37; taking the best base each time, 1.57, 1.9 and 2.9.
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a blob is encoded.

    Attributes:
        codec: of its blocks.
        base: what they are made against, or None; it belongs to whoever offered it.
        base_dtype: how the base's bytes are read as numbers; None: as the blob's own.
        factors: what the base is changed by first, or None; theirs who offered them.
    """

    codec: CodecInfo
    base: BlobReader | None = None
    base_dtype: DType | None = None
    factors: OpenFactors[BlobReader] | None = None

    @property
    def depth(self) -> int:
        """How deep a frame of this choice is."""
        if self.base is None:
            return 0
        below = self.base.header.depth
        return 1 + (below if self.factors is None else max(below, self.factors.depth))

    def base_values(self, start: int, stop: int, dtype: DType) -> Bytes | None:
        """Return the values ``[start, stop)`` of the base as numbers of ``dtype``.

        None where there is no base, or it does not reach so far.
        """
        if self.base is None:
            return None
        base = self.base.values_at_most(start, stop, self.base_dtype or dtype, dtype)
        if self.factors is None or not base:
            return base or None
        return self.factors.predict(base, dtype, start)


def choose(
    source: RawSource,
    dtype: DType,
    bases: Iterable[BlobReader],
    columns: int = 0,
    others: Iterable[BlobReader] = (),
) -> Choice:
    """Return how to encode ``source``.

    Args:
        source: the blob, a whole number of values.
        dtype: how its bytes are read as numbers.
        bases: open bases; those that cannot be one are passed over.
        columns: values in a row of the tensor, 0 where that is unknown.
        others: further ones, looked at only where none of ``bases`` is worth it.
    """
    sample = Sample(source, dtype, columns)
    alone, size = _alone(sample)
    for offered in (bases, others) if source.size else ():
        for choice in _ranked(sample, offered, WORTH_A_BASE * size):
            if is_sound(choice.base):
                return replace(choice, codec=ids.STEPS if tables_pay(sample.count) else ids.DELTA)
    return alone


class Sample:
    """A small part of a blob, to be coded in several ways.

    Attributes:
        dtype: how its bytes are read as numbers.
        count: the values of the whole blob.
    """

    def __init__(self, source: RawSource, dtype: DType, columns: int) -> None:
        self.dtype = dtype
        self.count = source.size // dtype.width
        self._grid = Grid(columns, 0)
        ranges = _ranges(self.count)
        width = dtype.width
        self._parts = [(a, b, source.read(a * width, b * width)) for a, b in ranges]

    @property
    def raw_size(self) -> int:
        """Its bytes."""
        return sum(len(raw) for _, _, raw in self._parts)

    def size(self, choice: Choice) -> int:
        """Return its coded bytes.

        Raises:
            StoreError: the base cannot be read.
        """
        return sum(self._coded(part, choice) for part in self._parts)

    def entropy(self) -> float:
        """Return about how many bytes the entropy codec takes for it."""
        return sum(estimated_size(as_bits(raw, self.dtype), self.dtype) for *_, raw in self._parts)

    def sizes(self, choices: Sequence[Choice]) -> list[int | None]:
        """Return its coded bytes by each choice; None where a base cannot be read.

        Goes by place, as bases may be built on each other and remember their last block.
        """
        sizes: list[int | None] = [0] * len(choices)
        for part in self._parts:
            for index, choice in enumerate(choices):
                before = sizes[index]
                try:
                    sizes[index] = None if before is None else before + self._coded(part, choice)
                except StoreError:
                    sizes[index] = None
        return sizes

    def size_by(self, codec: CodecInfo, base: Callable[[int, int], Bytes | None]) -> int:
        """Return its coded bytes against what ``base`` returns for a range of values.

        Raises:
            StoreError: the base cannot be read.
        """
        return sum(
            coded_size(codec, raw, self.dtype, base(start, stop), self._grid.after(start))
            for start, stop, raw in self._parts
        )

    def _coded(self, part: tuple[int, int, bytes], choice: Choice) -> int:
        start, stop, raw = part
        base = choice.base_values(start, stop, self.dtype)
        return coded_size(choice.codec, raw, self.dtype, base, self._grid.after(start))


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ``count`` values that are sampled, in order; none of no values."""
    length = min(max(count // _PART, _LEAST_SAMPLE), _MOST_SAMPLE, count)
    starts = [(count - length) // 2]
    if count > _ONE_SAMPLE_UP_TO:
        starts = [0, *starts, count - length]
    if count:
        yield from ((start, start + length) for start in starts)


def _alone(sample: Sample) -> tuple[Choice, float]:
    """Return how to encode without a base, and about what that takes for ``sample``."""
    tables = tables_pay(sample.count)
    choice, size = Choice(ids.ENTROPY), sample.entropy() if tables else math.inf
    noise = tables and sample.dtype.is_float and size > _NOISY * sample.raw_size
    if not noise:
        plain = Choice(ids.ZSTD if sample.dtype is BYTES else ids.PLANES)
        coded = sample.size(plain)
        if coded <= size:
            choice, size = plain, coded
    return (Choice(ids.RAW) if size > _WORTH_CODING * sample.raw_size else choice), size


def _ranked(sample: Sample, candidates: Iterable[BlobReader], limit: float) -> list[Choice]:
    """Return the bases that code ``sample`` in less than ``limit`` bytes, the best first.

    All are compared by the plainest codecs: what they cost more is the same for each, and the
    best ones spend a millisecond on learning the smallest sample.
    """
    groups = list(_groups(candidates, sample))
    sizes = iter(sample.sizes([choice for group in groups for choice in group]))
    rated: list[tuple[float, Choice]] = []
    for group in groups:
        sized = [(size, choice) for choice in group if (size := next(sizes)) is not None]
        rated += [(rating, choice) for rating, size, choice in _rated(sized) if size < limit]
    return [choice for _, choice in sorted(rated, key=lambda pair: pair[0])]


def _rated(sized: Sequence[tuple[int, Choice]]) -> Iterator[tuple[float, int, Choice]]:
    """Yield those of a group that are not too deep with a rating, less of which is better."""
    fitting = [(size, choice) for size, choice in sized if choice.depth <= DEEPEST]
    if fitting:
        lost = min(size for size, _ in fitting) - min(size for size, _ in sized)
        yield from ((size - _WORTH_OF_DEPTH[c.depth] * lost, size, c) for size, c in fitting)


def _groups(candidates: Iterable[BlobReader], sample: Sample) -> Iterator[list[Choice]]:
    """Yield for each candidate itself, and all that it is built on if it is too deep."""
    opened: dict[Digest, BlobReader] = {}
    tried = set()
    for candidate in candidates:
        for reader in candidate.chain():  # one reader for each blob, to decode its blocks once
            opened.setdefault(reader.header.digest, reader)
        chain = list(opened[candidate.header.digest].chain())
        group = []
        for reader in chain[:1] if candidate.header.depth < DEEPEST else chain:
            held = _held(reader.header, sample.dtype)
            if held is not None and reader.header.digest not in tried:
                tried.add(reader.header.digest)
                group.append(Choice(ids.DELTA, reader, held))
        yield group


def _held(header: FrameHeader, dtype: DType) -> DType | None:
    """Return how the bytes of a base for numbers of ``dtype`` are read; None: it cannot be one."""
    if is_convertible(header.dtype, dtype):
        return header.dtype
    same = header.dtype.width == dtype.width or header.dtype is BYTES
    return dtype if same and header.raw_size % dtype.width == 0 else None


def is_sound(base: BlobReader | None) -> bool:
    """Tell whether every byte of the frames that a base consists of is as it was written."""
    if base is None:
        return True
    try:
        base.check()
    except StoreError:
        return False  # fsck will say so; this commit does without
    return True
