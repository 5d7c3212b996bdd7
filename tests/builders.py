"""Writes small model files byte by byte, without torch, safetensors or gguf.

So tests can write files that those libraries would not, and know where every byte lies.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "C128": 128,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one value of each dtype."""


@dataclass(frozen=True, slots=True)
class Values:
    """A tensor without its name; ``data`` is row-major and little endian."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def values(dtype: str, *shape: int, seed: int = 1) -> Values:
    """Return a tensor whose bytes count up from ``seed``."""
    size = math.prod(shape) * BITS[dtype] // 8
    return Values(dtype, shape, bytes((seed + i) % 251 for i in range(size)))


@dataclass
class MemorySource:
    """Bytes as a `modelstore.formats.Source`; notes the longest read."""

    data: bytes
    name: str = "file"
    longest_read: int = field(default=0, init=False)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.data)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``, which must exist."""
        assert 0 <= start <= stop <= len(self.data), (start, stop, len(self.data))
        self.longest_read = max(self.longest_read, stop - start)
        return self.data[start:stop]


# --- safetensors


def safetensors_bytes(
    tensors: Mapping[str, Values], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return a safetensors file with the tensors' data in the order given."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    position = 0
    for name, one in tensors.items():
        stop = position + len(one.data)
        header[name] = {
            "dtype": one.dtype,
            "shape": list(one.shape),
            "data_offsets": [position, stop],
        }
        position = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return safetensors_with_header(text, b"".join(one.data for one in tensors.values()))


def safetensors_with_header(header: bytes, data: bytes = b"") -> bytes:
    """Return a file with exactly this header, true or not."""
    return struct.pack("<Q", len(header)) + header + data


# --- pickles, opcode by opcode (protocol 2, as torch writes them)

_STORAGES = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage",
    "I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage",
    "U8": "ByteStorage", "BOOL": "BoolStorage",
    "C64": "ComplexFloatStorage", "C128": "ComplexDoubleStorage",
}  # fmt: skip
_UNTYPED = {
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
TORCH_DTYPES = (*_STORAGES, *_UNTYPED)
"""The dtypes that torch has too."""


def pickled(value: object) -> bytes:
    """Return the opcodes that push ``value``; bytes are opcodes already."""
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + b"".join(map(pickled, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(pickled, value)) + b"e"
    assert isinstance(value, dict), value
    return b"}(" + b"".join(pickled(key) + pickled(one) for key, one in value.items()) + b"u"


def pickled_global(module: str, name: str) -> bytes:
    """Return the opcode that imports a name."""
    return f"c{module}\n{name}\n".encode()


def pickled_call(module: str, name: str, *arguments: object) -> bytes:
    """Return the opcodes that call a function."""
    return pickled_global(module, name) + pickled(tuple(arguments)) + b"R"


def pickled_tensor(
    key: str,
    dtype: str,
    size: int,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
) -> bytes:
    """Return the opcodes of a tensor in storage ``key`` of ``size`` values, row-major by default."""
    if strides is None:
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    typed = dtype in _STORAGES
    kind = pickled_global("torch", _STORAGES[dtype]) if typed else b""
    kind = kind or pickled_global("torch.storage", "UntypedStorage")
    count = size if typed else size * BITS[dtype] // 8
    storage = pickled(("storage", kind, key, "cpu", count)) + b"Q"
    hooks = pickled_call("collections", "OrderedDict")
    arguments: list[object] = [storage, offset, tuple(shape), tuple(strides), False, hooks]
    if typed:
        return pickled_call("torch._utils", "_rebuild_tensor_v2", *arguments)
    arguments.append(pickled_global("torch", _UNTYPED[dtype]))
    return pickled_call("torch._utils", "_rebuild_tensor_v3", *arguments)


def pickle_bytes(value: object) -> bytes:
    """Return a whole pickle of ``value``: what a legacy `.bin` begins with."""
    return b"\x80\x02" + pickled(value) + b"."


# --- torch zip files


def torch_bytes(tensors: Mapping[str, Values], *, order: bytes = b"little") -> bytes:
    """Return what torch.save writes for a dict of tensors, each with a storage of its own."""
    described = {
        name: pickled_tensor(str(i), one.dtype, math.prod(one.shape), one.shape)
        for i, (name, one) in enumerate(tensors.items())
    }
    storages = [one.data for one in tensors.values()]
    return torch_with_pickle(pickle_bytes(described), storages, order=order)


def torch_with_pickle(
    pickle: bytes, storages: Sequence[bytes], *, order: bytes = b"little"
) -> bytes:
    """Return a torch file with exactly this pickle and these storages, keyed 0, 1, 2 ..."""
    records = [("data.pkl", pickle), ("byteorder", order)]
    records += [(f"data/{i}", storage) for i, storage in enumerate(storages)]
    return zip_bytes([(f"archive/{name}", data) for name, data in [*records, ("version", b"3\n")]])


def zip_bytes(records: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a zip file of stored entries, aligned to 64 bytes, with a zip64 end, as torch does."""
    out = bytearray()
    directory = bytearray()
    for name, data in records:
        raw, offset = name.encode(), len(out)
        padding = -(offset + 30 + len(raw) + 4) % 64
        fields = (0, 0x0808, 0, 0, 0)
        out += struct.pack("<4s5H3I2H", b"PK\3\4", *fields, 0, 0, 0, len(raw), padding + 4)
        out += raw + b"FB" + struct.pack("<H", padding) + b"Z" * padding + data
        known = (zlib.crc32(data), len(data), len(data))
        out += struct.pack("<4s3I", b"PK\7\10", *known)
        rest = (len(raw), 0, 0, 0, 0, 0, offset)
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 0, *fields, *known, *rest) + raw
    count, size, start = len(records), len(directory), len(out)
    end = len(out) + size
    out += directory
    out += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 0, 45, 0, 0, count, count, size, start)
    out += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    out += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, start, 0)
    return bytes(out)


# --- GGUF

GGUF_TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34),
    "Q4_K": (12, 256, 144), "I8": (24, 1, 1), "I32": (26, 1, 4), "BF16": (30, 1, 2),
}  # fmt: skip
"""Name: type, values per block, bytes per block."""


def gguf_text(text: str) -> bytes:
    """Return a GGUF string."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_bytes(
    tensors: Mapping[str, Values],
    keys: Sequence[tuple[str, int, bytes]] = (("general.architecture", 8, gguf_text("llama")),),
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Return a GGUF file; ``keys`` are name, type and encoded value."""
    if alignment != 32:
        keys = [*keys, ("general.alignment", 4, struct.pack("<I", alignment))]
    out = bytearray(struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(keys)))
    for name, kind, value in keys:
        out += gguf_text(name) + struct.pack("<I", kind) + value
    data = bytearray()
    for name, one in tensors.items():
        shape = one.shape[::-1]
        out += gguf_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        out += struct.pack("<IQ", GGUF_TYPES[one.dtype][0], len(data))
        data += one.data + bytes(-len(one.data) % alignment)
    return bytes(out + bytes(-len(out) % alignment) + data)
