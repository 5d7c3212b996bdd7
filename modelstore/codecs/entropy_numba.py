"""The inner loops of the entropy codec, compiled.

They go over a few thousand values at a time, so that what one pass leaves is near for the next.
"""

from __future__ import annotations

import numpy as np

from modelstore.codecs.compiling import compiled
from modelstore.codecs.lookup_numba import look_up

PIECE = 4096
"""Values, or bytes, in one go."""

_RANKS = np.uint8(15)  # a byte without a rank
_UP_TO_CARRY = np.uint64(0x7171717171717171)  # 15 and more of it carry into the top bit
_CARRY = np.uint64(0x8080808080808080)
_HALVES = np.uint64(0x0F0F0F0F0F0F0F0F)


@compiled
def split(values, low, sign, half, planes):  # type: ignore[no-untyped-def]
    """Fill ``planes`` with the bytes of ``values``, the sign moved below the exponent.

    Args:
        values: unsigned, of any width.
        low: a mask of the bits that stay.
        sign: where the sign goes; 0 where it stays.
        half: the largest value without the top bit.
        planes: shape (width, values), filled; the lowest byte first.
    """
    kind = values.dtype.type
    high, none, count = kind(~kind(low | sign)), kind(0), np.uint64(values.size)
    moved = np.empty(PIECE, values.dtype)
    for start in range(np.uint64(0), count, np.uint64(PIECE)):
        size = min(count - start, np.uint64(PIECE))
        for i in range(size):
            value = values[start + i]
            up = kind(kind(value & low) | kind(kind(value + value) & high))
            moved[i] = kind(up | (sign if value > half else none))
        for plane in range(planes.shape[0]):
            down = kind(8 * plane)
            for i in range(size):
                planes[plane, start + i] = np.uint8(moved[i] >> down)


@compiled
def merge(planes, low, sign, half, values):  # type: ignore[no-untyped-def]
    """Fill ``values`` from their planes; the reverse of `split`.

    Args:
        planes: an array for each byte of a value.
    """
    kind = values.dtype.type
    high, none, top, one = kind(~kind(low | sign)), kind(0), kind(~half), kind(1)
    count = np.uint64(values.size)
    moved = np.empty(PIECE, values.dtype)
    for start in range(np.uint64(0), count, np.uint64(PIECE)):
        size = min(count - start, np.uint64(PIECE))
        moved[:] = 0
        for number in range(len(planes)):
            plane, up = planes[number], kind(8 * number)
            for i in range(size):
                moved[i] |= kind(kind(plane[start + i]) << up)
        for i in range(size):
            up = moved[i]
            value = kind(kind(up & low) | kind(kind(up & high) >> one))
            values[start + i] = kind(value | (top if kind(up & sign) else none))


@compiled
def count(plane, counts):  # type: ignore[no-untyped-def]
    """Count the bytes of ``plane`` in ``counts`` of shape (4, 256)."""
    four = np.uint64(4)
    whole = np.uint64(plane.size) // four * four
    for i in range(np.uint64(0), whole, four):
        for table in range(four):
            counts[table, plane[i + table]] += np.uint32(1)
    for i in range(whole, np.uint64(plane.size)):
        counts[0, plane[i]] += np.uint32(1)


@compiled
def pair(plane, rank, ranks, twos, eights, pairs, escapes):  # type: ignore[no-untyped-def]
    """Make pairs of the ranks of two bytes each, and collect the bytes without a rank.

    Args:
        plane: an even number of bytes.
        rank: of each byte; 15 for those without.
        ranks: room for `PIECE` bytes.
        twos, eights: the same memory, two bytes in a number (uint16), and eight (uint64).
        pairs: filled: the rank of the first byte in the low half, that of the second above it.
        escapes: filled; of the size of ``plane``, and one more.

    Returns:
        how many escapes there are.
    """
    count, taken = np.uint64(plane.size), np.uint64(0)
    eight = np.uint64(8)
    for start in range(np.uint64(0), count, np.uint64(PIECE)):
        size = min(count - start, np.uint64(PIECE))
        look_up(plane[start : start + size], rank, ranks[:size])
        ranks[size:] = 0
        first = start >> np.uint64(1)
        for i in range(size >> np.uint64(1)):
            pairs[first + i] = np.uint8(twos[i] | np.uint16(twos[i] >> np.uint16(4)))
        for group in range((size + eight - np.uint64(1)) // eight):
            if (eights[group] + _UP_TO_CARRY) & _CARRY:
                for i in range(group * eight, min(size, (group + np.uint64(1)) * eight)):
                    escapes[taken] = plane[start + i]
                    taken += np.uint64(ranks[i] == _RANKS)
    return taken


@compiled
def unpair(pairs, eights, twos, escapes, plane, doubles):  # type: ignore[no-untyped-def]
    """Fill a plane with the bytes whose ranks ``pairs`` holds.

    Args:
        eights: the memory of ``pairs``, eight in a number (uint64), without the last few.
        twos: the two bytes of each pair (uint16, the first in the low half).
        escapes: the bytes without a rank, in order.
        plane: filled.
        doubles: the same memory, two bytes in a number (uint16).

    Returns:
        how many bytes had no rank; more than ``escapes`` has means that some are missing.
    """
    count, taken, there = np.uint64(pairs.size), np.uint64(0), np.uint64(escapes.size)
    for i in range(count):
        doubles[i] = twos[pairs[i]]
    eight, one, four = np.uint64(8), np.uint64(1), np.uint64(4)
    for group in range(np.uint64(eights.size) + one):
        if group < np.uint64(eights.size):
            first, second = eights[group] & _HALVES, (eights[group] >> four) & _HALVES
            if not ((first + _UP_TO_CARRY) | (second + _UP_TO_CARRY)) & _CARRY:
                continue
        for i in range(group * eight, min(count, (group + one) * eight)):
            for half in range(np.uint64(2)):
                if ((pairs[i] >> np.uint8(half * four)) & _RANKS) == _RANKS:
                    if taken < there:
                        plane[i + i + half] = escapes[taken]
                    taken += one
    return taken
