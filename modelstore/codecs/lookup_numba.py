"""Bytes looked up in a table, many at once where the processor can."""

from __future__ import annotations

import numpy as np

from modelstore.codecs import lanes
from modelstore.codecs.compiling import compiled, inlined

if lanes.AVAILABLE:

    @inlined
    def _whole_pieces(numbers, table, found):  # type: ignore[no-untyped-def]
        """Look up what lies in whole pieces of 64 bytes; return how many bytes those are."""
        place, whole = np.uint64(0), np.uint64(numbers.size // 64 * 64)
        while place < whole:
            lanes.translate(numbers, place, table, found, place)
            place += np.uint64(64)
        return whole

else:

    @inlined
    def _whole_pieces(numbers, table, found):  # type: ignore[no-untyped-def]
        """Leave all to the caller."""
        return np.uint64(0)


@compiled
def look_up(numbers, table, found):  # type: ignore[no-untyped-def]
    """Fill ``found`` with what ``table`` has for each of ``numbers``.

    Args:
        numbers: bytes.
        table: 256 bytes.
        found: as many bytes as there are numbers.
    """
    for i in range(_whole_pieces(numbers, table, found), np.uint64(numbers.size)):
        found[i] = table[numbers[i]]
