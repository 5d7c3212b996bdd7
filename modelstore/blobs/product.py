"""A tensor of which it is known what was added to its base: the matrices of an adapter.

It is stored as its steps from what a product makes of the base. Of the matrices themselves, which
then become blobs, or of integers that predict nearly as much and are smaller; whichever takes less
in all, and only if that is less than the tensor takes without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from modelstore.blobs.choice import DEEPEST, Choice, Sample, is_sound
from modelstore.blobs.drafts import Drafts, NewFrame
from modelstore.blobs.open_factors import changed
from modelstore.blobs.reader import MOST_OF_A_FACTOR, BlobReader
from modelstore.blobs.source import RawSource
from modelstore.codecs import ids
from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import best_rounding, predictable
from modelstore.errors import StoreError
from modelstore.hashing import Bytes, Digest, digest_of
from modelstore.numeric import DType, as_bits

_TOLD = 1 << 18  # values tell which way a merge was rounded
_MOST = 1 << 27  # bytes of a tensor that is held in memory, twice, to find integers


@dataclass(frozen=True, slots=True)
class Product:
    """What was added to the base of a tensor.

    Attributes:
        left, right: the raw bytes of the two matrices, as an adapter's file has them.
        recipe: how they are put together; the way of rounding is found out.
    """

    left: bytes
    right: bytes
    recipe: Recipe


Merge: TypeAlias = tuple[BlobReader, Factors]
"""A base, and the factors whose product was added to it."""


def find_merges(
    source: RawSource,
    dtype: DType,
    columns: int,
    bases: Iterable[BlobReader],
    product: Product,
    has: Callable[[Digest], bool],
) -> Iterator[Merge]:
    """Yield ways to store a tensor as a merge, none where its product predicts nothing.

    Args:
        source, dtype, columns: the tensor, as `choose` has them.
        bases: open; those of another dtype or size, and the deepest, are passed over.
        product: what was added to one of them.
        has: tells whether the store has a blob anyway.
    """
    if not predictable(dtype) or columns != product.recipe.columns:
        return
    if max(len(product.left), len(product.right)) > MOST_OF_A_FACTOR:
        return
    factors = Factors.from_blobs(product.recipe, product.left, product.right)
    if factors.rows * columns * dtype.width != source.size:
        return
    merge = _best_merge(source, dtype, columns, bases, factors)
    if merge is None or not is_sound(merge[0]):
        return
    yield merge
    free = all(has(digest_of(raw)) for raw in (product.left, product.right))
    if free or source.size > _MOST:
        return
    from modelstore.lowrank.find import quantised  # loads numba

    base, known = merge
    values, origin = as_bits(source.read(0, source.size), dtype), as_bits(_whole(base), dtype)
    smaller = quantised(values, origin, dtype, known)
    if smaller is not None:
        yield base, smaller


def smallest(
    plain: NewFrame,
    drafts: Drafts,
    source: RawSource,
    dtype: DType,
    columns: int,
    merges: Iterable[Merge],
) -> NewFrame:
    """Return the smallest of a tensor's frame and those of ``merges``; the others are dropped."""
    best = plain
    for base, factors in merges:
        new = drafts.write_product(plain.header.digest, source, dtype, columns, base, factors)
        if new is not None:
            worse, best = sorted((best, new), key=lambda frame: frame.stored_size)[::-1]
            drafts.drop(worse)
    return best


def _whole(base: BlobReader) -> Bytes:
    return base.read_at_most(0, base.header.raw_size)


def _best_merge(
    source: RawSource, dtype: DType, columns: int, bases: Iterable[BlobReader], factors: Factors
) -> Merge | None:
    """Return the merge that leaves least, if that is less than any of the bases does alone."""
    sample = Sample(source, dtype, columns)
    best: Merge | None = None
    least: int | None = None
    for base in bases:
        header = base.header
        if (header.raw_size, header.dtype) != (source.size, dtype) or header.depth >= DEEPEST:
            continue
        try:
            merge = _rounded(source, base, factors, dtype)
            plain, merged = sample.size(Choice(ids.DELTA, base)), _merged(sample, merge)
        except StoreError:
            continue
        if least is None or min(plain, merged) < least:
            best, least = (merge if merged < plain else None), min(plain, merged)
    return best


def _merged(sample: Sample, merge: Merge) -> int:
    base, factors = merge

    def predicted(start: int, stop: int) -> Bytes:
        values = base.values_at_most(start, stop, sample.dtype, sample.dtype)
        return changed(values, sample.dtype, start, factors)

    return sample.size_by(ids.DELTA, predicted)


def _rounded(source: RawSource, base: BlobReader, factors: Factors, dtype: DType) -> Merge:
    """Return a merge with the way of rounding that the tensor shows."""
    stop = min(source.size, _TOLD * dtype.width)
    values = as_bits(source.read(0, stop), dtype)
    origin = as_bits(base.read_at_most(0, stop), dtype)
    return base, best_rounding(values, origin, dtype, factors)
