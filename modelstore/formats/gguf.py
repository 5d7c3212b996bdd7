"""Spans of a GGUF file: one per tensor, header and padding literal.

GGUF is a magic, two counts, keys with typed values, tensor descriptions and aligned tensors
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); versions 2 and 3, little endian.
Values are passed over, not kept: only ``general.alignment`` matters here.
The limits are those that other readers added after overflows in exactly these fields
(CVE-2025-53630, CVE-2026-7482).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from modelstore.formats.base import MalformedError, Source, Span, Tensor
from modelstore.formats.rules import MAX_COUNT, MAX_TENSORS, check_name, count_values, fill, quoted

MAGIC = b"GGUF"
MAX_KEYS = 100_000
MAX_KEY = 64 << 10
MAX_STRING = 16 << 20
MAX_VALUES = 256 << 20
"""Bytes of all keys and values together."""
MAX_ITEMS = 2 << 20
"""Strings and arrays within arrays; the largest vocabularies have some 300 thousand."""
MAX_ALIGNMENT = 64 << 10
MAX_DIMENSIONS = 8

_DEFAULT_ALIGNMENT = 32
_WINDOW = 1 << 20
_MAX_NESTING = 2

_UINT32, _STRING, _ARRAY = 4, 8, 9
_SCALAR_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

# ggml type -> name, values per block, bytes per block (ggml.h, enum ggml_type; ggml-common.h).
# The plain ones bear the names of safetensors.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}


@dataclass(frozen=True, slots=True)
class _Described:
    """A tensor, and where it lies, in bytes from the beginning of the data."""

    tensor: Tensor
    offset: int
    size: int


class Gguf:
    """Finds the tensors of a GGUF file."""

    name = "gguf"

    def matches(self, source: Source) -> bool:
        """Tell by the magic."""
        return source.size >= len(MAGIC) and source.read(0, len(MAGIC)) == MAGIC

    def spans(self, source: Source) -> Sequence[Span]:
        """Return one span per tensor, and literal ones for all between."""
        cursor = _Cursor(source, len(MAGIC))
        tensor_count, key_count = _counts(cursor)
        alignment = _read_keys(cursor, key_count)
        described = _read_tensors(cursor, tensor_count)
        data_start = -(-cursor.position // alignment) * alignment
        return fill(_placed(described, data_start, alignment), source.size)


def _counts(cursor: _Cursor) -> tuple[int, int]:
    version = cursor.u32()
    if version not in (2, 3):
        order = " in big-endian order" if version & 0xFFFF == 0 else ""
        raise MalformedError(f"it claims GGUF version {version}{order}, not 2 or 3")
    tensor_count, key_count = cursor.u64(), cursor.u64()
    if tensor_count > MAX_TENSORS or key_count > MAX_KEYS:
        raise MalformedError(f"it claims {tensor_count} tensors and {key_count} keys")
    return tensor_count, key_count


def _read_keys(cursor: _Cursor, count: int) -> int:
    """Pass the keys and values; return the alignment of the data."""
    alignment = _DEFAULT_ALIGNMENT
    keys: set[bytes] = set()
    cursor.limit(MAX_VALUES)
    values = _Values(cursor)
    for _ in range(count):
        key = cursor.string(MAX_KEY)
        if key in keys:
            raise MalformedError(f"it has the key {quoted(key.decode(errors='replace'))} twice")
        keys.add(key)
        kind = cursor.u32()
        if key == b"general.alignment":
            alignment = _alignment(cursor, kind)
        else:
            values.skip(kind)
    cursor.limit(None)
    return alignment


def _alignment(cursor: _Cursor, kind: int) -> int:
    value = cursor.u32() if kind == _UINT32 else 0
    if not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise MalformedError("its alignment is no power of two")
    return value


def _read_tensors(cursor: _Cursor, count: int) -> list[_Described]:
    names: set[str] = set()
    found: list[_Described] = []
    for _ in range(count):
        found.append(_read_tensor(cursor))
        name = found[-1].tensor.name
        if name in names:
            raise MalformedError(f"it has the tensor {quoted(name)} twice")
        names.add(name)
    return found


def _read_tensor(cursor: _Cursor) -> _Described:
    try:
        name = check_name(cursor.string(MAX_KEY).decode())
    except UnicodeDecodeError as error:
        raise MalformedError("the name of a tensor is not UTF-8 text") from error
    rank = cursor.u32()
    if rank > MAX_DIMENSIONS:
        raise MalformedError(f"tensor {quoted(name)} has {rank} dimensions")
    shape = tuple(cursor.u64() for _ in range(rank))[::-1]  # GGUF has the innermost first
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in TYPES:
        raise MalformedError(f"tensor {quoted(name)} has the unknown type {kind}")
    dtype, values, size = TYPES[kind]
    if (shape[-1] if shape else 1) % values:
        raise MalformedError(f"the rows of tensor {quoted(name)} are no whole {dtype} blocks")
    total = count_values(shape, name) // values * size
    return _Described(Tensor(name, dtype, shape), offset, total)


def _placed(described: Sequence[_Described], data_start: int, alignment: int) -> list[Span]:
    spans = []
    for one in described:
        if one.offset % alignment or one.offset + one.size > MAX_COUNT:
            raise MalformedError(f"tensor {quoted(one.tensor.name)} is not aligned, or overflows")
        start = data_start + one.offset
        spans.append(Span(start, start + one.size, one.tensor.dtype, (one.tensor,)))
    return sorted(spans, key=lambda span: (span.start, span.stop))


class _Values:
    """Passes over typed values, counting what takes a step each."""

    def __init__(self, cursor: _Cursor) -> None:
        self._cursor = cursor
        self._left = MAX_ITEMS

    def skip(self, kind: int, nesting: int = 0) -> None:
        if kind in _SCALAR_SIZES:
            self._cursor.skip(_SCALAR_SIZES[kind])
        elif kind == _STRING:
            self._cursor.skip(self._cursor.length(MAX_STRING))
        elif kind == _ARRAY and nesting < _MAX_NESTING:
            self._skip_array(nesting + 1)
        else:
            raise MalformedError(f"it has a value of the unknown type {kind}, or nested too deep")

    def _skip_array(self, nesting: int) -> None:
        kind, count = self._cursor.u32(), self._cursor.u64()
        if kind in _SCALAR_SIZES:
            self._cursor.skip(count * _SCALAR_SIZES[kind])
            return
        self._left -= count
        if self._left < 0:
            raise MalformedError(f"it claims an array of {count} strings or arrays")
        for _ in range(count):
            self.skip(kind, nesting)


class _Cursor:
    """Reads forward through a window of the file, and never past its end."""

    def __init__(self, source: Source, position: int) -> None:
        self.position = position
        self._source = source
        self._stop = source.size
        self._window = b""
        self._window_start = 0

    def limit(self, size: int | None) -> None:
        """Allow ``size`` further bytes, or all that the file has."""
        size = self._source.size if size is None else self.position + size
        self._stop = min(size, self._source.size)

    def skip(self, size: int) -> None:
        """Pass ``size`` bytes unread."""
        if size > self._stop - self.position:
            raise MalformedError(
                f"it claims {size} bytes at byte {self.position} where "
                f"{self._stop - self.position} may follow"
            )
        self.position += size

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        begin = self.position
        self.skip(size)
        if begin < self._window_start or self.position > self._window_start + len(self._window):
            stop = min(max(self.position, begin + _WINDOW), self._source.size)
            self._window = self._source.read(begin, stop)
            self._window_start = begin
        at = begin - self._window_start
        return self._window[at : at + size]

    def u32(self) -> int:
        """Return the next unsigned 32 bits."""
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        """Return the next unsigned 64 bits."""
        return int(struct.unpack("<Q", self.take(8))[0])

    def length(self, most: int) -> int:
        """Return the next 64 bits, a length of up to ``most`` bytes."""
        size = self.u64()
        if size > most:
            raise MalformedError(f"it claims a text of {size} bytes, more than {most}")
        return size

    def string(self, most: int) -> bytes:
        """Return the next text of up to ``most`` bytes."""
        return self.take(self.length(most))
