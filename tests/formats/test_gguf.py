"""GGUF files: what is refused, and that the gguf package would agree."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from modelstore.formats.base import MalformedError
from modelstore.formats.gguf import MAX_ITEMS, MAX_STRING, TYPES, Gguf
from modelstore.formats.split import split
from tests.builders import MemorySource, Values, gguf_bytes, gguf_text, values

F32 = Values("F32", (2, 3), bytes(range(24)))


def header(tensors: int, keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    """Return the beginning of a file, true or not."""
    return struct.pack("<4sIQQ", b"GGUF", version, tensors, keys) + rest


def described(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """Return the description of one tensor; the shape has the innermost dimension first."""
    return gguf_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def padded(head: bytes, data: bytes) -> bytes:
    """Return a file with this header and data."""
    return head + bytes(-len(head) % 32) + data


def key(name: str, kind: int, value: bytes) -> bytes:
    """Return one key and its value."""
    return gguf_text(name) + struct.pack("<I", kind) + value


U32 = struct.pack("<I", 7)
HUGE = struct.pack("<Q", 2**63)
LIES = {
    "version 1": header(0, 0, version=1),
    "version 4": header(0, 0, version=4),
    "big endian": header(0, 0, version=3 << 24),
    "too many tensors": header(2**63, 0),
    "too many keys": header(0, 2**63),
    "fewer keys than claimed": header(0, 2, key("a", 4, U32)),
    "fewer tensors than claimed": header(2, 0, described("a", (1,))),
    "a huge key": header(0, 1, HUGE),
    "a huge text": header(0, 1, key("a", 8, HUGE)),
    "a text over the limit": header(0, 1, key("a", 8, struct.pack("<Q", MAX_STRING + 1))),
    "a huge array of numbers": header(0, 1, key("a", 9, U32 + HUGE)),
    "an array of too many texts": header(
        0, 1, key("a", 9, struct.pack("<IQ", 8, MAX_ITEMS + 1) + bytes(8))
    ),
    "arrays nested too deep": header(
        0, 1, key("a", 9, struct.pack("<IQIQIQ", 9, 1, 9, 1, 4, 1) + U32)
    ),
    "an unknown kind of value": header(0, 1, key("a", 13, U32)),
    "a key twice": header(0, 2, key("a", 4, U32) * 2),
    "no alignment": header(0, 1, key("general.alignment", 4, struct.pack("<I", 0))),
    "an odd alignment": header(0, 1, key("general.alignment", 4, struct.pack("<I", 24))),
    "a huge alignment": header(0, 1, key("general.alignment", 4, struct.pack("<I", 2**31))),
    "an alignment that is a text": header(0, 1, key("general.alignment", 8, gguf_text("x"))),
    "a tensor twice": padded(header(2, 0, described("a", (1,)) * 2), bytes(32)),
    "a name with a NUL": padded(header(1, 0, described("a\0", (1,))), bytes(32)),
    "a name that is no text": header(1, 0, struct.pack("<Q", 1) + b"\xff" + bytes(24)),
    "nine dimensions": padded(header(1, 0, described("a", (1,) * 9)), bytes(32)),
    "2^32-1 dimensions": header(1, 0, gguf_text("a") + b"\xff" * 4),
    "an unknown type": padded(header(1, 0, described("a", (1,), kind=99)), bytes(32)),
    "half a block": padded(header(1, 0, described("a", (16,), kind=8)), bytes(34)),
    "a shape that overflows": padded(header(1, 0, described("a", (2**40, 2**40))), bytes(32)),
    "a shape behind the end": padded(header(1, 0, described("a", (2**40,))), bytes(32)),
    "an offset behind the end": padded(header(1, 0, described("a", (1,), 0, 2**62)), bytes(32)),
    "an offset that overflows": padded(header(1, 0, described("a", (1,), 0, 2**64 - 32)), bytes(32)),
    "an offset not aligned": padded(header(1, 0, described("a", (1,), 0, 4)), bytes(64)),
    "an overlap": padded(
        header(2, 0, described("a", (16,)) + described("b", (8,), 0, 32)), bytes(64)
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", LIES.values(), ids=LIES.keys())
def test_refuses_headers_that_lie(content: bytes) -> None:
    """A header that claims what the file does not hold is refused, and the file stays opaque."""
    source = MemorySource(content)
    with pytest.raises(MalformedError):
        Gguf().spans(source)
    result = split(source)
    assert result.format == "opaque"
    assert result.warning.startswith("'file' is no valid gguf file: ")


def test_shapes_are_outermost_first() -> None:
    """GGUF writes the innermost dimension first; a span has the order of numpy."""
    spans = Gguf().spans(MemorySource(gguf_bytes({"a": F32})))
    assert [tensor.shape for span in spans for tensor in span.tensors] == [(2, 3)]


def test_quantised_tensors_keep_their_type() -> None:
    """A span of blocks is named after the quantisation, and shaped in values."""
    blocks = Values("Q8_0", (2, 64), bytes(2 * 2 * 34))
    span = Gguf().spans(MemorySource(gguf_bytes({"q": blocks})))[1]
    assert (span.dtype, span.tensors[0].shape, span.stop - span.start) == ("Q8_0", (2, 64), 136)


def test_padding_is_literal() -> None:
    """Between tensors, and after the last one, the padding is a literal span."""
    content = gguf_bytes({"a": values("I8", 5), "b": values("I8", 3)})
    spans = Gguf().spans(MemorySource(content))
    assert [(span.dtype, span.stop - span.start) for span in spans[1:]] == [
        ("I8", 5), ("", 27), ("I8", 3), ("", 29),
    ]  # fmt: skip


def test_arrays_are_passed_over() -> None:
    """A vocabulary, scores and nested arrays before the tensors do not disturb them."""
    words = b"".join(gguf_text(f"word{i}") for i in range(5000))
    keys = [
        ("tokens", 9, struct.pack("<IQ", 8, 5000) + words),
        ("scores", 9, struct.pack("<IQ", 6, 400_000) + bytes(1_600_000)),
        ("nested", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 4, 1) + U32),
        ("flag", 7, b"\1"),
        ("big", 10, bytes(8)),
    ]
    result = split(MemorySource(gguf_bytes({"a": F32}, keys, alignment=64)))
    assert (result.format, len(result.spans), result.warning) == ("gguf", 3, "")


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    """Every type has the name and the block size that the reference implementation gives it."""
    gguf = pytest.importorskip("gguf")
    for kind, (name, count, size) in TYPES.items():
        reference = gguf.GGMLQuantizationType(kind)
        assert (name, (count, size)) == (reference.name, gguf.GGML_QUANT_SIZES[reference])


def test_finds_what_the_gguf_package_wrote(tmp_path: Path) -> None:
    """A file of the reference writer splits into its tensors, byte for byte."""
    gguf = pytest.importorskip("gguf")
    import numpy as np

    weights = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.arange(5, dtype=np.float16),
        "c": np.arange(7, dtype=np.int8),
    }
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["x", "y"])
    for name, array in weights.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = path.read_bytes()
    found = {
        tensor.name: (tensor.shape, content[span.start : span.stop])
        for span in split(MemorySource(content)).spans
        for tensor in span.tensors
    }
    assert found == {name: (array.shape, array.tobytes()) for name, array in weights.items()}
