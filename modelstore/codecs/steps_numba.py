"""The inner loops of the steps codec, compiled.

Loops over values are written for their own width, so that a compiler works on as many at once as
fit its registers; all that follows the tokens is bytes, whatever the width.
"""

from __future__ import annotations

import math

import numpy as np

from modelstore.codecs.compiling import bit_length, compiled, inlined, steady, trailing_zeros
from modelstore.codecs.lookup_numba import look_up

__all__ = [
    "add_rows",
    "bits_below",
    "compare_moves",
    "count",
    "differ",
    "exponents_of",
    "look_up",
    "merge",
    "restore",
    "steady",
]

DIRECT = 16
"""Symbols below this are tokens of their own."""

_LEAST = np.uint64(DIRECT - 8)
_EIGHT = np.uint64(8)
_ANY_LARGE = np.uint64(0xF0F0F0F0F0F0F0F0)  # the bits of eight tokens that say DIRECT or more
_UP_TO_CARRY = np.uint64(0x7F7F7F7F7F7F7F7F)  # more than 0 of each carries into its top bit
_CARRY = np.uint64(0x8080808080808080)
_COLLECT = np.uint64(0x0102040810204080)  # a product with it has bits 0, 8, 16, ... in its top byte
_TABLE_BITS, _SYMBOL_BITS = 8.0, 9.0  # that a table takes in a payload, about
_PIECE = 2048  # values worked on at once: a few kilobytes

# --- values and tokens


@inlined
def _large_of(eights, first):  # type: ignore[no-untyped-def]
    """Return which of 64 tokens, from ``eights[first]`` on, are `DIRECT` or more, as bits."""
    found = np.uint64(0)
    for number in range(_EIGHT):
        some = (eights[first + number] & _ANY_LARGE) >> np.uint64(4)
        tops = ((some + _UP_TO_CARRY) & _CARRY) >> np.uint64(7)
        found |= ((tops * _COLLECT) >> np.uint64(56)) << (number * _EIGHT)
    return found


@inlined
def _differ(values, base, mask, half, shift, exponent, symbols, exponents):  # type: ignore[no-untyped-def]
    """Fill ``symbols`` with the zigzag of the steps from ``base`` to ``values``."""
    kind = values.dtype.type
    for i in range(np.uint64(values.size)):
        value, origin = values[i], base[i]
        exponents[i] = np.uint8(kind(origin >> shift) & exponent)
        value = kind(value ^ mask) if value > half else value
        origin = kind(origin ^ mask) if origin > half else origin
        step = kind(value - origin)
        doubled = kind(step + step)
        symbols[i] = kind(~doubled) if step > half else doubled


@inlined
def _apply(symbols, base, mask, half, values):  # type: ignore[no-untyped-def]
    """Fill ``values`` with what lies the steps in ``symbols`` away from ``base``."""
    kind = values.dtype.type
    one = kind(1)
    for i in range(np.uint64(values.size)):
        symbol, origin = symbols[i], base[i]
        origin = kind(origin ^ mask) if origin > half else origin
        step = kind(symbol >> one)
        step = kind(~step) if kind(symbol & one) else step
        value = kind(origin + step)
        values[i] = kind(value ^ mask) if value > half else value


@compiled
def exponents_of(base, shift, exponent, exponents):  # type: ignore[no-untyped-def]
    """Fill ``exponents`` as `differ` does."""
    kind = base.dtype.type
    for i in range(np.uint64(base.size)):
        exponents[i] = np.uint8(kind(base[i] >> shift) & exponent)


# --- tokens and the bits below


@compiled
def differ(values, base, mask, half, shift, exponent, tokens, eights, exponents, extra):  # type: ignore[no-untyped-def]
    """Compare ``values`` with ``base``.

    Args:
        values, base: unsigned, of one width.
        mask: what to invert in negative numbers.
        half: the largest value that is not negative.
        shift, exponent: where the exponent lies, and a mask of its bits.
        tokens: filled with the tokens of the steps; then zeros: a multiple of 64 in all (uint8).
        eights: the memory of ``tokens``, eight in a number (uint64).
        exponents: filled with those of ``base`` (uint8).
        extra: filled with the bits that tokens do not tell, from the lowest of the first word on
            (uint64); of a size that holds all values and a word more.

    Returns:
        how many bits there are.
    """
    kind = values.dtype.type
    one, two, last, most = np.uint64(1), np.uint64(2), np.uint64(63), kind(DIRECT)
    count, piece = np.uint64(values.size), np.uint64(_PIECE)
    symbols = np.empty(_PIECE, values.dtype)
    word, shift_, some = np.uint64(0), np.uint64(0), np.uint64(0)
    for start in range(np.uint64(0), count, piece):
        stop = min(count, start + piece)
        news, olds, found = values[start:stop], base[start:stop], exponents[start:stop]
        _differ(news, olds, mask, half, shift, exponent, symbols, found)
        for i in range(stop - start):
            tokens[start + i] = np.uint8(min(symbols[i], most))
        for first in range(start, stop, np.uint64(64)):
            large = _large_of(eights, first // _EIGHT)
            while large:
                i = first + trailing_zeros(large)
                large &= large - one
                symbol = np.uint64(symbols[i - start])
                below = bit_length(symbol) - two
                tokens[i] = _LEAST + below + below + (symbol >> below)
                low = symbol & ((one << below) - one)
                some |= low << shift_
                extra[word] = some
                over = (low >> one) >> (last - shift_)
                shift_ += below
                full = shift_ >> np.uint64(6)
                some = over if full else some
                word += full
                shift_ &= last
    extra[word] = some
    return (word << np.uint64(6)) + shift_


@compiled
def bits_below(tokens):  # type: ignore[no-untyped-def]
    """Return how many bits these tokens leave to be told."""
    bits = np.uint32(0)
    for i in range(np.uint64(tokens.size)):
        token = tokens[i]
        below = np.uint8(np.uint8(token - np.uint8(10)) >> np.uint8(1))
        bits = np.uint32(bits + (np.uint32(below) if token >= np.uint8(DIRECT) else np.uint32(0)))
    return bits


@compiled
def restore(tokens, eights, extra, base, mask, half, values):  # type: ignore[no-untyped-def]
    """Fill ``values`` from their tokens.

    Args:
        tokens: of values, and zeros: a multiple of 64 in all (uint8).
        eights: the memory of ``tokens``, eight in a number (uint64).
        extra: the words that `differ` made, and one more.
        base, mask, half: as `differ` has them.
    """
    kind = values.dtype.type
    one, two, last, piece = np.uint64(1), np.uint64(2), np.uint64(63), np.uint64(_PIECE)
    bits, count = np.uint64(0), np.uint64(values.size)
    symbols = np.empty(_PIECE, values.dtype)
    for start in range(np.uint64(0), count, piece):
        stop = min(count, start + piece)
        for i in range(stop - start):
            symbols[i] = kind(tokens[start + i])
        for first in range(start, stop, np.uint64(64)):
            large = _large_of(eights, first // _EIGHT)
            while large:
                i = first + trailing_zeros(large)
                large &= large - one
                token = np.uint64(tokens[i])
                below = (token - _LEAST - two) >> one
                word, shift = bits >> np.uint64(6), bits & last
                low = (extra[word] >> shift) | ((extra[word + one] << one) << (last - shift))
                top = two + (token & one)
                symbols[i - start] = kind((top << below) | (low & ((one << below) - one)))
                bits += below
        _apply(symbols[: stop - start], base[start:stop], mask, half, values[start:stop])


# --- classes


@compiled
def add_rows(rows, columns, phase, classes):  # type: ignore[no-untyped-def]
    """Add what the row and the column of each value give to its class."""
    count, width = np.uint64(classes.size), np.uint64(columns.size)
    i, row, column = np.uint64(0), np.uint64(0), np.uint64(phase)
    while i < count:
        span, more = min(count - i, width - column), rows[row]
        for place in range(span):
            both = np.uint8(columns[column + place] + more)
            classes[i + place] = np.uint8(classes[i + place] + both)
        i, row, column = i + span, row + np.uint64(1), np.uint64(0)


@compiled
def compare_moves(moves, expected, width, phase, rows, columns):  # type: ignore[no-untyped-def]
    """Add up how far the values of each row and column moved, and how far they should have.

    Args:
        moves, expected: how far each value moved, and should have, each in any unit (uint8).
        width, phase: of the rows.
        rows, columns: shape (2, rows) and (2, columns), uint32: the sums of both.
    """
    count, width = np.uint64(moves.size), np.uint64(width)
    i, row, column = np.uint64(0), np.uint64(0), np.uint64(phase)
    while i < count:
        span = min(count - i, width - column)
        moved = should = np.uint32(0)
        for place in range(span):
            move = np.uint32(moves[i + place])
            moved = np.uint32(moved + move)
            columns[0, column + place] += move
        for place in range(span):
            mean = np.uint32(expected[i + place])
            should = np.uint32(should + mean)
            columns[1, column + place] += mean
        rows[0, row] += moved
        rows[1, row] += should
        i, row, column = i + span, row + np.uint64(1), np.uint64(0)


@compiled
def count(tokens, classes, stride, counts):  # type: ignore[no-untyped-def]
    """Count the tokens of each class.

    Tables that are as small as can be are several times as fast as those of 256 tokens a class.

    Args:
        stride: more than the largest token.
        counts: shape (2, 256 * stride), added to; half of the values in each table.
    """
    one, two, stride = np.uint64(1), np.uint64(2), np.uint64(stride)
    whole = np.uint64(tokens.size) // two * two
    for i in range(np.uint64(0), whole, two):
        first = np.uint64(classes[i]) * stride + np.uint64(tokens[i])
        second = np.uint64(classes[i + one]) * stride + np.uint64(tokens[i + one])
        counts[0, first] += np.uint32(1)
        counts[1, second] += np.uint32(1)
    for i in range(whole, np.uint64(tokens.size)):
        counts[0, np.uint64(classes[i]) * stride + np.uint64(tokens[i])] += np.uint32(1)


# --- contexts


@inlined
def _times_log(count, small):  # type: ignore[no-untyped-def]
    """Return count * log2(count)."""
    if count < small.size:
        return small[np.uint64(count)]
    return float(count) * math.log2(float(count))


@inlined
def _bits(counts, first, second, small):  # type: ignore[no-untyped-def]
    """Return the bits of the symbols in two rows together, or in one, and of their table."""
    total, used, bits = 0, 0, 0.0
    for i in range(counts.shape[1]):
        count = counts[first, i] + (counts[second, i] if second != first else 0)
        total += count
        used += count > 0
        bits -= _times_log(count, small)
    return bits + _times_log(total, small) + _TABLE_BITS + _SYMBOL_BITS * used


@inlined
def _gather_classes(counts, least, contexts):  # type: ignore[no-untyped-def]
    """Add neighbouring classes up until each sum has ``least`` values; return how many sums."""
    rows, values = 0, 0
    for class_ in range(counts.shape[0]):
        contexts[class_] = rows
        for symbol in range(counts.shape[1]):
            count = counts[class_, symbol]
            values += count
            if class_ != rows:
                counts[rows, symbol] += count
                counts[class_, symbol] = 0
        if values >= least:
            rows, values = rows + 1, 0
    if values == 0:  # nothing is left: the last classes go with those before
        for class_ in range(counts.shape[0]):
            contexts[class_] = min(contexts[class_], rows - 1)
        return rows
    return rows + 1


@inlined
def _best_pair(after, saved):  # type: ignore[no-untyped-def]
    """Return the row that is best merged with the one after it, and the row before it or -1."""
    best, before, last, i = 0, -1, -1, 0
    while after[i] < after.size:
        if saved[i] > saved[best]:
            best, before = i, last
        last, i = i, after[i]
    return best, before


@inlined
def _merge_rows(counts, after, small, most):  # type: ignore[no-untyped-def]
    """Merge neighbouring rows while that saves bits, or there are more than ``most``.

    Args:
        counts: shape (rows, symbols); the first row of a group becomes its sum.
        after: filled with the first row of the next group, at the first row of each (int64).
    """
    rows = left = after.size
    alone, saved = np.empty(rows), np.empty(rows)
    for i in range(rows):
        after[i], alone[i] = i + 1, _bits(counts, i, i, small)
    for i in range(rows - 1):
        saved[i] = alone[i] + alone[i + 1] - _bits(counts, i, i + 1, small)
    while left > 1:
        best, before = _best_pair(after, saved)
        if saved[best] <= 0.0 and left <= most:
            break
        for symbol in range(counts.shape[1]):
            counts[best, symbol] += counts[after[best], symbol]
        alone[best] = _bits(counts, best, best, small)
        after[best] = after[after[best]]
        left -= 1
        if after[best] < rows:
            both = _bits(counts, best, after[best], small)
            saved[best] = alone[best] + alone[after[best]] - both
        if before >= 0:
            both = _bits(counts, before, best, small)
            saved[before] = alone[before] + alone[best] - both


@compiled
def merge(counts, least, small, most, contexts):  # type: ignore[no-untyped-def]
    """Find out which neighbouring classes share a context.

    Args:
        counts: shape (256, symbols), int64, of all classes; changed: those of the contexts come
            first.
        least: values of classes that are worth a look.
        small: n * log2(n) of the first numbers (float64).
        most: contexts.
        contexts: filled with the context of each class (uint8).

    Returns:
        how many contexts there are.
    """
    rows = _gather_classes(counts, least, contexts)
    after, group = np.empty(rows, np.int64), np.empty(rows, np.int64)
    _merge_rows(counts, after, small, most)
    number, i = 0, 0
    while i < rows:
        for symbol in range(counts.shape[1]):
            counts[number, symbol] = counts[i, symbol]
        for row in range(i, after[i]):
            group[row] = number
        i, number = after[i], number + 1
    for class_ in range(contexts.size):
        contexts[class_] = group[contexts[class_]]
    return number
