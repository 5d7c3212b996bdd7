"""The arithmetic of the codecs, compiled: the results of `kernels_numpy` without temporaries.

In numpy a block is some twenty passes over fresh memory, and a sort where this only counts.
Everything is computed in 64-bit unsigned integers and cut to the width at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from modelstore.codecs.base import Bits, Planes
from modelstore.codecs.fields import Layout

_Numbers = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


def split(values: Bits, layout: Layout) -> Planes:
    """Do what `kernels_numpy.split` does."""
    planes = np.empty((layout.plane_count, values.size), np.uint8)
    high = layout.exponent_planes
    _split_exponents(values, _shape(layout), planes[:high])
    _split_rest(values, _shape(layout), planes[high:])
    return planes


def merge(planes: Planes, layout: Layout) -> Bits:
    """Do what `kernels_numpy.merge` does."""
    values = np.zeros(planes.shape[1], f"u{layout.width}")
    high = layout.exponent_planes
    _merge_exponents(planes[:high], _shape(layout), values)
    _merge_rest(planes[high:], _shape(layout), values)
    return values


def differ(values: Bits, base: Bits, layout: Layout) -> Planes:
    """Do what `kernels_numpy.differ` does."""
    symbols = np.empty_like(values)
    _differ(values, base, _movement(layout), symbols)
    planes = np.empty((layout.width, values.size), np.uint8)
    _split_bytes(symbols, planes)
    return planes


def apply(planes: Planes, base: Bits, layout: Layout) -> Bits:
    """Do what `kernels_numpy.apply` does."""
    symbols, values = np.zeros_like(base), np.empty_like(base)
    _join_bytes(planes, symbols)
    _apply(symbols, base, _movement(layout), values)
    return values


def _shape(layout: Layout) -> _Numbers:
    """Return the mantissa's bits and mask, the sign's bit above it, and how far that is moved."""
    return (
        np.uint64(layout.mantissa),
        np.uint64((1 << layout.mantissa) - 1),
        np.uint64(layout.sign << layout.mantissa),
        np.uint64(layout.exponent),
    )


def _movement(layout: Layout) -> _Numbers:
    """Return what orders values, their top bit's place, where contexts begin, and their mask."""
    top = 8 * layout.width - 1
    return (
        np.uint64((1 << top) - 1 if layout.ordered else 0),
        np.uint64(top),
        np.uint64(layout.mantissa),
        np.uint64((1 << layout.context_bits) - 1),
    )


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # no place where a cache could be written
        return numba.njit(nogil=True)(loop)


@_compiled
def _split_exponents(values, shape, planes):  # type: ignore[no-untyped-def]
    mantissa, _, _, exponent = shape
    mask = (np.uint64(1) << exponent) - np.uint64(1)
    for plane in range(planes.shape[0]):
        down = mantissa + np.uint64(8 * plane)
        kept = mask >> np.uint64(8 * plane)
        for index in range(values.size):
            planes[plane, index] = np.uint8((values[index] >> down) & kept)


@_compiled
def _split_rest(values, shape, planes):  # type: ignore[no-untyped-def]
    _, mask, sign, moved = shape
    for plane in range(planes.shape[0]):
        down = np.uint64(8 * plane)
        for index in range(values.size):
            value = np.uint64(values[index])
            planes[plane, index] = np.uint8(((value & mask) | ((value >> moved) & sign)) >> down)


@_compiled
def _merge_exponents(planes, shape, values):  # type: ignore[no-untyped-def]
    mantissa = shape[0]
    for plane in range(planes.shape[0]):
        up = mantissa + np.uint64(8 * plane)
        for index in range(values.size):
            values[index] |= np.uint64(planes[plane, index]) << up


@_compiled
def _merge_rest(planes, shape, values):  # type: ignore[no-untyped-def]
    _, mask, sign, moved = shape
    for plane in range(planes.shape[0]):
        up = np.uint64(8 * plane)
        for index in range(values.size):
            rest = np.uint64(planes[plane, index]) << up
            values[index] |= (rest & mask) | ((rest & sign) << moved)


@_compiled
def _split_bytes(symbols, planes):  # type: ignore[no-untyped-def]
    for plane in range(planes.shape[0]):
        down = np.uint64(8 * plane)
        for index in range(symbols.size):
            planes[plane, index] = np.uint8(symbols[index] >> down)


@_compiled
def _join_bytes(planes, symbols):  # type: ignore[no-untyped-def]
    for plane in range(planes.shape[0]):
        up = np.uint64(8 * plane)
        for index in range(symbols.size):
            symbols[index] |= np.uint64(planes[plane, index]) << up


@_compiled
def _starts(base, shift, mask):  # type: ignore[no-untyped-def]
    counts = np.zeros(257, np.int64)
    for index in range(base.size):
        counts[np.int64((np.uint64(base[index]) >> shift) & mask) + 1] += 1
    return np.cumsum(counts)


@_compiled
def _differ(values, base, movement, symbols):  # type: ignore[no-untyped-def]
    ordering, top, shift, mask = movement
    starts = _starts(base, shift, mask)
    full = ~np.uint64(0) >> (np.uint64(63) - top)
    one, zero = np.uint64(1), np.uint64(0)
    for index in range(values.size):
        value, origin = np.uint64(values[index]), np.uint64(base[index])
        context = np.int64((origin >> shift) & mask)
        value ^= (zero - (value >> top)) & ordering
        origin ^= (zero - (origin >> top)) & ordering
        step = (value - origin) & full
        place = starts[context]
        starts[context] = place + 1
        symbols[place] = (step << one) ^ (zero - (step >> top))


@_compiled
def _apply(symbols, base, movement, values):  # type: ignore[no-untyped-def]
    ordering, top, shift, mask = movement
    starts = _starts(base, shift, mask)
    full = ~np.uint64(0) >> (np.uint64(63) - top)
    one, zero = np.uint64(1), np.uint64(0)
    for index in range(base.size):
        origin = np.uint64(base[index])
        context = np.int64((origin >> shift) & mask)
        place = starts[context]
        starts[context] = place + 1
        symbol = np.uint64(symbols[place])
        origin ^= (zero - (origin >> top)) & ordering
        value = (origin + ((symbol >> one) ^ (zero - (symbol & one)))) & full
        values[index] = value ^ ((zero - (value >> top)) & ordering)
