"""Two stored tensors whose product tells how a merged tensor differs from its base.

A merged LoRA is ``base + scale * left @ right``, rounded. What is stored of it is a recipe of a few
bytes and two ordinary blobs: the adapter's own matrices, or integers that were found by
`modelstore.lowrank`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.base import Bits, PayloadError
from modelstore.codecs.floats import precision_of, rounded, to_float64
from modelstore.hashing import Bytes
from modelstore.numeric import DType, as_bits, dtype_named, dtype_of_code

F32 = dtype_named("F32")
STORED = tuple(dtype_named(name) for name in ("U8", "U16", "F16", "BF16", "F32"))
"""What factors may be stored as: products of any two of these are exact in float64.

Unsigned integers are signed ones in zigzag (0, -1, 1, -2, ...): in two's complement the high bytes
of small numbers are noise to whoever codes bytes.
"""

ROUNDED = tuple(dtype_named(name) for name in ("F32", "F16", "BF16"))
"""What a merge may hold its intermediate results in."""

_HALVES = ROUNDED[1:]

MOST_RANK = 1024
_MOST_COLUMNS = 1 << 31

_HEAD = struct.Struct("<HIfBBBBBB")
_LEFT_BY_RANK, _RIGHT_BY_COLUMN, _EXPONENTS = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How two stored tensors become what is added to a base.

    The result is ``base + update(scale * product(factor(left) @ factor(right)))``, rounded, where
    factor, product and update round as well. Both tensors are stored in row-major order.

    Attributes:
        rank: columns of ``left`` and rows of ``right``.
        columns: of the merged matrix.
        left, right: dtypes of the stored values, of `STORED`.
        scale: a finite float32; alpha / rank of a LoRA.
        factor: the dtype, of `ROUNDED`, that both tensors are rounded to.
        product: the one that their product is rounded to.
        update: the one that the scaled product is rounded to.
        left_by_rank: whether left is stored as (rank, rows) and not as (rows, rank).
        right_by_column: whether right is stored as (columns, rank) and not as (rank, columns).
        exponents: one per component, -128 to 127: its products count times two to that power;
            () where none does.
    """

    rank: int
    columns: int
    left: DType
    right: DType
    scale: float = 1.0
    factor: DType = F32
    product: DType = F32
    update: DType = F32
    left_by_rank: bool = False
    right_by_column: bool = False
    exponents: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """Return what a frame stores of the recipe, 16 bytes and one per exponent."""
        flags = _LEFT_BY_RANK * self.left_by_rank + _RIGHT_BY_COLUMN * self.right_by_column
        flags += _EXPONENTS * bool(self.exponents)
        kinds = (self.left, self.right, self.factor, self.product, self.update)
        codes = (kind.code for kind in kinds)
        head = _HEAD.pack(self.rank, self.columns, self.scale, *codes, flags)
        return head + np.array(self.exponents, "<i1").tobytes()

    def roundings(self, dtype: DType) -> tuple[Recipe, ...]:
        """Return the recipe with each way of rounding that merges of this dtype are known to have.

        PEFT computes in float32, unless the adapter was loaded in half precision: then a CPU
        rounds the factors and the update to it, and a GPU the product too.
        """
        kinds = {kind.code: kind for kind in (dtype, self.left, self.right) if kind in _HALVES}
        ways = [(F32, F32, F32)]
        for kind in kinds.values():
            ways += [(F32, F32, kind), (kind, F32, kind), (kind, kind, kind)]
        return tuple(replace(self, factor=f, product=p, update=u) for f, p, u in ways)

    @staticmethod
    def from_bytes(data: Bytes) -> Recipe:
        """Return the recipe that `to_bytes` made ``data`` of.

        Raises:
            PayloadError: it could not have.
        """
        if len(data) < _HEAD.size:
            raise PayloadError(f"a recipe has {len(data)} bytes where {_HEAD.size} belong")
        rank, columns, scale, *kinds, flags = _HEAD.unpack_from(data)
        rest = np.frombuffer(data, "<i1", offset=_HEAD.size)
        if not 1 <= rank <= MOST_RANK or not 1 <= columns <= _MOST_COLUMNS:
            raise PayloadError(f"a recipe has rank {rank} and {columns} columns")
        if not math.isfinite(scale) or flags >> 3 or rest.size != rank * (flags >> 2):
            raise PayloadError("a recipe breaks the rules of its fields")
        stored = [_one_of(STORED, kind) for kind in kinds[:2]]
        factor, product, update = (_one_of(ROUNDED, kind) for kind in kinds[2:])
        return Recipe(
            *(rank, columns, stored[0], stored[1], scale),
            *(factor, product, update),
            bool(flags & _LEFT_BY_RANK),
            bool(flags & _RIGHT_BY_COLUMN),
            tuple(rest.tolist()),
        )


def _one_of(allowed: tuple[DType, ...], code: int) -> DType:
    dtype = dtype_of_code(code)
    if dtype not in allowed:
        raise PayloadError(f"a recipe names the dtype {code}")
    return dtype


@dataclass(frozen=True, slots=True)
class Factors:
    """A recipe and the two tensors it is for.

    Attributes:
        recipe: how they are read.
        left, right: their values as unsigned integers, one dimension, as the blobs hold them.
    """

    recipe: Recipe
    left: Bits
    right: Bits

    def __post_init__(self) -> None:
        recipe = self.recipe
        if self.left.size % recipe.rank or self.right.size != recipe.rank * recipe.columns:
            raise PayloadError(
                f"factors of {self.left.size} and {self.right.size} values are not of rank "
                f"{recipe.rank} and {recipe.columns} columns"
            )

    @staticmethod
    def from_blobs(recipe: Recipe, left: Bytes, right: Bytes) -> Factors:
        """Return the factors whose tensors are the bytes of two blobs; nothing is copied.

        Raises:
            PayloadError: their sizes do not fit the recipe.
        """
        if len(left) % recipe.left.width or len(right) % recipe.right.width:
            raise PayloadError("a factor is not a whole number of values")
        return Factors(recipe, as_bits(left, recipe.left), as_bits(right, recipe.right))

    @property
    def rows(self) -> int:
        """Rows of the merged matrix."""
        return self.left.size // self.recipe.rank

    @property
    def left_width(self) -> int:
        """Values in a row of left as it is stored."""
        return self.rows if self.recipe.left_by_rank else self.recipe.rank

    @property
    def right_width(self) -> int:
        """Values in a row of right as it is stored."""
        return self.recipe.rank if self.recipe.right_by_column else self.recipe.columns

    def left_values(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return rows ``first`` to ``stop`` of left, exponents applied; shape (rows, rank)."""
        recipe = self.recipe
        if recipe.left_by_rank:
            bits = self.left.reshape(recipe.rank, -1)[:, first:stop].T
        else:
            bits = self.left.reshape(-1, recipe.rank)[first:stop]
        values = _values(bits, recipe.left, recipe.factor)
        if recipe.exponents:
            with np.errstate(invalid="ignore"):  # of NaNs that signal; they change nothing
                values *= np.ldexp(1.0, recipe.exponents)
        return values

    def right_values(self) -> NDArray[np.float64]:
        """Return right; shape (rank, columns)."""
        recipe = self.recipe
        if recipe.right_by_column:
            bits = self.right.reshape(recipe.columns, recipe.rank).T
        else:
            bits = self.right.reshape(recipe.rank, recipe.columns)
        return _values(bits, recipe.right, recipe.factor)


def zigzag(values: NDArray[np.int32], dtype: DType) -> Bits:
    """Return integers as they are stored, in one dimension; they fit ``dtype``, U8 or U16."""
    folded: Bits = ((values << 1) ^ (values >> 31)).astype(f"<u{dtype.width}")
    return folded.reshape(-1)


def _values(bits: Bits, dtype: DType, factor: DType) -> NDArray[np.float64]:
    bits = np.ascontiguousarray(bits)
    if dtype.is_float:
        return rounded(to_float64(bits, dtype), precision_of(factor))
    folded = bits.astype(np.int32)
    return ((folded >> 1) ^ -(folded & 1)).astype(np.float64)
