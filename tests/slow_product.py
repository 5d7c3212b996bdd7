"""The products of `docs/format.md`, computed slowly: what two factors make of base values.

Part of `tests/slow_decoder.py`, whose docstring says why there is such a thing. The section of the
page is "Products"; Python's floats are F64, and are never rounded but by the page's conversion.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.slow_conversion import converted
from tests.slow_parts import DTYPES, Cursor, require

FLOATS = {13, 14, 15}
INTEGERS = {2, 4}
SINGLE, DOUBLE = DTYPES[15], DTYPES[16]

Values = list[float]


@dataclass(frozen=True, slots=True)
class Product:
    """The last block of a frame of lowrank; dtypes are codes, flags three truth values."""

    left: bytes
    right: bytes
    rank: int
    columns: int
    scale: float
    left_dtype: int
    right_dtype: int
    roundings: tuple[int, int, int]
    flags: tuple[bool, bool, bool]
    exponents: tuple[int, ...]


def product_of(cursor: Cursor) -> Product:
    """Read the last block of a frame of lowrank."""
    left, right = cursor.take(32), cursor.take(32)
    rank, columns = cursor.number(2), cursor.number(4)
    require(1 <= rank <= 1024, "rank")
    require(1 <= columns <= 1 << 31, "columns")
    scale = as_number(cursor.number(4), 15)
    require(scale - scale == 0, "a scale that is no number")
    kinds, roundings, flags = cursor.take(2), tuple(cursor.take(3)), cursor.number(1)
    require(set(kinds) <= FLOATS | INTEGERS, "dtype of a factor")
    require(set(roundings) <= FLOATS, "a dtype to round to")
    require(flags < 8, "flags")
    bits = bool(flags & 1), bool(flags & 2), bool(flags & 4)
    exponents = struct.unpack(f"<{rank}b", cursor.take(rank)) if bits[2] else ()
    cursor.finish()
    for side, kind in zip(("left", "right"), kinds, strict=True):
        cursor.met.add(f"product: {side} of dtype {kind}")
    for name, kind in zip("APU", roundings, strict=True):
        cursor.met.add(f"product: {name} is {kind}")
    for name, on in zip(("left by rank", "right by column", "exponents"), bits, strict=True):
        cursor.met.add(f"product: {name}: {'yes' if on else 'no'}")
    return Product(left, right, rank, columns, scale, *kinds, roundings, bits, exponents)


def predicted(
    base: list[int],
    code: int,
    raw_size: int,
    last: bytes,
    find_blob: Callable[[bytes], bytes],
    met: set[str],
) -> list[int]:
    """Return what the product makes of base values.

    Args:
        base: from the first of the blob on, converted to its dtype; no more than it has.
        code: the blob's dtype.
        raw_size: bytes of the blob.
        last: the last block of its frame.
        find_blob: gives the raw bytes of the blob with this name.
        met: gets the names of the rules that were needed.
    """
    product = product_of(Cursor(last, met))
    sides = (product.left, product.left_dtype), (product.right, product.right_dtype)
    left, right = (factor(find_blob(name), kind, product, raw_size) for name, kind in sides)
    require(not base or code in FLOATS, "dtype of a product")
    require(len(left) % product.rank == 0, "size of left")
    require(len(right) == product.rank * product.columns, "size of right")
    rows = len(left) // product.rank
    require(len(base) <= rows * product.columns, "rows of left")
    return [
        result(value, code, total(product, left, right, rows, n), product, met)
        for n, value in enumerate(base)
    ]


def factor(raw: bytes, kind: int, product: Product, raw_size: int) -> Values:
    """Return the values of a factor, rounded to *A*."""
    require(len(raw) <= 4 * max(raw_size, 1 << 16), "bytes of a factor")
    require(len(raw) % DTYPES[kind].width == 0, "bytes of a factor")
    bits = DTYPES[kind].unpacked(raw)
    if kind in INTEGERS:
        return [float(-(value + 1 >> 1) if value & 1 else value >> 1) for value in bits]
    return [rounded(as_number(value, kind), product.roundings[0]) for value in bits]


def total(product: Product, left: Values, right: Values, rows: int, n: int) -> float:
    """Return the sum of value ``n``."""
    i, j = divmod(n, product.columns)
    by_rank, by_column, has_exponents = product.flags
    found = 0.0
    for k in range(product.rank):
        a = left[k * rows + i] if by_rank else left[i * product.rank + k]
        b = right[j * product.rank + k] if by_column else right[k * product.columns + j]
        found += (a * 2.0 ** product.exponents[k] if has_exponents else a) * b
    return found


def result(value: int, code: int, found: float, product: Product, met: set[str]) -> int:
    """Return what a base value of dtype ``code`` becomes, from its sum."""
    old = as_number(value, code)
    _, p, u = product.roundings
    update = rounded(rounded(found, 15), p)
    update = rounded(rounded(update * product.scale, 15), u)
    new = rounded(rounded(old + update, 15), code)
    if old - old != 0 or new != new:
        met.add("product: no number" if old - old == 0 else "product: base is no number")
        return value
    met |= {"product: infinity"} if new - new != 0 else set()
    return converted(bits_of(new), DOUBLE, DTYPES[code])


def rounded(number: float, code: int) -> float:
    """Return the number that ``number`` is rounded to in this dtype."""
    return as_number(converted(bits_of(number), DOUBLE, DTYPES[code]), code)


def as_number(value: int, code: int) -> float:
    """Return the number that the bits of a dtype are; F64 has all of them."""
    wide = converted(value, DTYPES[code], DOUBLE)
    return float(struct.unpack("<d", wide.to_bytes(8, "little"))[0])


def bits_of(number: float) -> int:
    """Return the bits of a number in F64."""
    return int.from_bytes(struct.pack("<d", number), "little")
