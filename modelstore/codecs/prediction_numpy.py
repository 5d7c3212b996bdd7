"""The arithmetic of predictions in plain numpy: slow, and readable everywhere.

Every step is one operation of IEEE 754 float64, or integer work, in a fixed order, so the bytes do
not depend on the machine. `prediction_numba` does the same without temporaries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.base import Bits
from modelstore.codecs.floats import INFINITY, SIGN, Precision, narrowed, rounded, widened


class Steps(NamedTuple):
    """What is done with a sum of products: the numbers of a recipe.

    Attributes:
        scale: what the rounded sum is multiplied with.
        single: precision of float32, which every sum passes through.
        product, update, result: what the sum, the scaled sum and the merged value are rounded to.
    """

    scale: np.float64
    single: Precision
    product: Precision
    update: Precision
    result: Precision


def predict(
    base: Bits, start: int, left: NDArray[np.float64], right: NDArray[np.float64], steps: Steps
) -> Bits:
    """Return the predicted bits of as many values as ``base`` has.

    Args:
        base: values of the precision ``steps.result``, one dimension.
        start: where ``base`` begins in the first row of ``left``.
        left: shape (rows, rank), the rows that ``base`` touches.
        right: shape (rank, columns).
        steps: what is done with their product.
    """
    columns = right.shape[1]
    predicted = np.empty_like(base)
    piece = max(1, _PIECE // columns)
    with np.errstate(all="ignore"):  # infinite factors: their sums become what base is
        for row in range(0, left.shape[0], piece):
            first, stop = row * columns - start, (row + piece) * columns - start
            sums = _sums(left[row : row + piece], right)
            here = slice(max(first, 0), min(stop, base.size))
            sums = sums[here.start - first : here.stop - first]
            predicted[here] = _finish(base[here], sums, steps)
    return predicted


_PIECE = 1 << 16
"""Values that are computed at once: temporaries stay in the cache."""


def _sums(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix product, summed in the order of the components, in one dimension."""
    sums = np.zeros((left.shape[0], right.shape[1]))
    for component in range(right.shape[0]):
        sums += left[:, component, None] * right[component]
    return sums.reshape(-1)


def _finish(base: Bits, sums: NDArray[np.float64], steps: Steps) -> Bits:
    product = rounded(rounded(sums, steps.single), steps.product)
    update = rounded(rounded(product * steps.scale, steps.single), steps.update)
    origin = widened(base, steps.result)
    merged = rounded(rounded(origin + update, steps.single), steps.result)
    found = narrowed(merged, steps.result)
    kept = (origin.view(np.int64) & INFINITY) == INFINITY
    kept |= (merged.view(np.int64) & ~SIGN) > INFINITY
    return np.where(kept, base, found.astype(base.dtype))
