"""The arithmetic of the codecs in plain numpy: slow, and readable everywhere.

All of it is exact work on unsigned integers; no float is ever computed with, so every NaN keeps
its payload and every zero its sign. `kernels_numba` does the same without temporaries.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.base import Bits, Planes
from modelstore.codecs.fields import Layout


def split(values: Bits, layout: Layout) -> Planes:
    """Return the byte planes of ``values``: exponents, then signs above mantissas.

    Returns:
        shape (planes, values); the lowest byte of each field comes first.
    """
    planes = np.empty((layout.plane_count, values.size), np.uint8)
    high = layout.exponent_planes
    exponents = (values >> layout.mantissa) & ((1 << layout.exponent) - 1)
    rest = values & ((1 << layout.mantissa) - 1)
    if layout.sign:
        rest |= (values >> (8 * layout.width - 1)) << layout.mantissa
    _split_bytes(exponents, planes[:high])
    _split_bytes(rest, planes[high:])
    return planes


def merge(planes: Planes, layout: Layout) -> Bits:
    """Return the values that `split` made ``planes`` of."""
    high = layout.exponent_planes
    values = _join_bytes(planes[:high], layout.width) << layout.mantissa
    rest = _join_bytes(planes[high:], layout.width)
    values |= rest & ((1 << layout.mantissa) - 1)
    if layout.sign:
        values |= (rest >> layout.mantissa) << (8 * layout.width - 1)
    return values


def differ(values: Bits, base: Bits, layout: Layout) -> Planes:
    """Return how far each value lies from its base, grouped by the exponents of the base.

    Floats count in steps between neighbouring floats, integers in ones; a step down is odd, a
    step up even (zigzag); values whose bases have the same exponent keep their order.

    Returns:
        shape (width, values); the lowest byte comes first.
    """
    steps = _to_ordered(values, layout) - _to_ordered(base, layout)
    symbols = (steps << 1) ^ _sign_mask(steps)
    planes = np.empty((layout.width, values.size), np.uint8)
    _split_bytes(symbols[_order(base, layout)], planes)
    return planes


def apply(planes: Planes, base: Bits, layout: Layout) -> Bits:
    """Return the values that `differ` made ``planes`` of, given the same ``base``."""
    symbols = np.empty_like(base)
    symbols[_order(base, layout)] = _join_bytes(planes, layout.width)
    steps = (symbols >> 1) ^ np.negative(symbols & 1)
    return _to_ordered(steps + _to_ordered(base, layout), layout)


def _to_ordered(values: Bits, layout: Layout) -> Bits:
    """Return integers in two's complement, in the order of the floats; its own inverse.

    Neighbouring floats become neighbouring integers, and -0.0 becomes -1.
    """
    if not layout.ordered:
        return values
    ordered: Bits = values ^ (_sign_mask(values) >> 1)
    return ordered


def _sign_mask(values: Bits) -> Bits:
    """Return all ones where the top bit is set, else zero."""
    mask: Bits = np.negative(values >> (8 * values.itemsize - 1))
    return mask


def _order(base: Bits, layout: Layout) -> Bits:
    context = (base >> layout.mantissa).astype(np.uint8) & ((1 << layout.context_bits) - 1)
    return np.argsort(context, kind="stable")


def _split_bytes(values: Bits, planes: Planes) -> None:
    for index, plane in enumerate(planes):
        plane[:] = (values >> 8 * index).astype(np.uint8)


def _join_bytes(planes: Planes, width: int) -> Bits:
    values: Bits = np.zeros(planes.shape[1], f"<u{width}")
    for index, plane in enumerate(planes):
        values |= plane.astype(values.dtype) << 8 * index
    return values
