"""The codecs of `docs/format.md`, decoded slowly: from the bytes of a block to its values.

Part of `tests/slow_decoder.py`, whose docstring says why there is such a thing. The names in
quotation marks in comments are sections of the page, or terms that it sets off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.slow_parts import Cursor, Dtype, Table, require, stream, table_of, zstd_frame

OnBase = Callable[[Cursor, Dtype, list[int]], list[int]]
Alone = Callable[[Cursor, Dtype, int], list[int]]


def coded(cursor: Cursor, codec: int, dtype: Dtype, count: int, base: list[int]) -> bytes:
    """Return the raw bytes of a block that its codec encoded."""
    size = count * dtype.width
    if codec == 0:
        return cursor.take(size)
    if codec == 1:
        return zstd_frame(cursor.part(cursor.left), size).take(size)
    if codec == 2:
        return dtype.packed(planes(cursor, dtype, count))
    if codec == 3:
        return dtype.packed(on_base(cursor, dtype, count, base, (differences, planes)))
    if codec == 4:
        return dtype.packed(entropy(cursor, dtype, count))
    return dtype.packed(on_base(cursor, dtype, count, base, (steps, entropy)))


def on_base(
    cursor: Cursor, dtype: Dtype, count: int, base: list[int], ways: tuple[OnBase, Alone]
) -> list[int]:
    """Return the values of "delta" or "steps": how those are stored that have a base value or none.

    The three cases of both codecs, which differ in the two ways only.
    """
    way, alone = ways
    if len(base) == count:
        return way(cursor, dtype, base)
    cursor.met.add(f"{way.__name__}: {'fewer' if base else 'no'} base values")
    if not base:
        return alone(cursor, dtype, count)
    first = cursor.part(cursor.number(4))
    values = way(first, dtype, base)
    first.finish()
    return values + alone(cursor, dtype, count - len(base))


# --- "planes"


def planes(cursor: Cursor, dtype: Dtype, count: int) -> list[int]:
    """Return values that are stored as planes of their exponents and of the other bits."""
    if not dtype.exponent:
        return field_of(cursor, dtype.bits, count)
    exponents = field_of(cursor, dtype.exponent, count)
    mantissas = field_of(cursor, dtype.mantissa + dtype.sign, count)
    low, sign_place = (1 << dtype.mantissa) - 1, dtype.mantissa + dtype.exponent
    return [
        (second >> dtype.mantissa) << sign_place | first << dtype.mantissa | second & low
        for first, second in zip(exponents, mantissas, strict=True)
    ]


def field_of(cursor: Cursor, bits: int, count: int) -> list[int]:
    """Return one field of every value."""
    values = [0] * count
    for index in range(-(-bits // 8)):
        plane = plane_of(cursor, count)
        values = [value | byte << 8 * index for value, byte in zip(values, plane, strict=True)]
    require(max(values) < 1 << bits, "bits beyond a field")
    return values


def plane_of(cursor: Cursor, count: int) -> bytes:
    """Return a plane of the codecs planes and delta."""
    how = cursor.number(1)
    require(how <= 2, "how a plane is stored")
    cursor.met.add(f"plane: {('constant', 'raw', 'zstd')[how]}")
    if how == 0:
        return cursor.take(1) * count
    if how == 1:
        return cursor.take(count)
    return zstd_frame(cursor.part(cursor.number(4)), count).take(count)


# --- "delta"


def differences(cursor: Cursor, dtype: Dtype, base: list[int]) -> list[int]:
    """Return values that are stored as differences from as many base values."""
    sorted_symbols = field_of(cursor, dtype.bits, len(base))
    places = list(range(len(base)))
    if dtype.exponent:
        places.sort(key=lambda place: dtype.exponent_of(base[place]))
    symbols = [0] * len(base)
    for place, symbol in zip(places, sorted_symbols, strict=True):
        symbols[place] = symbol
    return moved(symbols, dtype, base)


def moved(symbols: list[int], dtype: Dtype, base: list[int]) -> list[int]:
    """Undo steps 1 and 2 of "Differences"."""
    mask = (1 << dtype.bits) - 1
    return [
        in_order(in_order(old, dtype) + unzigzag(symbol) & mask, dtype)
        for symbol, old in zip(symbols, base, strict=True)
    ]


def in_order(value: int, dtype: Dtype) -> int:
    """Return m(value)."""
    top = 1 << dtype.bits - 1
    return value ^ top - 1 if dtype.exponent and dtype.sign and value & top else value


def unzigzag(symbol: int) -> int:
    """Return the step that a symbol stands for."""
    return -(symbol + 1 >> 1) if symbol & 1 else symbol >> 1


# --- "entropy"


def entropy(cursor: Cursor, dtype: Dtype, count: int) -> list[int]:
    """Return values that are stored as planes, each coded by what its bytes are like."""
    values = [0] * count
    for index in range(dtype.width):
        plane = entropy_plane(cursor, count)
        values = [value | byte << 8 * index for value, byte in zip(values, plane, strict=True)]
    if not (dtype.sign and dtype.exponent == 8):
        return values
    low, sign_place = (1 << dtype.mantissa) - 1, dtype.bits - 1
    return [
        (value >> dtype.mantissa & 1) << sign_place
        | (value >> dtype.mantissa + 1) << dtype.mantissa
        | value & low
        for value in values
    ]


def entropy_plane(cursor: Cursor, count: int) -> bytes:
    """Return a plane of the codecs entropy and steps."""
    how = cursor.number(1)
    require(how <= 3, "how a plane is stored")
    cursor.met.add(f"entropy plane: {('constant', 'raw', 'bytes', 'pairs')[how]}")
    if how == 0:
        return cursor.take(1) * count
    if how == 1:
        return cursor.take(count)
    return bytes(coded_plane(cursor, count)) if how == 2 else pairs(cursor, count)


def coded_plane(cursor: Cursor, count: int) -> list[int]:
    """Return the symbols of a "coded plane"."""
    content = zstd_frame(cursor.part(cursor.number(4)))
    table = table_of(content, 1)
    content.finish()
    return stream(cursor, table, [0] * count)


def pairs(cursor: Cursor, count: int) -> bytes:
    """Return a plane of which two bytes make a symbol, the 15 most frequent of them by rank."""
    ranked = cursor.take(15)
    escapes = cursor.part(cursor.number(4))
    symbols = coded_plane(cursor, -(-count // 2))
    ranks = [rank for symbol in symbols for rank in (symbol & 15, symbol >> 4)][:count]
    cursor.met |= {"pairs: escapes"} if escapes.data else {"pairs: no escapes"}
    cursor.met |= {"pairs: odd"} if count % 2 else {"pairs: even"}
    plane = bytes(ranked[rank] if rank < 15 else escapes.number(1) for rank in ranks)
    escapes.finish()
    return plane


# --- "steps"


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a block of steps; the first four are *w*, *p*, offsets and contexts."""

    columns: int
    phase: int
    offsets: bytes
    contexts: bytes
    table: Table
    rows_part: bytes
    columns_part: bytes

    def class_of(self, index: int, exponent: int) -> int:
        """Return the class of value ``index`` of the block, not yet modulo 256."""
        if not self.columns:
            return self.offsets[exponent]
        row, column = divmod(self.phase + index, self.columns)
        return self.offsets[exponent] + self.rows_part[row] + self.columns_part[column]


def model_of(cursor: Cursor, dtype: Dtype, count: int) -> Model:
    """Read the model of ``count`` steps, which is all that is left."""
    require(cursor.left <= (1 << 17) + 1024 + 2 * count, "size of the model")
    columns, phase = cursor.number(4), cursor.number(4)
    require(columns <= count + phase, "columns")
    require(phase < columns or phase == 0, "phase")
    cursor.met |= {"steps: columns" if columns else "steps: no columns"}
    cursor.met |= {"steps: phase"} if phase else set()
    offsets = cursor.take(1 << min(8, dtype.exponent))
    contexts = cursor.take(256)
    table = table_of(cursor, max(contexts) + 1)
    require(table.symbols <= 2 * dtype.bits + 8, "tokens of numbers that are too large")
    rows = -(-(phase + count) // columns) if columns else 0
    model = Model(columns, phase, offsets, contexts, table, cursor.take(rows), cursor.take(columns))
    cursor.finish()
    return model


def steps(cursor: Cursor, dtype: Dtype, base: list[int]) -> list[int]:
    """Return values that are stored as steps from as many base values."""
    model = model_of(zstd_frame(cursor.part(cursor.number(4))), dtype, len(base))
    classes = [model.class_of(i, dtype.exponent_of(value)) for i, value in enumerate(base)]
    contexts = [model.contexts[number % 256] for number in classes]
    cursor.met |= {"steps: several contexts"} if len(set(contexts)) > 1 else set()
    cursor.met |= {"steps: classes from 256 on"} if max(classes) > 255 else set()
    tokens = stream(cursor, model.table, contexts)
    return moved(symbols_of(cursor, tokens), dtype, base)


def symbols_of(cursor: Cursor, tokens: list[int]) -> list[int]:
    """Return the symbols of tokens, whose rests are next and all that is left of the steps."""
    rest_bits = [token - 10 >> 1 if token >= 16 else 0 for token in tokens]
    total = sum(rest_bits)
    rests = cursor.take(-(-total // 8))
    cursor.met |= {"steps: rests"} if total else set()
    symbols, place = [], 0
    for token, bits in zip(tokens, rest_bits, strict=True):
        rest = bits_of(rests, place, bits)
        symbols.append(token if token < 16 else (2 + token % 2) << bits | rest)
        place += bits
    require(bits_of(rests, total, -total % 8) == 0, "bits after the rests")
    return symbols


def bits_of(data: bytes, place: int, count: int) -> int:
    """Return bits of ``data``: the first is the lowest of the first byte, and of the result."""
    around = int.from_bytes(data[place // 8 : -(-(place + count) // 8)], "little")
    return around >> place % 8 & (1 << count) - 1
