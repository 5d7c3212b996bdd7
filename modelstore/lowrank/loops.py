"""The loops of the search, compiled: where nearly all of its time goes.

Results may differ in the last bits from one processor to the next; see `modelstore.lowrank`.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.compiling import compiled

_ONE, _HALF, _TINY = np.float32(1), np.float32(0.5), np.float32(1e-30)
_MOST = np.float32(30)
_PER_BIT = np.float32(-1.4426950408889634)  # of exp(-x), as a power of two
_TERMS = tuple(np.float32(term) for term in (0.6931472, 0.2402265, 0.0555041, 0.0096181, 0.0013333))


@compiled
def _logistic(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + exp(-x)), to about six digits."""
    power = min(max(x, -_MOST), _MOST) * _PER_BIT
    whole = np.floor(power + _HALF)
    part = power - whole
    a, b, c, d, e = _TERMS
    near = _ONE + part * (a + part * (b + part * (c + part * (d + part * e))))
    bits = np.float32(near).view(np.int32) + (np.int32(whole) << np.int32(23))
    return _ONE / (_ONE + np.int32(bits).view(np.float32))


@compiled
def pull(pair, numbers, limits, found):  # type: ignore[no-untyped-def]
    """Fill gradients and curvatures; see `modelstore.lowrank.fit.Pull`.

    Args:
        pair: bits of the values and of the base.
        numbers: what all bits stand for.
        limits: the floor and the blur.
        found: updates, and what is to be filled.
    """
    (values, base), (floor, blur), (update, gradient, curvature) = pair, limits, found
    number, middles, widths = numbers
    for index in range(values.size):  # look-ups apart from sums, which become wide registers
        gradient[index] = update[index] - (middles[values[index]] - number[base[index]])
        curvature[index] = max(widths[values[index]], floor)
    if blur == 0:
        for index in range(values.size):
            curved = _ONE / (curvature[index] * curvature[index])
            gradient[index] = -gradient[index] * curved
            curvature[index] = curved
        return
    for index in range(values.size):
        away, width = gradient[index], curvature[index]
        per_unit = _ONE / (width * blur)
        half = width * _HALF
        over = _logistic((half - away) * per_unit)
        under = _logistic((-half - away) * per_unit)
        drawn = (over + under - _ONE) * per_unit
        curved = (over * (_ONE - over) + under * (_ONE - under)) * (per_unit * per_unit)
        # Far outside the likelihood is straight; there a step leads to the middle and not beyond.
        gradient[index] = drawn
        curvature[index] = max(curved, abs(drawn) / max(abs(away), _TINY))


@compiled
def count_steps(values, predicted, mantissa, counts):  # type: ignore[no-untyped-def]
    """Count the symbols of steps by context; return the bits of what goes beyond the last one."""
    contexts, last = counts.shape[0], counts.shape[1] - 1
    large = 0.0
    for index in range(values.size):
        new, old = np.int64(values[index]), np.int64(predicted[index])
        context = (old >> mantissa) & (contexts - 1)
        new = new ^ (0x7FFF if new > 0x7FFF else 0)
        old = old ^ (0x7FFF if old > 0x7FFF else 0)
        step = ((new ^ 0x8000) - 0x8000 if new > 0x7FFF else new) - (
            (old ^ 0x8000) - 0x8000 if old > 0x7FFF else old
        )
        symbol = (step << 1) ^ (step >> 63)
        if symbol > last:
            large += np.log2(symbol // last)
        counts[context, min(symbol, last)] += 1
    return large


@compiled
def solve(triangles, gradients, ridge, steps):  # type: ignore[no-untyped-def]
    """Fill ``steps`` with the solutions of small systems; zeros where one has none.

    Args:
        triangles: the upper triangle of each system's matrix, row by row; it is positive.
        gradients: the right side of each.
        ridge: share of the mean of its diagonal that is added to a diagonal.
        steps: as ``gradients``, float64.
    """
    rank = gradients.shape[1]
    root = np.zeros((rank, rank))
    half = np.empty(rank)
    for system in range(gradients.shape[0]):
        _unfold(triangles[system], ridge, root)
        if _factorise(root):
            _substitute(root, gradients[system], half, steps[system])
        else:
            steps[system] = 0.0


@compiled
def _unfold(triangle, ridge, matrix):  # type: ignore[no-untyped-def]
    rank, place, total = matrix.shape[0], 0, 0.0
    for row in range(rank):
        for column in range(row, rank):
            matrix[column, row] = triangle[place]
            place += 1
        total += matrix[row, row]
    for row in range(rank):
        matrix[row, row] += ridge * total / rank + 1e-300


@compiled
def _factorise(root):  # type: ignore[no-untyped-def]
    """Replace a matrix by its Cholesky root, below the diagonal; tell whether it has one."""
    for row in range(root.shape[0]):
        for column in range(row + 1):
            total = root[row, column]
            for index in range(column):
                total -= root[row, index] * root[column, index]
            if column < row:
                root[row, column] = total / root[column, column]
            elif total > 0:
                root[row, row] = np.sqrt(total)
            else:
                return False
    return True


@compiled
def _substitute(root, gradient, half, step):  # type: ignore[no-untyped-def]
    rank = root.shape[0]
    for row in range(rank):
        total = np.float64(gradient[row])
        for index in range(row):
            total -= root[row, index] * half[index]
        half[row] = total / root[row, row]
    for row in range(rank - 1, -1, -1):
        total = half[row]
        for index in range(row + 1, rank):
            total -= root[index, row] * step[index]
        step[row] = total / root[row, row]
