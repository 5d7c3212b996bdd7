"""The compiled loops of the search compute what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest

from modelstore.lowrank import loops
from modelstore.lowrank.merge import Merge
from modelstore.numeric import dtype_named

BF16 = dtype_named("BF16")


def _merge() -> tuple[Merge, np.ndarray]:
    """Return a merge of 8 rows and 40 columns, and updates near those that it had."""
    random = np.random.default_rng(1)
    values, base = (
        ((random.standard_normal((8, 40)) * 0.02).astype("<f4").view("<u4") >> 16).astype("<u2")
        for _ in range(2)
    )
    merge = Merge(values, base, BF16)
    middle, width = merge.interval(slice(None))
    return merge, (middle + random.standard_normal((8, 40)) * width * 3).astype(np.float32)


def test_least_squares_pull_to_the_middle():
    """Without a blur the curvature is one over the width squared, no width below the floor."""
    merge, update = _merge()
    middle, width = merge.interval(slice(None))
    gradient, curvature = merge.pull(slice(None), update, 1e-4, 0.0)
    expected = 1 / np.maximum(width, np.float32(1e-4)) ** 2
    assert np.allclose(curvature, expected, rtol=1e-5)
    assert np.allclose(gradient, (middle - update) * expected, rtol=1e-4)


@pytest.mark.parametrize("blur", [0.2, 0.05])
def test_the_likelihood_of_blurred_intervals(blur: float):
    """The gradient is that of the logarithm of the difference of two logistic functions."""
    merge, update = _merge()
    middle, width = merge.interval(slice(None))
    gradient, curvature = merge.pull(slice(None), update, 1e-4, blur)
    width = np.maximum(width.astype(np.float64), 1e-4)
    away, unit = (update - middle).astype(np.float64), width * blur
    over, under = (1 / (1 + np.exp(-(side * width / 2 - away) / unit)) for side in (1, -1))
    assert np.allclose(gradient, (over + under - 1) / unit, rtol=1e-3, atol=1e-2 / unit.max())
    assert (curvature >= (over * (1 - over) + under * (1 - under)) / unit**2 * 0.99).all()
    assert np.isfinite(curvature).all()


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_small_systems_are_solved(rank: int):
    """Each system's solution is the one that LAPACK gives; one without any gives zeros."""
    random = np.random.default_rng(rank)
    roots = random.standard_normal((6, rank, rank)) + 3 * np.eye(rank)
    systems = roots @ roots.transpose(0, 2, 1)
    right = random.standard_normal((6, rank))
    upper = np.triu_indices(rank)
    triangles = np.ascontiguousarray(systems[:, upper[0], upper[1]])
    triangles[5] = -1.0
    steps = np.empty((6, rank))
    loops.solve(triangles, right, 0.0, steps)
    expected = np.linalg.solve(systems[:5], right[:5, :, None])[:, :, 0]
    assert np.allclose(steps[:5], expected)
    assert (steps[5] == 0).all()


def test_what_steps_cost():
    """Equal matrices cost nothing; steps cost their entropy, whatever their sign."""
    merge, _ = _merge()
    assert merge.coded_bits(merge.values) == 0.0
    count = merge.values.size
    # up or down by one: two symbols, so a bit each at most
    moved = (merge.values ^ 1).astype("<u2")
    assert 0 < merge.coded_bits(moved) <= count * 1.01
