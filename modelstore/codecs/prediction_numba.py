"""The arithmetic of predictions, compiled: the results of `prediction_numpy` without temporaries.

Neither fastmath nor any other permission is given to the compiler, so it may use wide registers
over columns but changes no rounding; that it may not fuse a product and a sum would not matter,
since a product of two stored factors is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.base import Bits
from modelstore.codecs.compiling import compiled
from modelstore.codecs.floats import INFINITY, SIGN
from modelstore.codecs.prediction_numpy import Steps


def predict(
    base: Bits, start: int, left: NDArray[np.float64], right: NDArray[np.float64], steps: Steps
) -> Bits:
    """Do what `prediction_numpy.predict` does."""
    predicted = np.empty_like(base)
    _predict(base, np.int64(start), left, right, steps, predicted)
    return predicted


_PIECE = 1024
"""Columns whose sums stay in the nearest cache."""

_LOW = np.int64(0x7FF)
_HALF = np.int64(1 << 51)
_BITS = np.int64(52)


@compiled
def _rounded(value, precision):  # type: ignore[no-untyped-def]
    mantissa, lowest, highest, _ = precision
    bits = np.float64(value).view(np.int64)
    sign = bits & SIGN
    exponent = (bits >> _BITS) & _LOW
    place = min(max(exponent, lowest + 1023), 1600) + _BITS - mantissa
    large = np.int64((place << _BITS) | _HALF).view(np.float64)
    near = np.float64((value + large) - large).view(np.int64) | sign
    near = (sign | INFINITY) if ((near & ~SIGN) >> _BITS) > highest + 1023 else near
    return np.int64(bits if exponent == _LOW else near).view(np.float64)


@compiled
def _widened(whole, precision):  # type: ignore[no-untyped-def]
    mantissa, lowest, highest, top = precision
    sign = (whole >> top) << 63
    rest = whole & ((np.int64(1) << top) - 1)
    field = rest >> mantissa
    unit = (1075 + lowest - mantissa) << _BITS
    small = np.int64(rest | unit).view(np.float64) - np.int64(unit).view(np.float64)
    moved = rest << (_BITS - mantissa)
    normal = moved + ((1022 + lowest) << _BITS)
    large = normal if field <= highest - lowest + 1 else (INFINITY | moved)
    magnitude = large if field != 0 else np.float64(small).view(np.int64)
    return np.int64(magnitude | sign).view(np.float64)


@compiled
def _narrowed(value, precision):  # type: ignore[no-untyped-def]
    mantissa, lowest, highest, top = precision
    bits = np.float64(value).view(np.int64)
    magnitude = bits & ~SIGN
    unit = (1075 + lowest - mantissa) << _BITS
    small = np.int64(magnitude).view(np.float64) + np.int64(unit).view(np.float64)
    normal = (magnitude >> (_BITS - mantissa)) - ((1022 + lowest) << mantissa)
    is_small = (magnitude >> _BITS) < lowest + 1023
    found = (np.float64(small).view(np.int64) - unit) if is_small else normal
    found = ((highest - lowest + 2) << mantissa) if magnitude == INFINITY else found
    return found | (((bits >> 63) & 1) << top)


@compiled
def _add_products(sums, row, right, first):  # type: ignore[no-untyped-def]
    stop = first + sums.size
    fours = row.size - row.size % 4
    for at in range(0, fours, 4):  # four at a time: fewer loads of sums, the same order
        a, b, c, d = row[at], row[at + 1], row[at + 2], row[at + 3]
        one, two = right[at, first:stop], right[at + 1, first:stop]
        three, four = right[at + 2, first:stop], right[at + 3, first:stop]
        for index in range(sums.size):
            total = (sums[index] + a * one[index]) + b * two[index]
            sums[index] = (total + c * three[index]) + d * four[index]
    for at in range(fours, row.size):
        factor, values = row[at], right[at, first:stop]
        for index in range(sums.size):
            sums[index] += factor * values[index]


@compiled
def _round_all(values, precision):  # type: ignore[no-untyped-def]
    for index in range(values.size):
        values[index] = _rounded(values[index], precision)


@compiled
def _finish(base, values, steps, predicted):  # type: ignore[no-untyped-def]
    scale, single, product, update, result = steps
    # One short loop for each step: the compiler makes wide registers of these, not of one of all.
    _round_all(values, single)
    if product != single:
        _round_all(values, product)
    for index in range(values.size):
        values[index] = _rounded(values[index] * scale, single)
    if update != single:
        _round_all(values, update)
    for index in range(values.size):
        values[index] = _rounded(_widened(np.int64(base[index]), result) + values[index], single)
    if result != single:
        _round_all(values, result)
    highest = (result[2] - result[1] + 2) << result[0]
    for index in range(values.size):
        whole, value = np.int64(base[index]), values[index]
        kept = ((whole & highest) == highest) | np.isnan(value)
        predicted[index] = whole if kept else _narrowed(value, result)


@compiled
def _predict(base, start, left, right, steps, predicted):  # type: ignore[no-untyped-def]
    columns = right.shape[1]
    sums = np.empty(_PIECE, np.float64)
    done = 0
    while done < base.size:
        row, first = divmod(start + done, columns)
        count = min(_PIECE, columns - first, base.size - done)
        part = sums[:count]
        part[:] = 0.0
        _add_products(part, left[row], right, first)
        here = slice(done, done + count)
        _finish(base[here], part, steps, predicted[here])
        done += count
