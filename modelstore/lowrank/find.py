"""Whether a matrix differs from its base by a product of low rank, and by which.

Most tensors do not: of a full fine-tune every matrix differs in all directions. So a sample of
rows answers first, within a second; only what gains there is fitted as a whole.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.base import Bits
from modelstore.codecs.factors import Factors
from modelstore.codecs.prediction import best_rounding, predict
from modelstore.lowrank.fit import Pull, refine, refine_left
from modelstore.lowrank.merge import Matrix, Merge, Wide
from modelstore.lowrank.quantise import Balanced, balance, integers_cost, quantise
from modelstore.numeric import DType

_NAMES = ("BF16", "F16")
_MOST_RANK = 64
_LEAST_SIDE = 64
_MOST_COLUMNS = 1 << 17
_MOST_CURVATURES = 1 << 26  # rank * rank * columns: 400 MB
_MOST_VALUES = 1 << 27

_SAMPLE = 1 << 19
"""Values in the sample: of the rows that it takes, every column."""

_FLOORS = (0.3, 0.1, 0.02)
"""Least squares: the share of values whose width counts as larger than it is, pass by pass."""

_BLURS = (0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.05, 0.05)
"""Likelihood: the blur of the edges, pass by pass; smaller ones no longer converge."""

_COARSENESS = 5.0
"""Of integers, see `quantise`; 4 to 6 were best within 1 % for every matrix of two adapters."""

_BITS_EACH = 8.5
"""About what an integer of a factor costs."""

_GAIN = 0.9
"""A prediction is worth its trouble if it leaves this share of the bits, or less."""


def find_factors(values: Bits, base: Bits, dtype: DType, columns: int) -> Factors | None:
    """Return factors whose prediction saves bits, None where there are none.

    Takes about a third of a second per million values where there are factors, and a few tenths in
    all where there are none; memory beside the arguments stays below 300 MB. BLAS should be kept
    from using threads of its own: on busy cores these take ten times as long.

    Args:
        values: the merged tensor, one dimension.
        base: the base, as many values.
        dtype: of both.
        columns: the length of its rows.
    """
    if not _searchable(values, base, dtype, columns):
        return None
    merge = _merge(values, base, dtype, columns)
    try:
        with np.errstate(all="ignore"):  # what breaks down shows in the cost
            start = _start(merge) if merge.is_ordinary() else None
            factors = None if start is None else _fitted(merge, start)
    except np.linalg.LinAlgError:  # as it may with values of no sense at all
        return None
    if factors is None or cost(merge, factors) > _GAIN * merge.coded_bits(merge.base):
        return None
    return factors


def quantised(values: Bits, base: Bits, dtype: DType, known: Factors) -> Factors | None:
    """Return integers that predict about what the factors ``known`` of a merge do.

    None where there are none, or what is known cannot be cut into independent components.

    Args:
        values, base, dtype: as `find_factors` has them.
        known: floats, as an adapter has them.
    """
    columns, rank = known.recipe.columns, known.recipe.rank
    if not _searchable(values, base, dtype, columns) or rank > _MOST_RANK:
        return None
    merge = _merge(values, base, dtype, columns)
    left, right = known.left_values(0, known.rows) * known.recipe.scale, known.right_values()
    try:
        with np.errstate(all="ignore"):  # what breaks down is no number
            if (
                not merge.is_ordinary()
                or not np.isfinite(left).all()
                or not np.isfinite(right).all()
            ):
                return None
            return _as_integers(merge, left, right, Pull(_finest(merge), _BLURS[-1]))
    except np.linalg.LinAlgError:
        return None


def cost(merge: Merge, factors: Factors) -> float:
    """Return about how many bits the factors and the steps from their prediction take."""
    predicted = predict(merge.base.reshape(-1), merge.dtype, 0, factors)
    return merge.coded_bits(predicted.reshape(merge.base.shape)) + integers_cost(factors)


def _searchable(values: Bits, base: Bits, dtype: DType, columns: int) -> bool:
    size = values.size
    if dtype.name not in _NAMES or size != base.size:
        return False
    rows = size // columns if columns else 0
    enough = min(rows, columns) >= _LEAST_SIDE and columns <= _MOST_COLUMNS
    return enough and rows * columns == size and size <= _MOST_VALUES


def _merge(values: Bits, base: Bits, dtype: DType, columns: int) -> Merge:
    return Merge(values.reshape(-1, columns), base.reshape(-1, columns), dtype)


# --- a sample


def _start(merge: Merge) -> Wide | None:
    """Return a first right, fitted to a sample of rows; None where nothing is to be gained."""
    sample = merge.sample(max(_LEAST_SIDE, _SAMPLE // merge.columns))
    middle, width = sample.interval(slice(None))
    left, right = _singular(sample, middle, width)
    rank = len(right)
    if not 0 < rank <= _MOST_RANK + _SPARE or rank * rank * merge.columns > _MOST_CURVATURES:
        return None
    for share in _FLOORS:
        pull = Pull(_floor(width, share))
        left, right = refine(sample, left, right, pull)
    balanced = balance(sample, left, right, pull)
    balanced = balanced.kept(_rank(balanced))
    plain = sample.coded_bits(sample.base) / sample.base.size
    left_over = _left_over(sample, balanced, pull) + _factor_share(merge, len(balanced.right))
    return balanced.right if left_over < _GAIN * plain else None


_SPARE = 8
"""Components beyond those that stand out of the noise: they show where it begins."""


def _singular(sample: Merge, difference: Matrix, width: Matrix) -> tuple[Wide, Wide]:
    """Return the components of the difference that stand out of the rounding noise, and some more.

    Rows and columns are scaled so that the noise is about even; that of independent rounding
    errors has no singular value above deviation * (sqrt(rows) + sqrt(columns)).
    """
    logs = np.log2(width)
    by_row = np.exp2(logs.mean(axis=1, keepdims=True))
    by_column = np.exp2(logs.mean(axis=0, keepdims=True) - logs.mean())
    scale = by_row * by_column
    left, strengths, right = _sketch(difference / scale, _MOST_RANK + _SPARE + 1)
    deviation = float(np.sqrt(np.mean((width / scale) ** 2) / 12))
    edge = deviation * (np.sqrt(sample.rows) + np.sqrt(sample.columns))
    count = int((strengths > edge).sum())
    count = min(count + _SPARE, len(strengths)) if count else 0
    return (left[:, :count] * by_row).astype(np.float64), right[:count] * by_column


def _sketch(matrix: Matrix, rank: int) -> tuple[Matrix, Wide, Wide]:
    """Return the first singular vectors, left times values, by random projection.

    Halko, Martinsson, Tropp: Finding structure with randomness (2011), algorithms 4.4 and 5.1.
    """
    rank = min(rank, *matrix.shape)
    seeds = np.random.default_rng(0).standard_normal((matrix.shape[1], rank + 8))
    image = matrix @ seeds.astype(np.float32)
    for _ in range(2):
        image = np.linalg.qr(image)[0]
        image = matrix @ np.linalg.qr(matrix.T @ image)[0]
    axes = np.linalg.qr(image)[0]
    left, strengths, right = np.linalg.svd(axes.T @ matrix, full_matrices=False)
    left = (axes @ left[:, :rank]) * strengths[:rank]
    return left, strengths[:rank].astype(np.float64), right[:rank].astype(np.float64)


def _rank(balanced: Balanced) -> int:
    """Return how many components are clearly stronger than the last, which is noise.

    Rounded up to a power of two, which the ranks of adapters nearly always are: a sample does not
    show the weakest of them.
    """
    strengths = balanced.strengths
    count = max(1, int((strengths > 1.5 * strengths[-1]).sum()))
    return int(min(1 << (count - 1).bit_length(), len(strengths)))


def _floor(width: Matrix, share: float) -> float:
    """Return what ``share`` of the widths are below; some ten thousand of them tell."""
    widths = width.reshape(-1)
    return float(np.quantile(widths[:: max(1, widths.size // _WIDTHS)], share))


_WIDTHS = 1 << 15


def _left_over(sample: Merge, factors: Balanced, pull: Pull) -> float:
    """Return about the bits per value that a prediction of the sample leaves."""
    found = quantise(sample, factors, pull, 1.0)
    predicted = predict(np.ascontiguousarray(sample.base).reshape(-1), sample.dtype, 0, found)
    return sample.coded_bits(predicted.reshape(sample.base.shape)) / predicted.size


def _factor_share(merge: Merge, rank: int) -> float:
    return _BITS_EACH * rank * (merge.rows + merge.columns) / (merge.rows * merge.columns)


# --- the whole


def _fitted(merge: Merge, right: Wide) -> Factors:
    _, width = merge.sample(_LEAST_SIDE).interval(slice(None))
    pull = Pull(_floor(width, _FLOORS[0]))
    left = refine_left(merge, np.zeros((merge.rows, len(right))), right, pull)
    for share in _FLOORS[1:]:
        left, right = refine(merge, left, right, Pull(_floor(width, share)))
    finest = _finest(merge)
    for blur in _BLURS:
        pull = Pull(finest, blur)
        left, right = refine(merge, left, right, pull)
    return _as_integers(merge, left, right, pull)


def _finest(merge: Merge) -> float:
    """Return the least width that counts where edges are blurred."""
    return _floor(merge.sample(_LEAST_SIDE).interval(slice(None))[1], 0.001)


def _as_integers(merge: Merge, left: Wide, right: Wide, pull: Pull) -> Factors:
    found = quantise(merge, balance(merge, left, right, pull), pull, _COARSENESS)
    values, base = (
        bits[: _TOLD // merge.columns].reshape(-1) for bits in (merge.values, merge.base)
    )
    return best_rounding(values, base, merge.dtype, found)


_TOLD = 1 << 17
"""Values that tell how the merge was rounded."""
