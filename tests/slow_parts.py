"""What the codecs of `docs/format.md` are made of: bytes, dtypes, zstd frames, and rANS.

Part of `tests/slow_decoder.py`, whose docstring says why there is such a thing. The names in
quotation marks in comments are sections of the page, or terms that it sets off.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import zstandard


class RefusedError(Exception):
    """A frame that a reader refuses."""


class DamagedError(RefusedError):
    """It breaks a rule of the page."""


class NewerError(RefusedError):
    """It is intact and says something that this version of the page does not know."""


def require(rule: bool, what: str) -> None:
    """Refuse the frame as damaged unless ``rule`` holds."""
    if not rule:
        raise DamagedError(what)


@dataclass(slots=True)
class Cursor:
    """Bytes that are read from the front.

    Attributes:
        data, place: the bytes, and how many of them were read.
        met: names of the rules that were needed so far; shared by all cursors of a frame.
    """

    data: bytes
    met: set[str] = field(default_factory=set)
    place: int = 0

    @property
    def left(self) -> int:
        """How many bytes were not read."""
        return len(self.data) - self.place

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        require(count <= self.left, "something is cut short")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, width: int) -> int:
        """Return the next number: unsigned and little-endian, says the head of the page."""
        return int.from_bytes(self.take(width), "little")

    def part(self, count: int) -> Cursor:
        """Return a cursor over the next bytes."""
        return Cursor(self.take(count), self.met)

    def rest(self) -> bytes:
        """Return all bytes that are left."""
        return self.take(self.left)

    def finish(self) -> None:
        """Check that nothing follows."""
        require(self.left == 0, "something follows")


# --- "Dtypes"


@dataclass(frozen=True, slots=True)
class Dtype:
    """Bytes of a value, bits of its exponent and mantissa, and bits of sign."""

    width: int
    exponent: int = 0
    mantissa: int = 0
    sign: int = 0

    @property
    def bits(self) -> int:
        """*N* of the page."""
        return 8 * self.width

    def exponent_of(self, value: int) -> int:
        """Return the low 8 bits of the exponent field, 0 for dtypes without one."""
        return value >> self.mantissa & ((1 << self.exponent) - 1) & 255

    def unpacked(self, raw: bytes) -> list[int]:
        """Return the values that ``raw`` holds."""
        return list(struct.unpack(f"<{len(raw) // self.width}{' BH I   Q'[self.width]}", raw))

    def packed(self, values: Sequence[int]) -> bytes:
        """Return the raw bytes of values."""
        return struct.pack(f"<{len(values)}{' BH I   Q'[self.width]}", *values)


_FLOATS = {
    (10, 19): Dtype(1, 4, 3, 1),
    (11, 20): Dtype(1, 5, 2, 1),
    (12,): Dtype(1, 8, 0, 0),
    (13,): Dtype(2, 5, 10, 1),
    (14,): Dtype(2, 8, 7, 1),
    (15, 17): Dtype(4, 8, 23, 1),
    (16, 18): Dtype(8, 11, 52, 1),
}
DTYPES = {code: dtype for codes, dtype in _FLOATS.items() for code in codes}
DTYPES |= dict(enumerate([Dtype(width) for width in (1, 1, 1, 1, 2, 2, 4, 4, 8, 8)]))


# --- "Blocks": zstd frames


def zstd_frame(cursor: Cursor, size: int | None = None) -> Cursor:
    """Return a cursor over what a zstd frame, which is all that is left, holds.

    Args:
        cursor: what is left of it is the frame, and is read.
        size: the content size that is expected; None if whatever the header states is.
    """
    data = cursor.rest()
    require(data[:4] == zstandard.MAGIC_NUMBER.to_bytes(4, "little"), "no zstd frame")
    try:
        header = zstandard.get_frame_parameters(data)
        require(header.content_size != zstandard.CONTENTSIZE_UNKNOWN, "no content size")
        require(size in {None, header.content_size}, "content size")
        require(header.dict_id == 0, "a dictionary")
        decoder = zstandard.ZstdDecompressor().decompressobj()
        content = decoder.decompress(data)
    except zstandard.ZstdError as error:
        raise DamagedError(str(error)) from None
    require(decoder.eof and decoder.unused_data == b"", "end of a zstd frame")
    require(len(content) == header.content_size, "content of a zstd frame")
    return Cursor(content, cursor.met)


# --- "rANS tables and streams"

TOTAL, SECTION, STATES, LEAST = 4096, 1 << 17, 8, 1 << 16


@dataclass(frozen=True, slots=True)
class Table:
    """Of every context, the starts of all symbols, with the total of the frequencies at the end."""

    starts: list[list[int]]

    @property
    def symbols(self) -> int:
        """Return *s* of the page."""
        return len(self.starts[0]) - 1

    def step(self, state: int, context: int) -> tuple[int, int]:
        """Return the symbol that a state holds, and the state without it."""
        starts, place = self.starts[context], state % TOTAL
        symbol = bisect_right(starts, place) - 1
        frequency = starts[symbol + 1] - starts[symbol]
        return symbol, frequency * (state // TOTAL) + place - starts[symbol]


def table_of(cursor: Cursor, contexts: int) -> Table:
    """Read an rANS table: the low bytes of all frequencies of all contexts, then the high ones."""
    count = cursor.number(1) + 1
    low, high = cursor.take(contexts * count), cursor.take(contexts * count)
    frequencies = [a | b << 8 for a, b in zip(low, high, strict=True)]
    rows = [frequencies[at : at + count] for at in range(0, len(frequencies), count)]
    require(all(sum(row) == TOTAL for row in rows), "sum of frequencies")
    return Table([[0, *accumulate(row)] for row in rows])


def stream(cursor: Cursor, table: Table, contexts: Sequence[int]) -> list[int]:
    """Return as many symbols of an rANS stream as there are contexts."""
    sections = [contexts[at : at + SECTION] for at in range(0, len(contexts), SECTION)]
    cursor.met |= {"rANS: several sections"} if len(sections) > 1 else set()
    cursor.met |= {"rANS: unused states"} if len(sections[-1]) < STATES else set()
    words = [cursor.number(4) for _ in sections]
    states = [[cursor.number(6) for _ in range(STATES)] for _ in sections]
    result = []
    for wanted, first_states, count in zip(sections, states, words, strict=True):
        result += section(cursor.part(4 * count), table, wanted, first_states)
    return result


def section(words: Cursor, table: Table, contexts: Sequence[int], states: list[int]) -> list[int]:
    """Return the symbols of one section of a stream."""
    symbols = []
    for index, context in enumerate(contexts):
        symbol, state = table.step(states[index % STATES], context)
        if state < LEAST:
            state = state << 32 | words.number(4)
        states[index % STATES] = state
        symbols.append(symbol)
    require(states == [LEAST] * STATES, "states at the end of a section")
    words.finish()
    return symbols
