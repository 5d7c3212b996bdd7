"""The one entry: which format a file gets, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.formats.base import MalformedError, Source, Span, Split, Tensor
from modelstore.formats.rules import (
    MAX_COUNT,
    check_name,
    checked_cover,
    count_values,
    fill,
    quoted,
)
from modelstore.formats.split import split
from tests.builders import MemorySource, gguf_bytes, torch_bytes, values


@given(st.binary(max_size=300), st.sampled_from(["a.bin", "a.safetensors", "a.gguf", ""]))
def test_any_bytes_split(content: bytes, name: str) -> None:
    """Whatever the bytes and the name, the spans cover the file."""
    result = split(MemorySource(content, name))
    assert b"".join(content[span.start : span.stop] for span in result.spans) == content


def test_a_file_with_the_wrong_suffix_gets_the_right_format() -> None:
    """The content decides; that the suffix lies is said."""
    result = split(MemorySource(gguf_bytes({"a": values("F32", 2)}), "model.safetensors"))
    assert result.format == "gguf"
    assert "'model.safetensors' is no valid safetensors file" in result.warning


def test_a_suffix_is_not_needed() -> None:
    """A torch file without any suffix is found by its content."""
    assert split(MemorySource(torch_bytes({}), "model")).format == "torch"


def test_names_in_warnings_cannot_steer_a_terminal() -> None:
    """Control characters of a file's name are escaped, and long names cut."""
    warning = split(MemorySource(b"", "\x1b[2J\n" + "x" * 500 + ".safetensors")).warning
    assert warning.isprintable()
    assert len(warning) < 250


def test_importing_the_formats_loads_nothing_slow() -> None:
    """Neither numpy nor numba nor torch is loaded before an opaque file is cut."""
    program = (
        "import sys, modelstore.formats.split;"
        "sys.exit(bool({'numpy', 'numba', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class Overlapping:
    """A format that splits wrongly."""

    name = "wrong"

    def __init__(self, *spans: Span) -> None:
        self._spans = spans

    def matches(self, source: Source) -> bool:
        """Claim every file."""
        return source.size > 0

    def spans(self, source: Source) -> Sequence[Span]:
        """Return the spans given, whatever the file."""
        assert source.size
        return self._spans


@pytest.mark.parametrize(
    "spans",
    [
        (),
        (Span(0, 9),),
        (Span(0, 11),),
        (Span(1, 10),),
        (Span(0, 6), Span(5, 10)),
        (Span(0, 4), Span(5, 10)),
        (Span(5, 10), Span(0, 5)),
        (Span(0, 5), Span(5, 5), Span(5, 10)),
        (Span(0, 10), Span(10, 9)),
    ],
)
def test_a_split_that_does_not_cover_is_never_used(
    spans: tuple[Span, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a format ever be wrong, the file is opaque and no byte is lost."""
    monkeypatch.setattr("modelstore.formats.split.FORMATS", (Overlapping(*spans),))
    result = split(MemorySource(bytes(10)))
    assert result.spans == (Span(0, 10),)
    assert result.warning.startswith("'file' is no valid wrong file: ")


def test_gaps_are_filled_with_literals() -> None:
    """Between what was found, before and after, everything is literal."""
    found = [
        Span(2, 4, "U8", (Tensor("a", "U8", (2,)),)),
        Span(4, 4, "U8", (Tensor("e", "U8", (0,)),)),
    ]
    assert fill(found, 6) == (Span(0, 2), *found, Span(4, 6))
    assert checked_cover((), 0) == ()
    assert Split("opaque", ()).warning == ""


@pytest.mark.parametrize("shape", [(2**62, 4), (0, 2**62, 4), (1,) * 65, (MAX_COUNT + 1,)])
def test_shapes_that_overflow_are_refused(shape: tuple[int, ...]) -> None:
    """A product that no 64-bit reader could hold is refused, a zero beside it or not."""
    with pytest.raises(MalformedError):
        count_values(shape, "a")


def test_shapes_are_counted() -> None:
    """A scalar has one value, a zero makes none."""
    assert [count_values(shape, "a") for shape in [(), (3, 4), (3, 0), (1,) * 64]] == [1, 12, 0, 1]


@pytest.mark.parametrize("name", ["a\0", "\ud800"])
def test_names_that_are_no_text_are_refused(name: str) -> None:
    """A NUL or half a surrogate pair cannot be in a tensor's name."""
    with pytest.raises(MalformedError):
        check_name(name)


def test_long_names_are_cut_in_messages() -> None:
    """A message quotes at most a line of a name."""
    assert len(quoted("x" * 1000)) < 100
