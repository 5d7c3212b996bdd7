"""Fitting two factors to the intervals in which the sums of a merge must have lain.

The rounding of each merged value hides at most half a step of its own, and small weights have
small steps: they tell the difference far more exactly than large ones. So first come weighted
least squares, with weights that are let grow from pass to pass; then the likelihood of the
intervals, each edge blurred by a share of its width that shrinks. In every pass each row of left,
then each column of right, takes one Newton step of its own small system.

Measured on a merged LoRA of rank 16, 1536 x 576: plain singular vectors predict 81 % of the values
exactly, least squares 98.4 %, the likelihood 98.9 to 99.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelstore.lowrank import loops
from modelstore.lowrank.merge import Matrix, Merge, Wide

_RIDGE = 1e-6
"""Share of the mean curvature that is added to each: what nothing determines stays where it is."""


@dataclass(frozen=True, slots=True)
class Pull:
    """What draws a difference into its interval.

    Attributes:
        floor: the least width that counts, in units of the values.
        blur: of the edges, in widths; 0 for least squares towards the middle.
    """

    floor: float
    blur: float = 0.0

    def __call__(self, merge: Merge, rows: slice, update: Matrix) -> tuple[Matrix, Matrix]:
        """Return the gradient and the curvature of the log-likelihood, negated, at ``update``."""
        return merge.pull(rows, update, self.floor, self.blur)


def refine(merge: Merge, left: Wide, right: Wide, pull: Pull) -> tuple[Wide, Wide]:
    """Return better factors after one step of each, of shapes (rows, rank) and (rank, columns)."""
    rank = right.shape[0]
    pairs = np.triu_indices(rank)
    gradients = np.zeros((merge.columns, rank))
    curvatures = np.zeros((merge.columns, pairs[0].size))
    moved = np.empty_like(left)
    for rows in merge.pieces():
        moved[rows] = _moved(merge, rows, left, right, pull)
        part = moved[rows].astype(np.float32)
        gradient, curvature = pull(merge, rows, part @ right.astype(np.float32))
        gradients += gradient.T @ part
        curvatures += curvature.T @ (part[:, pairs[0]] * part[:, pairs[1]])
    return moved, right + _steps(gradients, curvatures).T


def refine_left(merge: Merge, left: Wide, right: Wide, pull: Pull) -> Wide:
    """Return a better ``left`` for this very ``right``."""
    parts = [_moved(merge, rows, left, right, pull) for rows in merge.pieces()]
    return np.concatenate(parts)


def curvature_sums(merge: Merge, left: Wide, right: Wide, pull: Pull) -> tuple[Wide, Wide]:
    """Return the Gram matrices, (rank, rank), of left and of right in the curvature of all values."""
    pairs = np.triu_indices(right.shape[0])
    over_rows = np.zeros(merge.columns)
    left_sums = np.zeros(pairs[0].size)
    for rows in merge.pieces():
        part = left[rows].astype(np.float32)
        _, curvature = pull(merge, rows, part @ right.astype(np.float32))
        over_rows += curvature.sum(axis=0)
        left_sums += curvature.sum(axis=1) @ (part[:, pairs[0]] * part[:, pairs[1]])
    right_sums = (right[pairs[0]] * right[pairs[1]]) @ over_rows
    return _symmetric(left_sums[None])[0], _symmetric(right_sums[None])[0]


def _moved(merge: Merge, rows: slice, left: Wide, right: Wide, pull: Pull) -> Wide:
    factor = right.astype(np.float32)
    pairs = np.triu_indices(right.shape[0])
    gradient, curvature = pull(merge, rows, left[rows].astype(np.float32) @ factor)
    products = (factor[pairs[0]] * factor[pairs[1]]).T
    return left[rows] + _steps((gradient @ factor.T).astype(np.float64), curvature @ products)


def _steps(gradients: Wide, curvatures: Matrix | Wide) -> Wide:
    """Return the solution of each small system; ``curvatures`` are upper triangles."""
    steps = np.empty_like(gradients)
    loops.solve(curvatures.astype(np.float64), gradients, _RIDGE, steps)
    return steps


def _symmetric(triangles: Matrix | Wide) -> Wide:
    rank = int(np.sqrt(2 * triangles.shape[1]))
    first, second = np.triu_indices(rank)
    full = np.empty((len(triangles), rank, rank))
    full[:, first, second] = triangles
    full[:, second, first] = triangles
    return full
