"""Factors as few integers as will do.

Any invertible matrix can be moved from one factor to the other. The one used here makes the
components independent in the metric of the fit, so that each may be rounded on its own, in steps
that follow from how much it matters; what the rounding of right costs is made good by left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelstore.codecs.factors import Factors, Recipe, zigzag
from modelstore.lowrank.fit import Pull, curvature_sums, refine_left
from modelstore.lowrank.merge import Merge, Wide
from modelstore.numeric import DType, dtype_named

_LARGEST = (1 << 15) - 1


@dataclass(frozen=True, slots=True)
class Balanced:
    """Factors whose components are independent, the weightiest first.

    Attributes:
        left, right: shapes (rows, rank) and (rank, columns).
        left_weight, right_weight: per component, the sum over all values of curvature times the
            square of the *other* factor: how much the steps of this one matter.
    """

    left: Wide
    right: Wide
    left_weight: Wide
    right_weight: Wide

    def kept(self, rank: int) -> Balanced:
        """Return the first ``rank`` components."""
        return Balanced(
            self.left[:, :rank],
            self.right[:rank],
            self.left_weight[:rank],
            self.right_weight[:rank],
        )

    @property
    def strengths(self) -> Wide:
        """How much each component moves the values, in no particular unit; falls."""
        return np.sqrt(self.left_weight * self.right_weight)


def balance(merge: Merge, left: Wide, right: Wide, pull: Pull) -> Balanced:
    """Return the same product with independent components."""
    left_sums, right_sums = curvature_sums(merge, left, right, pull)
    jitter = 1e-12 * np.eye(len(right_sums))
    root = np.linalg.cholesky(right_sums + jitter * np.trace(right_sums))
    weights, axes = np.linalg.eigh(root.T @ left_sums @ root)
    weights, axes = np.maximum(weights[::-1], np.finfo(np.float64).tiny), axes[:, ::-1]
    right = axes.T @ np.linalg.inv(root) @ right
    lengths = np.linalg.norm(right, axis=1)  # made one: float32 has not the range for anything
    return Balanced(
        left @ (root @ axes) * lengths, right / lengths[:, None], lengths**-2, weights * lengths**2
    )


def quantise(merge: Merge, factors: Balanced, pull: Pull, coarseness: float) -> Factors:
    """Return integer factors.

    Args:
        merge: what they are for.
        factors: what they shall be like.
        pull: the likelihood that says how exact they must be.
        coarseness: steps, in standard deviations of that likelihood; 4 to 8 are about best.
    """
    left_step = coarseness * np.sqrt(merge.rows / factors.left_weight)
    right_step = coarseness * np.sqrt(merge.columns / factors.right_weight)
    exponents = np.clip(np.round(np.log2(left_step * right_step)), -128, 127)
    right_step *= np.sqrt(2.0**exponents / (left_step * right_step))
    right = _integers(factors.right / right_step[:, None])
    rounded = right * right_step[:, None]
    left = factors.left
    for _ in range(2):
        left = refine_left(merge, left, rounded, pull)
    whole = _integers(left * (right_step / 2.0**exponents))
    return _packed(whole.T, right, tuple(int(exponent) for exponent in exponents))


def _integers(values: Wide) -> Wide:
    return np.clip(np.round(values), -_LARGEST, _LARGEST)


def _packed(left: Wide, right: Wide, exponents: tuple[int, ...]) -> Factors:
    """Return factors of these integers, both of shape (rank, ...)."""
    left_type, right_type = _narrowest(left), _narrowest(right)
    rank, columns = right.shape
    recipe = Recipe(rank, columns, left_type, right_type, left_by_rank=True, exponents=exponents)
    return Factors(
        recipe, zigzag(left.astype(np.int32), left_type), zigzag(right.astype(np.int32), right_type)
    )


def _narrowest(values: Wide) -> DType:
    return dtype_named("U8" if values.min() >= -128 and values.max() <= 127 else "U16")


def integers_cost(factors: Factors) -> float:
    """Return about how many bits the two tensors take once they are coded."""
    left, right = factors.left_values(0, factors.rows).T, factors.right_values()
    scales = np.ldexp(1.0, factors.recipe.exponents)
    return sum(_entropy(row) for row in (*(left / scales[:, None]), *right))


def _entropy(values: Wide) -> float:
    """Return the bits of normally distributed integers of this spread, at least one each."""
    spread = float(np.std(values))
    return values.size * float(np.log2(np.sqrt(2 * np.pi * np.e) * max(spread, 0.5)))
