"""Which codec and which base a blob gets: whichever codes a sample of it best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelstore.blobs.reader import BlobReader
from modelstore.blobs.source import RawSource
from modelstore.codecs import ids
from modelstore.codecs.blocks import coded_size
from modelstore.codecs.ids import CodecInfo
from modelstore.errors import IntegrityError
from modelstore.numeric import BYTES, DType

DEEPEST = 4
"""Frames are written at most so deep: reading one block then decodes at most five."""

_SAMPLE = 1 << 16  # values
_ONE_SAMPLE_UP_TO = 1 << 22  # values; larger blobs are sampled in three places

_WORTH_CODING = 0.99  # of the raw size: noise is read faster as it is
_WORTH_A_BASE = 0.95  # of the size without: a chain is slower to read and more can go wrong


@dataclass(frozen=True, slots=True)
class Choice:
    """How a blob is encoded; ``base`` belongs to whoever offered it."""

    codec: CodecInfo
    base: BlobReader | None = None


def choose(source: RawSource, dtype: DType, candidates: Sequence[BlobReader]) -> Choice:
    """Return how to encode ``source``.

    Args:
        source: the blob, a whole number of values.
        dtype: how its bytes are read as numbers.
        candidates: open bases; those that cannot be one are passed over.
    """
    samples = [(start, source.read(start, stop)) for start, stop in _ranges(source.size, dtype)]
    best = _alone(samples, dtype)
    limit = _WORTH_A_BASE * _coded_size(samples, dtype, best)
    for base in _possible_bases(source.size, candidates):
        choice = Choice(ids.DELTA, base)
        size = _coded_size(samples, dtype, choice)
        if size < limit:
            best, limit = choice, size
    return best


def _alone(samples: Sequence[tuple[int, bytes]], dtype: DType) -> Choice:
    choice = Choice(ids.ZSTD if dtype is BYTES else ids.PLANES)
    raw = sum(len(sample) for _, sample in samples)
    if _coded_size(samples, dtype, choice) > _WORTH_CODING * raw:
        return Choice(ids.RAW)
    return choice


def _coded_size(samples: Sequence[tuple[int, bytes]], dtype: DType, choice: Choice) -> float:
    size = 0
    for start, sample in samples:
        base = None
        if choice.base is not None:
            base = choice.base.read_at_most(start, start + len(sample))
        size += coded_size(choice.codec, sample, dtype, base or None)
    return size


def _ranges(size: int, dtype: DType) -> Iterator[tuple[int, int]]:
    """Yield the byte ranges that are sampled, in order; none for a blob without bytes."""
    values = size // dtype.width
    length = min(_SAMPLE, values)
    starts = [(values - length) // 2]
    if values > _ONE_SAMPLE_UP_TO:
        starts = [0, *starts, values - length]
    if values:
        yield from ((at * dtype.width, (at + length) * dtype.width) for at in starts)


def _possible_bases(size: int, candidates: Sequence[BlobReader]) -> Iterator[BlobReader]:
    """Yield the sound candidates; in place of one that is too deep, what it is built on."""
    tried = set()
    for candidate in candidates:
        for base in _shallow_enough(candidate):
            if base.header.digest in tried or base.header.raw_size != size or not size:
                continue
            tried.add(base.header.digest)
            if _is_sound(base):
                yield base


def _shallow_enough(candidate: BlobReader) -> Iterator[BlobReader]:
    if candidate.header.depth < DEEPEST:
        yield candidate
        return
    ancestor = candidate.base
    while ancestor is not None:
        if ancestor.header.depth < DEEPEST:
            yield ancestor
        ancestor = ancestor.base


def _is_sound(base: BlobReader) -> bool:
    try:
        base.check()
    except IntegrityError:
        return False  # fsck will say so; this commit does without
    return True
