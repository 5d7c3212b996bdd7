"""Symbols as rANS streams: each takes as many bits as its frequency in its context says.

rANS (Duda, "Asymmetric numeral systems", arXiv 1311.2540) with tables that are fixed for a block.
A stream is cut into sections and each section is coded by eight states in turn; `docs/format.md`,
section "rANS tables and streams", specifies states and words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs import streams
from modelstore.codecs.base import PayloadError, Planes
from modelstore.hashing import Bytes

TOTAL = 4096
"""What the frequencies of a context add up to."""

LANES = 8
SECTION = 1 << 17
_TOGETHER = 4  # sections decoded at once
_WORTH_IT = 3  # fewer are decoded one by one
_LOWEST = 1 << 16
_STATE = 6  # bytes

Tables = NDArray[np.uint16]
"""Frequencies of shape (contexts, symbols); every row adds up to `TOTAL`."""

Counts = NDArray[np.float64]
"""How often each symbol occurs in each context, of the same shape."""

_NO_CONTEXTS: Planes = np.zeros(SECTION, np.uint8)


def frequencies_of(counts: Counts) -> Tables:
    """Return the tables that code symbols which occur so often; every row counts at least one."""
    shares = counts * (TOTAL / counts.sum(axis=1, keepdims=True))
    rounded = np.where(counts > 0, np.maximum(1, np.rint(shares)), 0).astype(np.int64)
    rows = np.arange(len(counts))
    tops, missing = rounded.argmax(axis=1), TOTAL - rounded.sum(axis=1)
    for row in np.flatnonzero(rounded[rows, tops] < 8 * np.abs(missing)):
        _share(rounded[row], int(missing[row]))
        missing[row] = 0
    rounded[rows, tops] += missing
    return rounded.astype(np.uint16)


def _share(frequencies: NDArray[np.int64], missing: int) -> None:
    """Add what is missing to the largest frequencies, or take it from them, a little from each."""
    while missing:
        most = np.argsort(-frequencies, kind="stable")[: abs(missing)]
        some = most[frequencies[most] > 1]
        frequencies[some] += np.sign(missing)
        missing -= int(np.sign(missing)) * some.size


def check_tables(tables: Tables) -> None:
    """Raise unless the frequencies of every context add up.

    Raises:
        PayloadError: those of one do not.
    """
    if (tables.sum(axis=1, dtype=np.int64) != TOTAL).any():
        raise PayloadError("the frequencies of a context do not add up")


def encode(symbols: Planes, contexts: Planes | None, tables: Tables) -> bytes:
    """Return symbols, at least one, as a stream.

    Args:
        symbols: each has a frequency in its context.
        contexts: the context of each symbol, a row of ``tables``; None where all have the first.
    """
    from modelstore.codecs import rans_numba  # loads numba

    packed, inverses = np.empty(tables.size, np.uint64), np.empty(tables.size, np.float64)
    rans_numba.encode_table(tables, packed, inverses)
    room = np.empty((2, min(symbols.size, SECTION) + LANES), np.uint32)
    sections = list(_sections(symbols.size))
    lengths, heads, parts = [], [], []
    for first in range(0, len(sections), 2):
        slices = sections[first : first + 2]
        some = [symbols[part] for part in slices]
        numbers = [_contexts_of(contexts, part) for part in slices]
        states = np.full((2, LANES), _LOWEST, np.uint64)
        coder = (tables.shape[1], packed, inverses)
        begins = _encode_two(some, numbers, coder, room, states)
        for words, begin, state in zip(room, begins, states, strict=False):
            lengths.append(words.size - begin)
            parts.append(words[begin:].astype("<u4").tobytes())
            heads.append(state.astype("<u8").view(np.uint8).reshape(LANES, 8)[:, :_STATE].tobytes())
    return b"".join((np.array(lengths, "<u4").tobytes(), *heads, *parts))


_Coder = tuple[int, NDArray[np.uint64], NDArray[np.float64]]
"""Symbols of a context, and what `rans_numba.encode_table` fills."""


def _encode_two(
    symbols: list[Planes],
    contexts: list[Planes],
    coder: _Coder,
    room: NDArray[np.uint32],
    states: NDArray[np.uint64],
) -> list[int]:
    """Encode two sections, or one; return where in ``room`` the words of each begin."""
    from modelstore.codecs import lanes, rans_numba  # load numba

    common = symbols[-1].size // LANES * LANES if lanes.AVAILABLE else 0
    places = np.full(2, room.shape[1])
    for index, (some, numbers) in enumerate(zip(symbols, contexts, strict=True)):
        places[index] = rans_numba.encode_section(
            some[common:], numbers[common:], *coder, room[index], places[index], states[index]
        )
    if common:
        from modelstore.codecs import rans_lanes

        # A section without another is encoded twice, which is still faster than alone.
        two = [tuple(part[:common] for part in (parts * 2)[:2]) for parts in (symbols, contexts)]
        rans_lanes.encode_two(*two, *coder, (room[0], room[1]), places, states)
    return [int(place) for place in places[: len(symbols)]]


def _sections(count: int) -> Iterator[slice]:
    for start in range(0, count, SECTION):
        yield slice(start, min(count, start + SECTION))


def _contexts_of(contexts: Planes | None, part: slice) -> Planes:
    return _NO_CONTEXTS[: part.stop - part.start] if contexts is None else contexts[part]


def decode(
    data: memoryview, contexts: Planes | None, tables: Tables, symbols: Planes
) -> memoryview:
    """Fill ``symbols``, at least one, from the beginning of ``data``; return the rest.

    Args:
        contexts: the context of each symbol, a row of ``tables``; None where all have the first.
        tables: checked by `check_tables`.

    Raises:
        PayloadError: ``data`` is not what `encode` returns.
    """
    words, states, rest = _take_stream(data, -(-symbols.size // SECTION))
    used = _decode_sections(words, states, contexts, tables, symbols)
    if used != [len(some) - LANES for some in words] or (states != _LOWEST).any():
        raise PayloadError("a stream of symbols does not end where it should")
    return rest


def _take_stream(
    data: memoryview, sections: int
) -> tuple[list[NDArray[np.uint32]], NDArray[np.uint64], memoryview]:
    """Return the words of each section, with eight zeros to spare, its states, and the rest."""
    packed, rest = streams.take(data, 4 * sections)
    lengths = np.frombuffer(packed, "<u4")
    packed, rest = streams.take(rest, sections * LANES * _STATE)
    states = np.zeros((sections, LANES, 8), np.uint8)
    states[:, :, :_STATE] = np.frombuffer(packed, np.uint8).reshape(sections, LANES, _STATE)
    words = []
    for length in lengths.tolist():
        packed, rest = streams.take(rest, 4 * length)
        words.append(np.zeros(length + LANES, np.uint32))
        words[-1][:length] = np.frombuffer(packed, "<u4")
    return words, states.view("<u8").reshape(sections, LANES), rest


def _decode_sections(
    words: list[NDArray[np.uint32]],
    states: NDArray[np.uint64],
    contexts: Planes | None,
    tables: Tables,
    symbols: Planes,
) -> list[int]:
    """Fill ``symbols``, and ``states`` with the last ones; return how many words were used."""
    try:
        from modelstore.codecs import lanes, rans_numba  # load numba
    except ImportError:
        from modelstore.codecs import rans_numpy

        table = rans_numpy.decode_table(tables)
        return rans_numpy.decode(words, states, table, contexts, SECTION, symbols)
    table = np.empty(len(tables) * TOTAL, np.uint32)
    rans_numba.decode_table(tables, table)
    parts = [
        _Section(
            words=words[index],
            states=states[index],
            contexts=_contexts_of(contexts, part),
            symbols=symbols[part],
        )
        for index, part in enumerate(_sections(symbols.size))
    ]
    if lanes.AVAILABLE:
        for first in range(0, len(parts), _TOGETHER):
            _decode_together(parts[first : first + _TOGETHER], table)
    return [part.finish(table) for part in parts]


@dataclass(slots=True)
class _Section:
    """A section that is being decoded.

    Attributes:
        words, states, contexts, symbols: as `rans_numba.decode_section` has them.
        done: symbols that are decoded.
        used: words that are used.
    """

    words: NDArray[np.uint32]
    states: NDArray[np.uint64]
    contexts: Planes
    symbols: Planes
    done: int = 0
    used: int = 0

    def finish(self, table: NDArray[np.uint32]) -> int:
        """Decode what is left; return how many words were used."""
        from modelstore.codecs import rans_numba  # loads numba

        known = (self.words, self.states, table, self.contexts, self.symbols)
        return int(rans_numba.decode_section(*known, self.done, self.used))


def _decode_together(parts: list[_Section], table: NDArray[np.uint32]) -> None:
    """Decode as much of up to four sections as is best done at once."""
    from modelstore.codecs import rans_lanes  # loads numba

    while len(parts) >= _WORTH_IT:
        four = (parts + parts[-1:] * _TOGETHER)[:_TOGETHER]  # one may be decoded twice
        stop = min(part.symbols.size for part in four) // LANES * LANES
        states = np.stack([part.states for part in four])
        places = np.array([part.used for part in four], np.uint64)
        done = rans_lanes.decode_four(
            tuple(part.words for part in four),
            states,
            table,
            tuple(part.contexts for part in four),
            tuple(part.symbols for part in four),
            four[0].done,
            stop,
            places,
        )
        for index, part in enumerate(parts):
            part.states[:], part.done, part.used = states[index], done, int(places[index])
        parts = [part for part in parts if part.symbols.size >= stop + LANES]


# --- tables as bytes


def pack_tables(tables: Tables) -> bytes:
    """Return ``tables``: the number of symbols less one, all low bytes, and all high bytes."""
    used = int(np.flatnonzero(tables.any(axis=0))[-1]) + 1
    cut = tables[:, :used]
    low, high = (cut & 255).astype(np.uint8), (cut >> 8).astype(np.uint8)
    return bytes((used - 1,)) + low.tobytes() + high.tobytes()


def unpack_tables(data: Bytes, contexts: int) -> tuple[Tables, memoryview]:
    """Return the checked tables at the beginning of ``data``, and the rest.

    Raises:
        PayloadError: there are none, or they do not add up.
    """
    head, rest = streams.take(memoryview(data), 1)
    used = head[0] + 1
    planes, rest = streams.take(rest, 2 * contexts * used)
    low, high = np.frombuffer(planes, np.uint8).reshape(2, contexts, used).astype(np.uint16)
    tables = low | (high << np.uint16(8))
    check_tables(tables)
    return tables, rest
