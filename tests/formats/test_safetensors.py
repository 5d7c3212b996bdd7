"""safetensors files: what is refused, and that the library would agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelstore.formats.base import MalformedError, Span, Tensor
from modelstore.formats.safetensors import MAX_HEADER, Safetensors
from modelstore.formats.split import split
from tests import strategies
from tests.builders import (
    MemorySource,
    Values,
    safetensors_bytes,
    safetensors_with_header,
    values,
)


def entry(dtype: str = "U8", shape: str = "[2]", offsets: str = "[0,2]", more: str = "") -> str:
    """Return the JSON of one tensor."""
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{more}}}'


def file_of(header: str, data: bytes = b"\1\2") -> MemorySource:
    """Return a file with this header and data."""
    return MemorySource(safetensors_with_header(header.encode(), data))


GOOD = entry()
LIES = {
    "not JSON": "{nonsense",
    "a list": "[]",
    "space first": ' {"a":' + GOOD + "}",
    "junk after": '{"a":' + GOOD + "}x",
    "NUL after": '{"a":' + GOOD + "}\0",
    "a comma too many": '{"a":' + GOOD + ",}",
    "no colon": '{"a"' + GOOD + "}",
    "a name twice": '{"a":' + GOOD + ',"a":' + GOOD + "}",
    "a name twice, once escaped": '{"a":' + GOOD + ',"\\u0061":' + GOOD + "}",
    "a field twice": '{"a":' + entry(more=',"dtype":"U8"') + "}",
    "an unknown field twice": '{"a":' + entry(more=',"x":1,"x":1') + "}",
    "metadata twice": '{"__metadata__":{},"__metadata__":{},"a":' + GOOD + "}",
    "a metadata key twice": '{"__metadata__":{"k":"v","k":"v"},"a":' + GOOD + "}",
    "metadata that is a number": '{"__metadata__":{"k":1},"a":' + GOOD + "}",
    "a NUL in a name": '{"a\\u0000":' + GOOD + "}",
    "half a surrogate pair": '{"a\\ud800":' + GOOD + "}",
    "a control character": '{"a\n":' + GOOD + "}",
    "an unknown dtype": '{"a":' + entry("Q8") + "}",
    "a dtype in small letters": '{"a":' + entry("u8") + "}",
    "C128, which safetensors has not": '{"a":' + entry("C128", "[0]", "[0,0]") + "}",
    "a missing field": '{"a":{"dtype":"U8","shape":[2]}}',
    "three offsets": '{"a":' + entry(offsets="[0,2,2]") + "}",
    "one offset": '{"a":' + entry(offsets="[0]") + "}",
    "a float in the shape": '{"a":' + entry(shape="[2.0]") + "}",
    "an exponent in the shape": '{"a":' + entry(shape="[2e0]") + "}",
    "a negative size": '{"a":' + entry(shape="[-2]") + "}",
    "minus zero": '{"a":' + entry(shape="[-0]", offsets="[0,0]") + "}",
    "a leading zero": '{"a":' + entry(shape="[02]") + "}",
    "a size of 2^64": '{"a":' + entry(shape="[18446744073709551616]") + "}",
    "a size of 2^63": '{"a":' + entry(shape="[9223372036854775808]") + "}",
    "a product that overflows": '{"a":' + entry(shape="[4294967296,4294967296]") + "}",
    "an overflow hidden by a zero": '{"a":'
    + entry(shape="[0,9223372036854775807,9223372036854775807]", offsets="[0,0]")
    + "}",
    "65 dimensions": '{"a":' + entry(shape="[" + ",".join("1" * 65) + "]", offsets="[0,1]") + "}",
    "too few bytes for the shape": '{"a":' + entry(shape="[3]") + "}",
    "too many bytes for the shape": '{"a":' + entry(shape="[1]") + "}",
    "half a byte": '{"a":' + entry("F4", "[3]", "[0,1]") + "}",
    "an end before the start": '{"a":' + entry(offsets="[2,0]") + "}",
    "a hole at the start": '{"a":' + entry(shape="[1]", offsets="[1,2]") + "}",
    "bytes that nobody claims": '{"a":' + entry(shape="[1]", offsets="[0,1]") + "}",
    "an overlap": '{"a":' + GOOD + ',"b":' + entry(shape="[1]", offsets="[1,2]") + "}",
    "more than there is": '{"a":' + entry(shape="[3]", offsets="[0,3]") + "}",
    "2^62 bytes": '{"a":' + entry(shape="[4611686018427387904]", offsets="[0,4611686018427387904]")
    + "}",
    "a nested unknown field": '{"a":' + entry(more=',"x":' + "[" * 2000 + "]" * 2000) + "}",
    "no end": '{"a":' + GOOD,
}  # fmt: skip


@pytest.mark.parametrize("header", LIES.values(), ids=LIES.keys())
def test_refuses_headers_that_lie(header: str) -> None:
    """A header that breaks a rule, or that two readers could take differently, is refused."""
    with pytest.raises(MalformedError):
        Safetensors().spans(file_of(header))


def test_the_warning_says_what_the_header_claims() -> None:
    """The split of a file that lies is opaque, with one sentence that names the lie."""
    result = split(file_of('{"a":' + entry(shape="[3]", offsets="[0,3]") + "}"))
    assert result.format == "opaque"
    assert result.warning == (
        "'file' is no valid safetensors file: tensor 'a' is claimed to end at byte 64 of 63; "
        "it is stored as plain bytes"
    )


@pytest.mark.parametrize("length", [MAX_HEADER + 1, MAX_HEADER, 2**63, 2**64 - 1])
def test_a_huge_claimed_header_is_not_read(length: int) -> None:
    """The length of the header is checked before anything is read or allocated."""
    source = MemorySource(length.to_bytes(8, "little") + b"{}", "model.safetensors")
    result = split(source)
    assert result.format == "opaque"
    assert f"claims a header of {length} bytes" in result.warning
    assert source.longest_read <= 30


def test_text_files_are_not_taken_for_safetensors() -> None:
    """JSON with a brace at byte 8 is not suspected, so it splits without a warning."""
    result = split(MemorySource(b'{"map": {"a": 1}}', "config.json"))
    assert (result.format, result.warning) == ("opaque", "")


def test_an_empty_file_of_that_name_is_reported() -> None:
    """A file that only claims by its name to be safetensors is opaque with a warning."""
    result = split(MemorySource(b"", "model.safetensors"))
    assert (result.spans, bool(result.warning)) == ((), True)


def test_the_header_is_kept_as_it_stands() -> None:
    """Spaces, escapes, metadata and unknown fields are literal bytes of the first span."""
    header = '{ "\\u0061" :\t' + entry(more=',"x":"}"') + ', "__metadata__":null}   '
    source = file_of(header)
    spans = Safetensors().spans(source)
    data_start = 8 + len(header)
    tensor = Tensor("a", "U8", (2,))
    assert spans == (Span(0, data_start), Span(data_start, source.size, "U8", (tensor,)))


def test_spans_are_in_the_order_of_the_data() -> None:
    """Tensors that the header lists in another order than their data are sorted by data."""
    header = '{"b":' + entry(offsets="[2,4]") + ',"e":' + entry(shape="[0]", offsets="[2,2]")
    spans = Safetensors().spans(file_of(header + ',"a":' + GOOD + "}", b"1234"))
    assert [tensor.name for span in spans for tensor in span.tensors] == ["a", "e", "b"]


def test_a_file_without_tensors_is_fine() -> None:
    """The smallest file is a header of no tensors."""
    assert Safetensors().spans(file_of("{}", b"")) == (Span(0, 10),)


def library_accepts(content: bytes) -> bool:
    """Tell whether the safetensors library reads the file."""
    from safetensors import SafetensorError, deserialize

    try:
        deserialize(content)
    except SafetensorError:
        return False
    return True


@pytest.mark.parametrize("header", LIES.values(), ids=LIES.keys())
@pytest.mark.parametrize("data", [b"", b"\1\2", b"\1\2\3"])
def test_what_the_library_refuses_we_refuse(header: str, data: bytes) -> None:
    """Our reader accepts a subset of what the library accepts."""
    source = file_of(header, data)
    if not library_accepts(source.data):
        with pytest.raises(MalformedError):
            Safetensors().spans(source)


@given(st.data())
@settings(max_examples=300)
def test_damaged_files_that_we_accept_the_library_accepts(data: st.DataObject) -> None:
    """Whatever we still accept of a damaged file, the library accepts too."""
    content, _ = data.draw(strategies.safetensors_files)
    content = data.draw(strategies.damaged(content))
    try:
        Safetensors().spans(MemorySource(content))
    except MalformedError:
        return
    assert library_accepts(content)


@given(strategies.safetensors_files)
def test_finds_what_the_library_finds(file: strategies.File) -> None:
    """Names, dtypes, shapes and bytes are those that the library reads."""
    from safetensors import deserialize

    content, _ = file
    ours = {
        tensor.name: (tensor.dtype, list(tensor.shape), content[span.start : span.stop])
        for span in Safetensors().spans(MemorySource(content))
        for tensor in span.tensors
    }
    theirs = {
        name: (one["dtype"], one["shape"], bytes(one["data"])) for name, one in deserialize(content)
    }
    assert ours == theirs


def test_shards_and_one_file_give_the_same_tensors(tmp_path: Path) -> None:
    """The same weights in one file or in shards are the same tensor spans."""
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    weights = {f"w{i}": np.arange(i * 5, dtype=np.float32).reshape(i, 5) for i in range(4)}
    shards = [dict(list(weights.items())[:2]), dict(list(weights.items())[2:]), weights]
    found = []
    for i, shard in enumerate(shards):
        path = tmp_path / f"{i}.safetensors"
        numpy.save_file(shard, path)
        content = path.read_bytes()
        spans = split(MemorySource(content, path.name)).spans
        found.append({(span.tensors, content[span.start : span.stop]) for span in spans[1:]})
    assert found[0] | found[1] == found[2]
    assert len(found[2]) == 4


def test_many_tensors_are_read_quickly() -> None:
    """A header of ten thousand tensors is no trouble, and is read in one piece."""
    tensors = {f"layer.{i}.weight": Values("U8", (1,), b"x") for i in range(10_000)}
    spans = Safetensors().spans(MemorySource(safetensors_bytes(tensors)))
    assert len(spans) == 10_001


def test_metadata_may_hold_any_text() -> None:
    """Training notes with braces and quotes, as LoRA trainers write them, are passed over."""
    notes = json.dumps({"tags": {"{": '"}'}})
    content = safetensors_bytes({"a": values("F32", 2)}, {"notes": notes, "": ""})
    assert len(Safetensors().spans(MemorySource(content))) == 2
