"""A second decoder of frames, written from `docs/format.md` alone, to prove that the page suffices.

It knows nothing of mstore, uses only the standard library, zstandard and blake3, and prefers what
reads like the page to what is fast. `decode` gives the raw bytes of a frame; the codecs are in
`tests/slow_codecs.py`, products in `tests/slow_product.py`. The names in quotation marks in
comments are sections of the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from blake3 import blake3

from tests.slow_codecs import coded
from tests.slow_conversion import converted, convertible
from tests.slow_parts import DTYPES, Cursor, Dtype, NewerError, require
from tests.slow_product import predicted

# --- "Header"

MAGIC = bytes.fromhex("89 4D 53 46 0D 0A 1A 0A")
TAKES_BASE = {0: False, 1: False, 2: False, 3: True, 4: False, 5: True, 6: True}  # by codec
LOWRANK = 6


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header, as the page names them; codes of dtypes are kept as they are.

    ``table`` has the blocks of values only, ``last`` the last block of a frame of lowrank.
    """

    codec: int
    depth: int
    dtype: int
    base_dtype: int
    block_log2: int
    raw_size: int
    base_size: int
    n: int
    name: bytes
    base: bytes
    table: tuple[tuple[int, bytes], ...]
    last: bytes = b""

    @property
    def blocks(self) -> int:
        """The number of blocks of values."""
        return len(self.table)

    @property
    def counts(self) -> list[int]:
        """The number of values of each block, as the sizes want it."""
        values, full = self.raw_size // DTYPES[self.dtype].width, 1 << self.block_log2
        return [min(full, values - start) for start in range(0, values, full)]


def truncated(data: bytes) -> bytes:
    """Return the first 16 bytes of a digest."""
    return blake3(data).digest()[:16]


def header_of(frame: bytes) -> Header:
    """Read and check a header, in the steps that "Header" prescribes for a reader."""
    require(len(frame) >= 144, "too short for a header")
    size = 144 + 20 * int.from_bytes(frame[32:36], "little")
    require(len(frame) >= size, "too short for its block table")
    require(truncated(frame[: size - 16]) == frame[size - 16 : size], "header checksum")
    header = _fields(Cursor(frame[: size - 16]))
    _check_base(header)
    if header.codec != LOWRANK:
        _check_sizes(header, len(frame))
        return header
    require(header.n > 0, "no last block")
    *table, (length, checksum) = header.table
    header = replace(header, table=tuple(table), last=frame[-length:])
    require(65 <= length <= 4160, "length of the last block")
    _check_sizes(header, len(frame))
    require(truncated(header.last) == checksum, "checksum of the last block")
    require(header.name not in {header.last[:32], header.last[32:64]}, "a blob as its own factor")
    return header


def _fields(cursor: Cursor) -> Header:
    require(cursor.take(8) == MAGIC, "magic")
    codec, depth, dtype, base_dtype, block_log2 = cursor.take(5)
    zeros = cursor.take(3)
    sizes = cursor.number(8), cursor.number(8)
    n = cursor.number(4)
    zeros += cursor.take(28)
    names = cursor.take(32), cursor.take(32)
    if codec not in TAKES_BASE or not {dtype, base_dtype} <= set(DTYPES) or any(zeros):
        raise NewerError("a codec, a dtype, a flag or a reserved byte")
    table = tuple((cursor.number(4), cursor.take(16)) for _ in range(n))
    return Header(codec, depth, dtype, base_dtype, block_log2, *sizes, n, *names, table)


def _check_base(header: Header) -> None:
    require(header.name != header.base, "a blob as its own base")
    if TAKES_BASE[header.codec]:
        require(1 <= header.depth <= 15, "depth")
        require(header.base != bytes(32), "no base")
        require(header.base_size % DTYPES[header.base_dtype].width == 0, "base size")
    else:
        found = (header.depth, header.base_dtype, header.base_size, header.base)
        require(found == (0, 0, 0, bytes(32)), "a base that the codec does not take")


def _check_sizes(header: Header, frame_size: int) -> None:
    width = DTYPES[header.dtype].width
    require(header.block_log2 <= 22, "values of a block")
    require(header.raw_size % width == 0, "raw size")
    require(header.blocks == -(-header.raw_size // (width << header.block_log2)), "blocks")
    lengths = [length for length, _ in header.table]
    for length, count in zip(lengths, header.counts, strict=True):
        require(1 <= length <= 1 + count * width, "length of a block")
    size = 144 + 20 * header.n + sum(lengths) + len(header.last)
    require(frame_size == size, "size of the frame")


# --- "Frames"


def decode(frame: bytes, find_base: Callable[[bytes], bytes], met: set[str] | None = None) -> bytes:
    """Return the raw bytes of a frame's blob.

    Args:
        frame: the whole file.
        find_base: gives the raw bytes of the blob with this name (32 bytes), a base or a factor.
        met: gets the names of the rules that were needed.

    Raises:
        RefusedError: the frame is damaged or newer.
    """
    header, met = header_of(frame), set() if met is None else met
    met |= _kinds(header)
    base = base_values(header, find_base, met)
    blocks = Cursor(frame, met, 144 + 20 * header.n)
    raw, start = b"", 0
    for (length, checksum), count in zip(header.table, header.counts, strict=True):
        block = blocks.part(length)
        require(truncated(block.data) == checksum, "checksum of a block")
        raw += block_of(block, header.codec, DTYPES[header.dtype], count, base[start:][:count])
        start += count
    require(blake3(raw).digest() == header.name, "digest of the raw bytes")
    return raw


def _kinds(header: Header) -> set[str]:
    met = {f"dtype {header.dtype}", f"codec {header.codec}"}
    met |= {"frame: no blocks"} if not header.blocks else set()
    met |= {"frame: depth over 1"} if header.depth > 1 else set()
    if header.base_dtype != header.dtype and TAKES_BASE[header.codec]:
        met |= {f"converted from {header.base_dtype}", f"converted to {header.dtype}"}
    elif header.base_size > header.raw_size:
        met |= {"frame: base of more values"}
    return met


def base_values(
    header: Header, find_base: Callable[[bytes], bytes], met: set[str] | None = None
) -> list[int]:
    """Return the values of the base, as those of the blob's dtype; none if there is no base.

    In a frame of lowrank they are what the product makes of them.
    """
    if not TAKES_BASE[header.codec]:
        return []
    if not convertible(header.base_dtype, header.dtype):
        raise NewerError("a base dtype that is not converted to the dtype")
    raw = find_base(header.base)
    require(len(raw) == header.base_size, "size of the base")
    old, new = DTYPES[header.base_dtype], DTYPES[header.dtype]
    values = old.unpacked(raw)
    if header.base_dtype != header.dtype:
        values = [converted(value, old, new) for value in values]
    if header.codec != LOWRANK:
        return values
    values = values[: header.raw_size // new.width]
    met = set() if met is None else met
    return predicted(values, header.dtype, header.raw_size, header.last, find_base, met)


# --- "Blocks": modes


def block_of(cursor: Cursor, codec: int, dtype: Dtype, count: int, base: list[int]) -> bytes:
    """Return the raw bytes of a block of ``count`` values.

    Args:
        cursor: over the encoded block.
        codec: as the header has it.
        dtype: of the values and of the base.
        count: values of the block.
        base: its base values.
    """
    mode = cursor.number(1)
    require(mode <= 3, "mode of a block")
    cursor.met.add(f"block: {('raw', 'constant', 'same', f'coded by codec {codec}')[mode]}")
    if mode == 0:
        raw = cursor.take(count * dtype.width)
    elif mode == 1:
        raw = cursor.take(dtype.width) * count
    elif mode == 2:
        require(len(base) == count, "a block that is the same as nothing")
        raw = dtype.packed(base)
    else:
        raw = coded(cursor, codec, dtype, count, base)
    cursor.finish()
    return raw
