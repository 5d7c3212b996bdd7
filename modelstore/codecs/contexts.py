"""What tells how far a value moved: the exponent of its base, and its row and column.

An optimizer's step does not depend on the size of a weight, so its size in steps between
neighbouring floats falls with the weight's exponent; and rows and columns of a matrix move by
different amounts. All three are kept as quarters of a power of two and added, so one number, the
class, says how far a value should have moved. Neighbouring classes share a context where that
saves bits.
The estimates need not be good: they only choose among tables. A decoder is told the outcome.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs import rans, steps_numba
from modelstore.codecs.base import Grid, Planes
from modelstore.codecs.lookup_numba import look_up
from modelstore.codecs.steps_model import Model

_PER_OCTAVE = 4
_REACH = 4 * _PER_OCTAVE  # how far rows, and columns, may lie from the mean
_MOST_OFFSET = 255 - 4 * _REACH
_MOST_CONTEXTS = 32
_MOST_GROUPS = 384  # of classes, if as large as can be, before they are merged into contexts
_SMALLEST_GROUP = 1024  # values
_RUN, _RUNS = 64, 512  # values that lie together in the sample of exponents, and how often
_LEAST_WIDTH = 16  # of rows and columns that are worth a factor
_COST_OF_A_FACTOR = 4.0  # bits

# The middle of what each token stands for, in steps.
_SIZES = np.array(
    [(symbol + 1) // 2 for symbol in range(16)]
    + [float((2.5 + (token & 1)) * 2.0 ** ((token - 10) // 2) / 2) for token in range(16, 256)]
)
# How far a token moves, to be summed over a row: steps, of which those beyond 4 would drown the
# others; or, where most values move further, half octaves.
_STEPS = np.minimum((np.arange(256) + 1) // 2, 4).astype(np.uint8)
_HALF_OCTAVES = np.rint(2 * np.log2(_SIZES + 0.25) + 4).astype(np.uint8)
_FAR = 3.0  # steps of `_STEPS`
_SAVED_BY_AN_OCTAVE = 0.5  # bits a value, and as its square: of Laplace's law 0.35, of Gauss' 0.7

# n * log2(n), for numbers as most counts are.
_TIMES_LOG = np.concatenate(([0.0], np.arange(1, 4096) * np.log2(np.arange(1, 4096))))


def learn(tokens: Planes, exponents: Planes, grid: Grid) -> tuple[Model, Planes]:
    """Return how to code ``tokens`` of values whose bases have ``exponents``.

    Returns:
        the model, and the context of every value.
    """
    stride = int(tokens.max()) + 1
    sums = _sum_by_exponent(tokens, exponents, stride)
    offsets = _offsets(sums)
    rows, columns = _factors(tokens, exponents, sums, grid)
    classes = np.empty(tokens.size, np.uint8)
    look_up(exponents, offsets, classes)
    if columns.size:
        steps_numba.add_rows(rows, columns, grid.phase, classes)
    contexts, tables = _contexts(_count(tokens, classes, stride))
    phase = grid.phase if columns.size else 0
    look_up(classes, contexts, classes)
    return Model(offsets, rows, columns, phase, contexts, tables), classes


def _sum_by_exponent(tokens: Planes, exponents: Planes, stride: int) -> NDArray[np.float64]:
    """Return what a sample says of each exponent, of shape (4, 256).

    Returns:
        the values with it, and their sums of `_SIZES`, `_STEPS` and `_HALF_OCTAVES`.
    """
    sample = _sample_of(tokens), _sample_of(exponents)
    counts = _count(*sample, stride).astype(np.float64)
    weights = np.stack((np.ones(256), _SIZES, _STEPS, _HALF_OCTAVES), axis=1)[:stride]
    sums: NDArray[np.float64] = (counts @ weights).T
    return sums


def _sample_of(plane: Planes) -> Planes:
    """Return a part of ``plane``, from all over it."""
    runs = plane.size // _RUN
    if runs <= _RUNS:
        return plane
    return plane[: runs * _RUN].reshape(runs, _RUN)[:: runs // _RUNS].ravel()


def _count(tokens: Planes, classes: Planes, stride: int) -> NDArray[np.int64]:
    """Return how often each token, below ``stride``, occurs in each class."""
    counts = np.zeros((2, 256 * stride), np.uint32)
    steps_numba.count(tokens, classes, stride, counts)
    both: NDArray[np.int64] = np.add(counts[0], counts[1], dtype=np.int64)
    return both.reshape(256, stride)


def _offsets(sums: NDArray[np.float64]) -> Planes:
    """Return how far values of each exponent move, in quarters of a power of two."""
    counts, steps = sums[:2]
    known = counts >= 32
    if not known.any():
        known = counts > 0
    exponents = np.arange(256)
    places = np.flatnonzero(known)
    means = (steps[places] + 0.25) / (counts[places] + 1.0)
    levels = np.rint(_PER_OCTAVE * np.log2(means))
    # An exponent that was seen too rarely is as far from the nearest that was as steps are long.
    nearest = places[np.abs(exponents[:, None] - places).argmin(axis=1)]
    guessed = levels[np.searchsorted(places, nearest)] + _PER_OCTAVE * (nearest - exponents)
    lowest = levels.min() - _PER_OCTAVE * 2
    offsets: Planes = np.clip(guessed - lowest, 0, _MOST_OFFSET).astype(np.uint8)
    return offsets


def _factors(
    tokens: Planes, exponents: Planes, sums: NDArray[np.float64], grid: Grid
) -> tuple[Planes, Planes]:
    """Return what rows and columns add to a class, both empty where neither is worth its bytes."""
    nothing = np.empty(0, np.uint8)
    width = grid.columns
    height = -(-(grid.phase + tokens.size) // width) if width else 0
    if min(width, height) < _LEAST_WIDTH:
        return nothing, nothing
    far = bool(sums[2].sum() > _FAR * sums[0].sum())
    moves, expected = np.empty((2, tokens.size), np.uint8)
    look_up(tokens, _HALF_OCTAVES if far else _STEPS, moves)
    means = sums[3 if far else 2] / np.maximum(sums[0], 1.0)
    means = np.rint(means * (255 / max(means.max(), 1e-9))).astype(np.uint8)
    look_up(exponents, means, expected)
    row_moves, column_moves = np.zeros((2, height), np.uint32), np.zeros((2, width), np.uint32)
    steps_numba.compare_moves(moves, expected, width, grid.phase, row_moves, column_moves)
    levels = _levels_of_far if far else _levels
    rows, row_gain = levels(row_moves, tokens.size)
    columns, column_gain = levels(column_moves, tokens.size)
    if row_gain <= 0 and column_gain <= 0:
        return nothing, nothing
    return (
        rows if row_gain > 0 else np.zeros_like(rows),
        columns if column_gain > 0 else np.zeros_like(columns),
    )


def _levels_of_far(compared: NDArray[np.uint32], count: int) -> tuple[Planes, float]:
    """Return what `_levels` does, where moves are half octaves."""
    moves, expected = _on_one_scale(compared)
    each = count / moves.size
    octaves = (moves - expected) / (2 * each)
    return _rounded(octaves), float((octaves**2).sum()) * each * _SAVED_BY_AN_OCTAVE - _cost(moves)


def _levels(compared: NDArray[np.uint32], _: int) -> tuple[Planes, float]:
    """Return how much more than it should each row moves, and the bits that knowing it saves.

    The saving is that of a Poisson count whose mean is known instead of the expected one.

    Args:
        compared: the two rows of `steps_numba.compare_moves`.
    """
    moves, expected = _on_one_scale(compared)
    octaves = np.log2((moves + 1.0) / (expected + 1.0))
    saved = float((moves * octaves - (moves - expected) / np.log(2)).sum())
    return _rounded(octaves), saved - _cost(moves)


def _on_one_scale(
    compared: NDArray[np.uint32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    moves, expected = compared[0].astype(np.float64), compared[1].astype(np.float64)
    return moves, expected * (moves.sum() / max(1.0, expected.sum()))


def _rounded(octaves: NDArray[np.float64]) -> Planes:
    levels = np.clip(np.rint(_PER_OCTAVE * octaves), -_REACH, _REACH) + _REACH
    rounded: Planes = levels.astype(np.uint8)
    return rounded


def _cost(rows: NDArray[np.float64]) -> float:
    return _COST_OF_A_FACTOR * rows.size


def _contexts(counts: NDArray[np.int64]) -> tuple[Planes, rans.Tables]:
    """Return which classes share a context, and the tables of the contexts.

    Args:
        counts: how often each token occurs in each class; changed.
    """
    contexts = np.empty(256, np.uint8)
    least = max(_SMALLEST_GROUP, int(counts.sum()) // _MOST_GROUPS)
    number = steps_numba.merge(counts, least, _TIMES_LOG, _MOST_CONTEXTS, contexts)
    return contexts, rans.frequencies_of(counts[:number].astype(np.float64))
