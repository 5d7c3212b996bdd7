"""Two blobs whose product a base is changed by before a tensor is compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from modelstore.blobs.frame import FactorNames, FrameHeader
from modelstore.codecs.base import PayloadError
from modelstore.codecs.factors import Factors, Recipe
from modelstore.codecs.prediction import predict, predictable
from modelstore.hashing import Bytes
from modelstore.numeric import DType, as_bits


class Blob(Protocol):
    """An open blob; `modelstore.blobs.reader.BlobReader` is one."""

    @property
    def header(self) -> FrameHeader:
        """Of its frame."""
        ...

    def read_at_most(self, start: int, stop: int) -> Bytes:
        """Return the raw bytes ``[start, stop)``, or those of them that there are."""
        ...


AnyBlob = TypeVar("AnyBlob", bound=Blob)


class OpenFactors(Generic[AnyBlob]):
    """The factors that a frame names.

    Attributes:
        names: the two blobs, and the recipe.
        blobs: both of them, open; they belong to whoever opened them.
    """

    def __init__(self, names: FactorNames, left: AnyBlob, right: AnyBlob) -> None:
        self.names = names
        self.blobs: Sequence[AnyBlob] = (left, right)
        self._loaded: Factors | None = None

    @property
    def depth(self) -> int:
        """The depth of the deeper one's frame."""
        return max(blob.header.depth for blob in self.blobs)

    def predict(self, base: Bytes, dtype: DType, start: int) -> Bytes:
        """Return what the product makes of a part of the base.

        Args:
            base: values of the base, of ``dtype``.
            start: index of the first of them in the whole tensor.

        Raises:
            PayloadError: the recipe, the factors and the part do not fit together.
        """
        if self._loaded is None:
            recipe = Recipe.from_bytes(self.names.recipe)
            left, right = (blob.read_at_most(0, blob.header.raw_size) for blob in self.blobs)
            self._loaded = Factors.from_blobs(recipe, left, right)
        return changed(base, dtype, start, self._loaded)


def changed(base: Bytes, dtype: DType, start: int, factors: Factors) -> Bytes:
    """Return what ``factors`` make of a part of the base, as `OpenFactors.predict` does."""
    if not predictable(dtype):
        raise PayloadError(f"no product is added to values of {dtype.name or 'no dtype'}")
    values = as_bits(base, dtype)
    if start + values.size > factors.rows * factors.recipe.columns:
        raise PayloadError("the factors are of a smaller matrix")
    return predict(values, dtype, start, factors).view("u1").data
