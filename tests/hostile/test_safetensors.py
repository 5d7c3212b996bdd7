"""safetensors files, valid and not: what the library reads we read alike, the rest stays bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError, deserialize

from modelstore.formats.split import split
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.builders import MemorySource, safetensors_bytes, safetensors_with_header, values
from tests.hostile.forged import MODEL
from tests.models import files_of


def entry(dtype: str = "U8", shape: str = "[2]", offsets: str = "[0,2]", more: str = "") -> str:
    """Return the JSON of one tensor."""
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{more}}}'


def one(value: str, data: bytes = b"\1\2", name: str = '"a"') -> bytes:
    """Return a file of one tensor."""
    return safetensors_with_header(f"{{{name}:{value}}}".encode(), data)


GOOD = entry()
BIG = str(1 << 63)


HEADER = f'{{"a":{GOOD}}}'.encode()
WHOLE = safetensors_with_header(HEADER, b"\1\2")


def files() -> Iterator[tuple[str, bytes]]:
    """Yield files, most of them valid, by what is odd about them."""
    yield "nothing odd", WHOLE
    for dtype in ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I16", "U16", "F16", "BF16"):
        yield dtype, safetensors_bytes({"a": values(dtype, 2, 3), "b": values(dtype)})
    for dtype in ("I32", "U32", "F32", "C64", "F64", "I64", "U64"):
        yield dtype, safetensors_bytes({"a": values(dtype, 2, 3), "b": values(dtype, 0)})
    for dtype in ("F4", "F6_E2M3", "F6_E3M2"):
        yield dtype, safetensors_bytes({"a": values(dtype, 2, 4)})
    yield "no tensors", safetensors_bytes({})
    yield "no tensors, metadata", safetensors_bytes({}, {"format": "pt", "é": "中"})
    yield "0-d", safetensors_bytes({"a": values("F32")})
    yield (
        "empty tensors at one place",
        safetensors_bytes(
            {
                "a": values("F32", 0),
                "b": values("U8", 3, 0),
                "c": values("U8", 1),
                "d": values("I8", 0),
            }
        ),
    )
    yield "rank 64", safetensors_bytes({"a": values("U8", *[1] * 64)})
    yield "rank 65", safetensors_bytes({"a": values("U8", *[1] * 65)})
    yield "odd offsets", safetensors_bytes({"a": values("U8", 3), "b": values("F64", 2)})
    yield "odd names", safetensors_bytes({"": values("U8", 1), "../../etc/x": values("U8", 1)})
    yield "a name with an escape", one(GOOD, name='"\\u001b[2J"')
    yield "a NUL in a name", one(GOOD, name='"a\\u0000"')
    yield "an emoji as escapes", one(GOOD, name='"\\ud83d\\ude00"')
    yield "half a pair", one(GOOD, name='"\\ud83d"')
    yield "a bool of 2", one(entry("BOOL"), b"\1\2")
    yield "1,000 tensors", safetensors_bytes({f"t{n}": values("U8", 1) for n in range(1000)})
    yield "bytes at the end", WHOLE + b"x"
    yield "a zip file at the end", WHOLE + b"PK\5\6" + bytes(18)
    yield "a byte too few", WHOLE[:-1]
    yield "half a header", WHOLE[: len(WHOLE) // 2]
    yield "seven bytes", WHOLE[:7]
    yield "no bytes", b""
    for claim in (0, 1, len(HEADER) - 1, len(HEADER) + 1, 100_000_000, 100_000_001, 1 << 63):
        yield f"a header of {claim}", claim.to_bytes(8, "little") + HEADER + b"\1\2"


def headers() -> Iterator[tuple[str, bytes]]:
    """Yield headers that are odd as text."""
    header = HEADER
    yield "spaces at the end", safetensors_with_header(header + b"    ", b"\1\2")
    yield "other white space at the end", safetensors_with_header(header + b"\n\t\r", b"\1\2")
    yield "spaces at the start", safetensors_with_header(b" " + header, b"\1\2")
    yield "a byte order mark", safetensors_with_header(b"\xef\xbb\xbf" + header, b"\1\2")
    yield "NULs at the end", safetensors_with_header(header + b"\0\0", b"\1\2")
    yield "junk after the header", safetensors_with_header(header + b"{}", b"\1\2")
    yield "a header that is not UTF-8", safetensors_with_header(header[:-1] + b"\xff}", b"\1\2")
    yield "UTF-16", safetensors_with_header(header.decode().encode("utf-16"), b"\1\2")
    yield "an empty header", safetensors_with_header(b"", b"\1\2")
    yield "a list", safetensors_with_header(b"[]", b"")
    yield "null", safetensors_with_header(b"null", b"")
    yield "a comment", safetensors_with_header(header + b"//x", b"\1\2")
    yield "metadata null", one(GOOD + ',"__metadata__":null')
    yield "metadata of a number", one(GOOD + ',"__metadata__":{"a":1}')
    yield "metadata that nests", one(GOOD + ',"__metadata__":{"a":{}}')
    yield "metadata that is a list", one(GOOD + ',"__metadata__":[]')
    yield "metadata twice", one(GOOD + ',"__metadata__":{},"__metadata__":{}')
    yield "a tensor that is called metadata", one(GOOD, name='"__metadata__"')
    yield "a name twice", one(f'{GOOD},"a":{GOOD}')
    yield "a name twice, of another shape", one(f'{GOOD},"a":{entry(shape="[1,2]")}')
    yield "a field twice", one(entry(more=',"dtype":"U8"'))
    yield "an unknown field", one(entry(more=',"x":1'))
    yield "an unknown field that nests", one(entry(more=',"x":[1,{"y":2}]'))


def tensors() -> Iterator[tuple[str, bytes]]:
    """Yield odd descriptions of tensors."""
    yield "an unknown dtype", one(entry("U9"))
    yield "a dtype in lower case", one(entry("u8"))
    yield "no dtype", one('{"shape":[2],"data_offsets":[0,2]}')
    yield "a dtype that is a number", one('{"dtype":1,"shape":[2],"data_offsets":[0,2]}')
    yield "another dtype than its bytes", one(entry("F32"))
    yield "a negative size", one(entry(shape="[-2]"))
    yield "a float", one(entry(shape="[2.0]"))
    yield "a size of 2^63", one(entry(shape=f"[{BIG}]"))
    yield "a size of 2^64", one(entry(shape=f"[{1 << 64}]"))
    yield "a product of 2^64", one(entry(shape="[4294967296,4294967296]"))
    yield "zero times 2^126", one(entry(shape=f"[0,{BIG},{BIG}]", offsets="[0,0]"), b"")
    yield "2^126 times zero", one(entry(shape=f"[{BIG},{BIG},0]", offsets="[0,0]"), b"")
    yield "negative offsets", one(entry(offsets="[-2,0]"))
    yield "huge offsets", one(entry(offsets=f"[{BIG},{BIG}]"))
    yield "offsets backwards", one(entry(offsets="[2,0]"))
    yield "three offsets", one(entry(offsets="[0,1,2]"))
    yield "an overlap", one(f'{GOOD},"b":{entry(offsets="[1,3]")}', b"\1\2\3")
    yield "the same bytes twice", one(f'{GOOD},"b":{GOOD}')
    yield "a hole", one(f'{GOOD},"b":{entry(offsets="[3,5]")}', b"\1\2\3\4\5")
    yield "a hole at the start", one(entry(offsets="[1,3]"), b"\1\2\3")
    yield "a deep value", one("[" * 500 + "]" * 500)
    yield "NaN", one(entry(shape="[NaN]"))


CASES = {**dict(files()), **dict(headers()), **dict(tensors())}

STRICTER = {
    "spaces at the start",  # the format's description demands the brace
    "rank 65",
    "a NUL in a name",
    "a name twice, of another shape",  # readers disagree on which one counts
    "a name twice",
    "zero times 2^126",  # overflows in whoever multiplies in another order
    "an unknown field that nests",
}
"""What the library reads and we store as plain bytes, since two readers may disagree on it."""

Tensors = dict[str, tuple[str, list[int], bytes]]


def of_the_library(data: bytes) -> Tensors | None:
    """Return what the library reads, None where it refuses."""
    try:
        return {
            name: (tensor["dtype"], list(tensor["shape"]), bytes(tensor["data"]))
            for name, tensor in deserialize(data)
        }
    except SafetensorError:
        return None


def ours(data: bytes) -> Tensors | None:
    """Return what the split finds, None where the file is stored as plain bytes."""
    cut = split(MemorySource(data, "model.safetensors"))
    assert b"".join(data[span.start : span.stop] for span in cut.spans) == data
    if cut.format != "safetensors":
        assert cut.warning
        return None
    return {
        tensor.name: (tensor.dtype, list(tensor.shape), data[span.start : span.stop])
        for span in cut.spans
        for tensor in span.tensors
    }


def test_there_are_enough_cases() -> None:
    """At least 57, of both kinds."""
    accepted = [name for name, data in CASES.items() if of_the_library(data) is not None]
    assert len(CASES) >= 57
    assert 20 <= len(accepted) <= len(CASES) - 20


@pytest.mark.parametrize("name", CASES)
def test_the_library_and_we_agree(name: str) -> None:
    """Same names, dtypes, shapes and bytes, or refused by both, but for what is listed as stricter."""
    theirs = of_the_library(CASES[name])
    if name in STRICTER:
        assert theirs is not None
        assert ours(CASES[name]) is None
    else:
        assert ours(CASES[name]) == theirs


def test_all_of_them_come_back(store: Store, tmp_path: Path) -> None:
    """Valid or not, a file is stored, and what comes out is what went in."""
    model = tmp_path / "in"
    model.mkdir()
    for number, data in enumerate(CASES.values()):
        (model / f"{number}.safetensors").write_bytes(data)
    (model / "names.json").write_text(json.dumps(list(CASES)))
    made = commit(store, model, MODEL, CommitOptions())
    assert len(made.warnings) == sum(ours(data) is None for data in CASES.values())
    out = checkout(store, resolve(store, f"m@{made.version}"), output=tmp_path / "out").path
    assert files_of(out) == files_of(model)
