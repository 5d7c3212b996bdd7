"""Spans of a safetensors file: the header as it stands, then one span per tensor.

The format is 8 bytes of header length, a JSON header and the tensors, without holes
(https://github.com/huggingface/safetensors, "Format").
The reader accepts a subset of what the safetensors library accepts: nothing that two readers could
understand differently, such as a name that occurs twice.

The header is read with a small parser of exactly the grammar that a header has, rather than with
`json.loads`: one pass, no recursion, and no memory beyond the tensors it describes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from modelstore.formats.base import MalformedError, Source, Span, Tensor
from modelstore.formats.rules import (
    MAX_COUNT,
    MAX_RANK,
    MAX_TENSORS,
    check_name,
    checked_cover,
    count_values,
    quoted,
)
from modelstore.numeric import item_size

MAX_HEADER = 32 << 20
"""Bytes of the longest header; it is read as a whole. The safetensors library reads 100 MB."""

_LENGTH = 8
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
_NOT_IN_SAFETENSORS = {"C128"}

_SPACE = re.compile(r"[ \t\n\r]*")
_COUNT = re.compile(r"(?:0|[1-9][0-9]{0,18})(?![0-9.eE])")
_PLAIN = re.compile(r"true|false|null")
_STRINGS = json.JSONDecoder()


class Safetensors:
    """Finds the tensors of a safetensors file."""

    name = "safetensors"

    def matches(self, source: Source) -> bool:
        """Tell by a header that begins with a brace after a plausible length, or by the suffix."""
        if source.name.endswith(".safetensors"):
            return True
        if source.size <= _LENGTH:
            return False
        start = source.read(0, _LENGTH + 1)
        return start[_LENGTH:] == b"{" and int.from_bytes(start[:_LENGTH], "little") <= MAX_HEADER

    def spans(self, source: Source) -> Sequence[Span]:
        """Return the header's span and one per tensor, in the order of their data."""
        data_start = _LENGTH + _header_length(source)
        header = source.read(_LENGTH, data_start)
        try:
            text = header.decode()
        except UnicodeDecodeError as error:
            raise MalformedError("its header is not UTF-8 text") from error
        tensors = _HeaderReader(text, data_start).tensors()
        tensors.sort(key=lambda span: (span.start, span.stop))
        return checked_cover([Span(0, data_start), *tensors], source.size)


def _header_length(source: Source) -> int:
    if source.size < _LENGTH:
        raise MalformedError(f"it has {source.size} bytes, fewer than the length of a header")
    length = int.from_bytes(source.read(0, _LENGTH), "little")
    if length > MAX_HEADER:
        raise MalformedError(f"it claims a header of {length} bytes, more than {MAX_HEADER}")
    if length > source.size - _LENGTH:
        left = source.size - _LENGTH
        raise MalformedError(f"it claims a header of {length} bytes where {left} are left")
    return length


def _bits_of(dtype: str, name: str) -> int:
    bits = _BITS.get(dtype) or item_size(dtype) * 8
    if not bits or dtype in _NOT_IN_SAFETENSORS:
        raise MalformedError(f"tensor {quoted(name)} has the unknown dtype {quoted(dtype)}")
    return bits


class _HeaderReader:
    """Reads the JSON of a header, whose ``data_offsets`` count from ``data_start``."""

    def __init__(self, text: str, data_start: int) -> None:
        self._text = text
        self._at = 0
        self._data_start = data_start

    def tensors(self) -> list[Span]:
        """Return a span per tensor, in the header's order."""
        if not self._text.startswith("{"):
            raise MalformedError("its header does not begin with a brace")
        found: list[Span] = []
        names: set[str] = set()
        for name in self._keys():
            if name in names:
                raise MalformedError(f"its header has {quoted(name)} twice")
            if len(names) > MAX_TENSORS:
                raise MalformedError(f"it claims more than {MAX_TENSORS} tensors")
            names.add(name)
            if name == "__metadata__":
                self._skip_metadata()
            else:
                found.append(self._tensor(check_name(name)))
        self._skip_space()
        if self._at != len(self._text):
            raise self._unexpected()
        return found

    def _tensor(self, name: str) -> Span:
        dtype: str | None = None
        shape: tuple[int, ...] | None = None
        offsets: tuple[int, ...] | None = None
        fields: set[str] = set()
        for field in self._keys():
            if field in fields:
                raise MalformedError(f"tensor {quoted(name)} has the field {quoted(field)} twice")
            fields.add(field)
            if field == "dtype":
                dtype = self._string()
            elif field == "shape":
                shape = self._counts()
            elif field == "data_offsets":
                offsets = self._counts()
            else:
                self._skip_scalar()
        if dtype is None or shape is None or offsets is None or len(offsets) != 2:
            raise MalformedError(f"tensor {quoted(name)} lacks its dtype, shape or data_offsets")
        return self._span(Tensor(name, dtype, shape), offsets[0], offsets[1])

    def _span(self, tensor: Tensor, start: int, stop: int) -> Span:
        bits = count_values(tensor.shape, tensor.name) * _bits_of(tensor.dtype, tensor.name)
        if bits > MAX_COUNT or bits % 8 or stop - start != bits // 8:
            raise MalformedError(
                f"tensor {quoted(tensor.name)} claims {stop - start} bytes where its shape needs "
                f"{bits / 8:g}"
            )
        return Span(self._data_start + start, self._data_start + stop, tensor.dtype, (tensor,))

    # --- JSON

    def _keys(self) -> Iterator[str]:
        """Yield the keys of the map at hand; whoever takes a key reads its value."""
        self._expect("{")
        if self._accept("}"):
            return
        while True:
            key = self._string()
            self._expect(":")
            yield key
            if self._accept("}"):
                return
            self._expect(",")

    def _skip_metadata(self) -> None:
        if self._accept("null"):
            return
        keys: set[str] = set()
        for key in self._keys():
            if key in keys:
                raise MalformedError(f"its metadata has {quoted(key)} twice")
            keys.add(key)
            self._string()

    def _skip_scalar(self) -> None:
        """Pass a field that we do not know; it is kept, for the header is kept as it stands."""
        self._skip_space()
        if self._text.startswith('"', self._at):
            self._string()
            return
        match = _PLAIN.match(self._text, self._at) or _COUNT.match(self._text, self._at)
        if match is None:
            raise self._unexpected()
        self._at = match.end()

    def _counts(self) -> tuple[int, ...]:
        self._expect("[")
        values: list[int] = []
        if self._accept("]"):
            return ()
        while len(values) <= MAX_RANK:
            values.append(self._count())
            if self._accept("]"):
                return tuple(values)
            self._expect(",")
        raise MalformedError(f"its header has a list of more than {MAX_RANK} numbers")

    def _count(self) -> int:
        self._skip_space()
        match = _COUNT.match(self._text, self._at)
        if match is None or int(match[0]) > MAX_COUNT:
            raise self._unexpected()
        self._at = match.end()
        return int(match[0])

    def _string(self) -> str:
        self._skip_space()
        if not self._text.startswith('"', self._at):
            raise self._unexpected()
        try:
            value, self._at = _STRINGS.raw_decode(self._text, self._at)
            value.encode()  # half a surrogate pair, written as an escape, is no text
        except ValueError as error:
            raise self._unexpected() from error
        return str(value)

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _accept(self, token: str) -> bool:
        self._skip_space()
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._unexpected()

    def _unexpected(self) -> MalformedError:
        return MalformedError(f"its header is not valid at character {self._at}")
