"""The inner loops that decoding steps needs, without a compiler; see `steps_numba`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.base import Bits, Planes

DIRECT = 16
"""Symbols below this are tokens of their own."""


def token_of(symbol: int) -> int:
    """Return the token of a symbol: itself, or its bit length and the bit below its top one."""
    if symbol < DIRECT:
        return symbol
    below = symbol.bit_length() - 2
    return 8 + 2 * below + (symbol >> below)


_BELOW = np.array([0] * DIRECT + [(token - 10) // 2 for token in range(DIRECT, 256)])


def bits_below(tokens: Planes) -> int:
    """Return how many bits these tokens leave to be told."""
    return int(np.bincount(tokens, minlength=256) @ _BELOW)


def restore(  # noqa: PLR0913  (what the compiled one needs)
    tokens: Planes,
    eights: NDArray[np.uint64],
    extra: NDArray[np.uint64],
    base: Bits,
    mask: Any,
    half: Any,
    values: Bits,
) -> None:
    """Do what `steps_numba.restore` does."""
    tokens = tokens[: base.size]
    symbols = tokens.astype(base.dtype)
    places = np.flatnonzero(tokens >= DIRECT)
    below = _BELOW[tokens[places]].astype(np.uint64)
    ends = np.cumsum(below, dtype=np.uint64)
    starts = ends - below
    word, shift = starts >> np.uint64(6), starts & np.uint64(63)
    low = extra[word] >> shift
    # A shift by 64 is not defined: two shifts that add up to it are.
    low |= (extra[word + np.uint64(1)] << (np.uint64(63) - shift)) << np.uint64(1)
    low &= (np.uint64(1) << below) - np.uint64(1)
    top = np.uint64(2) + (tokens[places].astype(np.uint64) & np.uint64(1))
    symbols[places] = ((top << below) | low).astype(symbols.dtype)
    _apply(symbols, base, mask, half, values)


def _apply(symbols: Bits, base: Bits, mask: Any, half: Any, values: Bits) -> None:
    """Fill ``values`` with what lies the steps in ``symbols`` away from ``base``."""
    origin = np.where(base > half, base ^ mask, base)
    steps = (symbols >> 1) ^ np.negative(symbols & 1)
    moved = steps + origin
    values[:] = np.where(moved > half, moved ^ mask, moved)


def steady(values: Bits) -> Bits:
    """Return ``values``; only compiled loops care how they lie in memory."""
    return values


def exponents_of(base: Bits, shift: Any, exponent: Any, exponents: Planes) -> None:
    """Do what `steps_numba.exponents_of` does."""
    exponents[:] = (base >> shift) & exponent


def look_up(numbers: Planes, table: Planes, found: Planes) -> None:
    """Do what `lookup_numba.look_up` does."""
    found[:] = table[numbers]


def add_rows(rows: Planes, columns: Planes, phase: int, classes: Planes) -> None:
    """Do what `steps_numba.add_rows` does."""
    places = np.arange(phase, phase + classes.size)
    classes += rows[places // columns.size]
    classes += columns[places % columns.size]
