"""A tensor of which it is known what was added to its base: the matrices of an adapter.

They are stored as blobs of their own, and the tensor as its steps from what they make of the base,
if all that together is smaller than what the tensor would take without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelstore.blobs.choice import DEEPEST, WORTH_A_BASE, Choice, Sample, is_sound
from modelstore.blobs.open_factors import changed
from modelstore.blobs.reader import BlobReader
from modelstore.blobs.source import RawSource
from modelstore.codecs import ids
from modelstore.codecs.blocks import coded_size
from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import best_rounding, predictable
from modelstore.errors import StoreError
from modelstore.hashing import Bytes
from modelstore.numeric import DType, as_bits

_TOLD = 1 << 18  # values tell which way a merge was rounded


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


@dataclass(frozen=True, slots=True)
class Merge:
    """A base, and the factors whose product was added to it."""

    base: BlobReader
    factors: Factors


def find_merge(
    source: RawSource,
    dtype: DType,
    bases: Iterable[BlobReader],
    columns: int,
    product: Product,
    known: int,
) -> Merge | None:
    """Return which of ``bases`` a product was added to; None where that would save nothing.

    Args:
        source, dtype, columns: the tensor, as `choose` has them.
        bases: open; those of another dtype or size, and the deepest, are passed over.
        known: bytes of the product's matrices that the store has anyway.
    """
    if not predictable(dtype) or columns != product.recipe.columns:
        return None
    factors = Factors.from_blobs(product.recipe, product.left, product.right)
    if factors.rows * columns * dtype.width != source.size:
        return None
    sample = Sample(source, dtype, columns)
    size = sample.size(Choice(ids.PLANES))
    cost = max(0, _coded(product) - known) * sample.raw_size / source.size
    best: Merge | None = None
    least = WORTH_A_BASE * size
    for base in bases:
        header = base.header
        if (header.raw_size, header.dtype) != (source.size, dtype) or header.depth >= DEEPEST:
            continue
        try:
            merge = _rounded(source, Merge(base, factors), dtype)
            plain, merged = sample.size(Choice(ids.DELTA, base)), cost + _merged(sample, merge)
        except StoreError:
            continue
        if min(plain, merged) < least:
            best, least = (merge if merged < plain else None), min(plain, merged)
    return best if best is not None and is_sound(best.base) else None


def _merged(sample: Sample, merge: Merge) -> int:
    def predicted(start: int, stop: int) -> Bytes:
        base = merge.base.values_at_most(start, stop, sample.dtype, sample.dtype)
        return changed(base, sample.dtype, start, merge.factors)

    return sample.size_by(ids.DELTA, predicted)


def _rounded(source: RawSource, merge: Merge, dtype: DType) -> Merge:
    """Return a merge with the way of rounding that the tensor shows."""
    stop = min(source.size, _TOLD * dtype.width)
    values = as_bits(source.read(0, stop), dtype)
    base = as_bits(merge.base.read_at_most(0, stop), dtype)
    return Merge(merge.base, best_rounding(values, base, dtype, merge.factors))


def _coded(product: Product) -> int:
    """Return about how many bytes the matrices take as blobs."""
    recipe = product.recipe
    pairs = ((product.left, recipe.left), (product.right, recipe.right))
    return sum(coded_size(ids.PLANES, raw, dtype, None) for raw, dtype in pairs)
