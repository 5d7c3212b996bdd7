"""Small inputs that claim, or unfold to, far more than they are; and a process to try them in.

    python -m tests.hostile.bombs GROUP

prints, as JSON, what each input of the group came to, and the processor time and memory it took.
Memory is the peak of the process in MiB, which can only grow from one input to the next.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from modelstore.canonical import parse
from modelstore.errors import StoreError
from modelstore.formats.split import split
from modelstore.manifest import Manifest, decode, encode
from modelstore.names import parse_model
from modelstore.ops.foreign import read_registry
from modelstore.state import empty_document, parse_record
from modelstore.view import open_view
from tests.builders import (
    MemorySource,
    gguf_bytes,
    gguf_text,
    pickle_bytes,
    safetensors_with_header,
    torch_with_pickle,
    zip_bytes,
)
from tests.hostile.forged import file_of

MIB = 1 << 20
Inputs = Mapping[str, Callable[[], bytes]]

_ENTRY = b'"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'

SAFETENSORS: Inputs = {
    "claims 100 MB": lambda: (100_000_000).to_bytes(8, "little") + b"{}",
    "claims 2^63": lambda: (1 << 63).to_bytes(8, "little") + b"{}",
    "16 MiB of spaces": lambda: safetensors_with_header(b"{" + b" " * 16 * MIB + b"}"),
    "16 MiB of a name": lambda: safetensors_with_header(b'{"' + b"x" * 16 * MIB + b'":1}'),
    "an emoji": lambda: safetensors_with_header("{'😀".encode() + b" " * 16 * MIB + b"}"),
    "a nested field": lambda: safetensors_with_header(b'{"w":{"x":' + b"[" * 8 * MIB),
    "10 MB integer": lambda: safetensors_with_header(
        b'{"w":{"dtype":"U8","shape":[' + b"9" * 10_000_000 + b'],"data_offsets":[0,0]}}'
    ),
    "a long shape": lambda: safetensors_with_header(
        b'{"w":{"dtype":"U8","shape":[' + b"1," * 4 * MIB + b'1],"data_offsets":[0,0]}}'
    ),
    "a name 300,000 times": lambda: safetensors_with_header(
        b"{" + b",".join([_ENTRY] * 300_000) + b"}"
    ),
}

GGUF: Inputs = {
    "2^64 tensors": lambda: struct.pack("<4sIQQ", b"GGUF", 3, (1 << 64) - 1, 0),
    "2^64 keys": lambda: struct.pack("<4sIQQ", b"GGUF", 3, 0, (1 << 64) - 1),
    "a text of 2^63": lambda: struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 1 << 63) + b"x",
    "an array of 2^60": lambda: gguf_bytes({}, [("k", 9, struct.pack("<IQ", 4, 1 << 60))]),
    "texts without end": lambda: gguf_bytes({}, [("k", 9, struct.pack("<IQ", 8, 1 << 60))]),
    "1,000,000 empty texts": lambda: gguf_bytes(
        {}, [("k", 9, struct.pack("<IQ", 8, 1_000_000) + bytes(8_000_000))]
    ),
    "arrays of arrays": lambda: gguf_bytes(
        {}, [("k", 9, struct.pack("<IQ", 9, 1 << 20) * 200_000)]
    ),
    "a shape that overflows": lambda: (
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 0)
        + gguf_text("w")
        + struct.pack("<I4QIQ", 4, *([1 << 62] * 4), 0, 0)
    ),
}


def _pickled(data: bytes) -> bytes:
    return torch_with_pickle(b"\x80\x02" + data + b".", [])


_MANY = 1_000_000

PICKLES: Inputs = {
    "1,000,000 lists": lambda: _pickled(b"]" * _MANY),
    "1,000,000 marks": lambda: _pickled(b"(" * _MANY),
    "1,000,000 nested tuples": lambda: _pickled(b")" + b"\x85" * _MANY),
    "1,000,000 nested lists": lambda: _pickled(b"]" + b"]" * (_MANY // 2) + b"a" * (_MANY // 2)),
    "doubled 500,000 times": lambda: _pickled(b")" + b"2\x86" * (_MANY // 2)),
    "a memo of 300,000": lambda: _pickled(
        b"]" + b"".join(b"r" + struct.pack("<I", n * 1000) for n in range(300_000))
    ),
    "a memo far away": lambda: _pickled(b"]r\xff\xff\xff\xff" * 1000),
    "3,000,000 steps": lambda: _pickled(b"N0" * 1_500_000),
    "a text of 2^63": lambda: _pickled(b"\x8d" + b"\xff" * 7 + b"\x7f"),
    "an integer of 2^31": lambda: _pickled(b"\x8b" + b"\xff\xff\xff\x7f"),
    "a 10 MB integer": lambda: _pickled(
        b"\x8b" + struct.pack("<i", 10_000_000) + b"\1" * 10_000_000
    ),
    "10 MB of digits": lambda: _pickled(b"I" + b"9" * 10_000_000 + b"\n"),
    "10 MB of a float": lambda: _pickled(b"F" + b"9" * 10_000_000 + b"\n"),
    "a global of 10 MB": lambda: _pickled(b"c" + b"x" * 10_000_000 + b"\nname\n"),
    "a bare pickle of lists": lambda: pickle_bytes(b"]" * _MANY),
}


def _zip64(size: int) -> bytes:
    """Return a torch file whose zip64 record claims a directory of so many entries and bytes."""
    data = bytearray(torch_with_pickle(pickle_bytes({}), []))
    at = data.rindex(b"PK\6\6")
    struct.pack_into("<4Q", data, at + 24, size, size, size, 0)
    return bytes(data)


def _overlapping(count: int) -> bytes:
    """Return a zip file whose directory lists its one entry many times, as zip bombs do."""
    one = zip_bytes([("a/data.pkl", pickle_bytes({}))])
    start = one.index(b"PK\1\2")
    row = one[start : one.index(b"PK\6\6")]
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(row) * count, start, 0)
    return one[:start] + row * count + end


ZIPS: Inputs = {
    "2^63 entries": lambda: _zip64(1 << 63),
    "100,000 entries that are not": lambda: _zip64(100_000),
    "one entry 60,000 times": lambda: _overlapping(60_000),
    "60,000 entries": lambda: zip_bytes([(f"a/{n}", b"") for n in range(60_000)]),
}


def _deep(opening: bytes, closing: bytes) -> Callable[[], bytes]:
    return lambda: opening * 500_000 + b"1" + closing * 500_000


JSONS: Inputs = {
    "deep lists": _deep(b"[", b"]"),
    "deep objects": _deep(b'{"a":', b"}"),
    "10 MB integer": lambda: b'{"seq":' + b"9" * 10_000_000 + b"}",
    "10 MB float": lambda: b'{"seq":0.' + b"9" * 10_000_000 + b"}",
    "a text of 32 MiB": lambda: b'{"a":"' + b"x" * 32 * MIB + b'"}',
    "an emoji in 32 MiB": lambda: '{"a":"😀'.encode() + b"x" * 32 * MIB + b'"}',
    "65 MiB": lambda: b"[" + b" " * 65 * MIB + b"]",
    "10,000,000 lists": lambda: b"[" + b"[]," * 10_000_000 + b"[]]",
    "10,000,000 objects": lambda: b"[" + b"{}," * 10_000_000 + b"{}]",
    "700,000 objects": lambda: b"[" + b'{"a":1},' * 700_000 + b"{}]",
    "equal keys": lambda: b"{" + b'"a":1,' * 1_000_000 + b'"a":1}',
    "NaN": lambda: b'{"a":NaN}',
    "Infinity": lambda: b'{"a":-Infinity}',
    "escapes": lambda: b'"' + rb"\ud83d" * 1_000_000 + b'"',
}


def _with_shape(shape: list[int]) -> bytes:
    good = encode(Manifest((file_of("a"),)))
    tensor = {"name": "w", "dtype": "U8", "shape": shape}
    value = json.loads(good)
    value["files"][0]["spans"][0]["tensors"] = [tensor]
    return json.dumps(value).encode()


MANIFESTS: Inputs = {
    "a shape of 500,000": lambda: _with_shape([1 << 62] * 500_000),
    "a shape that overflows": lambda: _with_shape([1 << 62] * 64),
    "10,000 names alike": lambda: encode(
        Manifest(tuple(file_of("/".join([f"{n:05}"] * 30)) for n in range(10_000)))
    ),
}


def _split(data: bytes) -> str:
    return split(MemorySource(data, "pytorch_model.bin")).format


def _json(data: bytes) -> str:
    """Try JSON as all that it may be called."""
    before = empty_document(parse_model("m"))
    for read in (
        lambda: decode(data),
        lambda: open_view(data, "view"),
        lambda: parse_record(data, before),
    ):
        with suppress(StoreError):
            read()
    read_registry(data, "model_registry.json", "m")
    parse(data, "x")
    return "read"


GROUPS: dict[str, tuple[Inputs, Callable[[bytes], str]]] = {
    "safetensors": (SAFETENSORS, _split),
    "gguf": (GGUF, _split),
    "pickle": (PICKLES, _split),
    "zip": (ZIPS, _split),
    "json": (JSONS, _json),
    "manifest": (MANIFESTS, lambda data: str(len(decode(data).files))),
}


def _try(make: Callable[[], bytes], read: Callable[[bytes], str]) -> tuple[str, float, int]:
    data = make()
    began = time.process_time()
    try:
        outcome = read(data)
    except StoreError as error:
        outcome = type(error).__name__
    took = time.process_time() - began
    return outcome, took, _peak() // 1024


def _peak() -> int:
    """Return the most KiB that this program had; what getrusage says began with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dict(row.split(":", 1) for row in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0])


def main() -> None:
    """Try a group of inputs."""
    inputs, read = GROUPS[sys.argv[1]]
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    print(json.dumps({name: _try(make, read) for name, make in inputs.items()}))


if __name__ == "__main__":
    main()
