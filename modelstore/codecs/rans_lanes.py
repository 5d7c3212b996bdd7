"""The inner loops of rANS with one register for the eight states of a section; see `lanes`.

Such a register waits for itself most of the time, so several sections are worked on in turn.
What these loops leave over is done by those of `rans_numba`.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.compiling import compiled
from modelstore.codecs.lanes import load, pull, push, store

_STEP = np.uint64(8)


@compiled
def decode_four(words, states, table, contexts, symbols, first, stop, places):  # type: ignore[no-untyped-def]
    """Decode four sections, as far as each has words.

    Args:
        words: the words of each and 8 more that mean nothing, four arrays (uint32).
        states: shape (4, 8), of each (uint64), changed.
        table: of `rans_numba.decode_table`.
        contexts: the contexts of each section's symbols, four arrays (uint8).
        symbols: filled, four arrays (uint8).
        first, stop: which symbols of each section; both multiples of 8.
        places: the first word that is left of each (uint64), changed.

    Returns:
        the first symbol that is left, of all sections.
    """
    (w0, w1, w2, w3), (c0, c1, c2, c3), (s0, s1, s2, s3) = words, contexts, symbols
    x0, x1 = load(states[0], np.uint64(0)), load(states[1], np.uint64(0))
    x2, x3 = load(states[2], np.uint64(0)), load(states[3], np.uint64(0))
    p0, p1, p2, p3 = places[0], places[1], places[2], places[3]
    e0, e1 = np.uint64(w0.size) - _STEP, np.uint64(w1.size) - _STEP
    e2, e3 = np.uint64(w2.size) - _STEP, np.uint64(w3.size) - _STEP
    i, stop = np.uint64(first), np.uint64(stop)
    while i < stop and p0 <= e0 and p1 <= e1 and p2 <= e2 and p3 <= e3:
        x0, p0 = pull(x0, table, c0, s0, i, w0, p0)
        x1, p1 = pull(x1, table, c1, s1, i, w1, p1)
        x2, p2 = pull(x2, table, c2, s2, i, w2, p2)
        x3, p3 = pull(x3, table, c3, s3, i, w3, p3)
        i += _STEP
    store(x0, states[0], np.uint64(0))
    store(x1, states[1], np.uint64(0))
    store(x2, states[2], np.uint64(0))
    store(x3, states[3], np.uint64(0))
    places[0], places[1], places[2], places[3] = p0, p1, p2, p3
    return np.int64(i)


@compiled
def encode_two(symbols, contexts, stride, packed, inverses, words, places, states):  # type: ignore[no-untyped-def]
    """Encode the first symbols of two sections, whose last ones have been encoded.

    Args:
        symbols, contexts: two arrays each (uint8), of one length, a multiple of 8.
        stride: symbols in a context.
        packed, inverses: of `rans_numba.encode_table`.
        words: two arrays, filled before ``places``; there is room for 8 words more than needed.
        places: where each begins (int64), changed.
        states: shape (2, 8), of each (uint64), changed.
    """
    (s0, s1), (c0, c1), (w0, w1), stride = symbols, contexts, words, np.uint64(stride)
    x0, x1 = load(states[0], np.uint64(0)), load(states[1], np.uint64(0))
    p0, p1 = np.uint64(places[0]), np.uint64(places[1])
    i = np.uint64(s0.size)
    while i > np.uint64(0):
        i -= _STEP
        x0, p0 = push(x0, s0, c0, stride, i, packed, inverses, w0, p0)
        x1, p1 = push(x1, s1, c1, stride, i, packed, inverses, w1, p1)
    store(x0, states[0], np.uint64(0))
    store(x1, states[1], np.uint64(0))
    places[0], places[1] = p0, p1
