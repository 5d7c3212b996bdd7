"""The inner loops of rANS, compiled: eight states in turn, so that none waits for itself.

States are 48 bits, words 32, frequencies 12; `docs/format.md`, section "rANS tables and streams".
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.compiling import compiled, inlined

_LANES = np.uint64(8)
_MASK = np.uint64(4095)
_PRECISION = np.uint64(12)
_WORD = np.uint64(32)
_LOWEST = np.uint64(1 << 16)
_LOW_WORD = np.int64(0xFFFFFFFF)


@compiled
def decode_table(frequencies, table):  # type: ignore[no-untyped-def]
    """Fill ``table`` (K * 4096) with symbol << 24 | frequency - 1 << 12 | place within the symbol."""
    slot = 0
    for context in range(frequencies.shape[0]):
        for symbol in range(frequencies.shape[1]):
            frequency = np.int64(frequencies[context, symbol])
            head = (symbol << 24) | ((frequency - 1) << 12)
            for place in range(frequency):
                table[slot] = head | place
                slot += 1


@inlined
def _pull(states, lane, start, table, words, place):  # type: ignore[no-untyped-def]
    """Decode one symbol with a state; return it, and the place of the next word."""
    state = states[lane]
    entry = np.uint64(table[start | (state & _MASK)])
    frequency = ((entry >> _PRECISION) & _MASK) + np.uint64(1)
    state = frequency * (state >> _PRECISION) + (entry & _MASK)
    filled = (state << _WORD) | np.uint64(words[place])
    low = state < _LOWEST
    states[lane] = filled if low else state
    return entry >> np.uint64(24), place + np.uint64(low)


@compiled
def decode_section(words, states, table, contexts, symbols, first, place):  # type: ignore[no-untyped-def]
    """Decode one section, or the rest of it.

    Args:
        words: the section's words (uint32), and 8 more that mean nothing.
        states: its 8 states (uint64), changed to what they are at the end.
        table: of `decode_table`, for all contexts.
        contexts: the context of every symbol (uint8).
        symbols: filled (uint8), unless there are too few words.
        first: the first symbol that is left, a multiple of 8.
        place: the first word that is left.

    Returns:
        how many words were used; more than there are if there are too few.
    """
    i, place, count = np.uint64(first), np.uint64(place), np.uint64(symbols.size)
    there = np.uint64(words.size) - _LANES
    while i + _LANES <= count and place <= there:
        for lane in range(_LANES):
            start = np.uint64(contexts[i + lane]) << _PRECISION
            symbols[i + lane], place = _pull(states, lane, start, table, words, place)
        i += _LANES
    if place <= there:
        for lane in range(count - i):
            start = np.uint64(contexts[i + lane]) << _PRECISION
            symbols[i + lane], place = _pull(states, lane, start, table, words, place)
    return np.int64(place)


@compiled
def encode_table(frequencies, packed, inverses):  # type: ignore[no-untyped-def]
    """Fill the tables that `encode_section` needs, of the shape of ``frequencies``, in a row.

    Args:
        packed: frequency << 16 | start (uint64).
        inverses: 1 / frequency (float64).
    """
    place = 0
    for context in range(frequencies.shape[0]):
        start = np.int64(0)
        for symbol in range(frequencies.shape[1]):
            frequency = np.int64(frequencies[context, symbol])
            packed[place] = (frequency << 16) | start
            inverses[place] = 1.0 / frequency if frequency else 0.0
            start = np.int64(start + frequency)
            place += 1


@inlined
def _push(state, entry, inverse, words, place):  # type: ignore[no-untyped-def]
    """Return the state with a symbol, and the place of the last word written.

    The quotient of a state below 2**48 by a frequency f is found by multiplication: the error of
    the product is below 2**-16, its fraction at most 1 - 2**-12, so adding 2**-14 makes it exact.
    """
    frequency = np.int64(entry >> np.uint64(16))
    words[np.uint64(place - 1)] = np.uint32(state & _LOW_WORD)
    full = np.int64(state >= (frequency << np.int64(36)))
    place -= full
    state >>= full << np.int64(5)
    quotient = np.int64(np.float64(state) * inverse + 2.0**-14)
    state += quotient * (np.int64(4096) - frequency) + np.int64(entry & np.uint64(0xFFFF))
    return state, place


@compiled
def encode_section(symbols, contexts, stride, packed, inverses, words, place, states):  # type: ignore[no-untyped-def]
    """Encode one section, or the last symbols of it, from the end to the beginning.

    Args:
        symbols, contexts: of each value (uint8); the first of them has the first state.
        stride: symbols in a context.
        packed, inverses: of `encode_table`.
        words: filled before ``place``: room for one word a symbol and 8 more (uint32).
        states: its 8 states (uint64), changed.

    Returns:
        the place of the last word written.
    """
    i, place, stride = np.uint64(symbols.size), np.int64(place), np.uint64(stride)
    while i > np.uint64(0):
        i -= np.uint64(1)
        lane = i & (_LANES - np.uint64(1))
        entry = np.uint64(contexts[i]) * stride + np.uint64(symbols[i])
        state = np.int64(states[lane])
        state, place = _push(state, packed[entry], inverses[entry], words, place)
        states[lane] = np.uint64(state)
    return place
