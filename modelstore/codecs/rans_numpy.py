"""rANS decoding without a compiler: slow, and it reads everything; see `rans_numba`.

All states of all whole sections are worked on at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LANES = 8


def decode_table(frequencies: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Return what `rans_numba.decode_table` fills."""
    counts = frequencies.astype(np.int64).ravel()
    symbols = np.tile(np.arange(frequencies.shape[1]), frequencies.shape[0])
    heads = (symbols << 24) | (counts - 1) << 12
    ends = np.cumsum(counts)
    places = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    table: NDArray[np.uint32] = (np.repeat(heads, counts) | places).astype(np.uint32)
    return table


def decode(
    words: Sequence[NDArray[np.uint32]],
    states: NDArray[np.uint64],
    table: NDArray[np.uint32],
    contexts: NDArray[np.uint8] | None,
    section: int,
    symbols: NDArray[np.uint8],
) -> list[int]:
    """Decode sections of equal length, the last perhaps shorter.

    Args:
        words: those of each section, and 8 more that mean nothing.
        states: shape (sections, 8), changed to what they are at the end.
        table: of all contexts.
        contexts: of each symbol; None where all have the first.
        section: symbols in each but the last.
        symbols: filled.

    Returns:
        how many words each section used; more than it has if there were too few.
    """
    lengths = np.array([len(some) for some in words])
    pool = np.concatenate(words)
    firsts = np.cumsum(lengths) - lengths
    used = np.zeros(len(words), np.int64)
    base = np.arange(len(words)) * section
    ends = np.minimum(base + section, symbols.size)
    lanes = np.arange(LANES)
    for step in range(0, section, LANES):
        places = base[:, None] + step + lanes
        live = places < ends[:, None]
        if not live.any():
            break
        safe = np.where(live, places, 0)
        slots = states & np.uint64(4095)
        if contexts is not None:
            slots |= contexts[safe].astype(np.uint64) << np.uint64(12)
        entries = table[slots].astype(np.uint64)
        symbols[places[live]] = (entries >> np.uint64(24))[live].astype(np.uint8)
        frequency = ((entries >> np.uint64(12)) & np.uint64(4095)) + np.uint64(1)
        after = frequency * (states >> np.uint64(12)) + (entries & np.uint64(4095))
        low = (after < np.uint64(1 << 16)) & live
        order = np.cumsum(low, axis=1) - low
        room = np.minimum(used[:, None] + order, lengths[:, None] - 1)
        filled = (after << np.uint64(32)) | pool[firsts[:, None] + room]
        states[:] = np.where(live, np.where(low, filled, after), states)
        used += low.sum(axis=1)
    return [int(count) for count in used]
