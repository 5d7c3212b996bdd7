"""What a format is: something that finds spans in a file, and nothing else.

Spans cover a file exactly and in order, so a file is always put back by joining its spans.
A wrong split can therefore cost space, never a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Source(Protocol):
    """Random access to the bytes of a file that is being split."""

    @property
    def name(self) -> str:
        """The file's name, without directories; a hint, never trusted."""
        ...

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return exactly the bytes ``[start, stop)``; it lies within the file."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """How a tensor lies within a span that holds more, or other, than its values in order.

    Attributes:
        offset: index of the tensor's first value within the span, in values.
        strides: one per dimension, in values.
    """

    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that a span holds.

    Attributes:
        name: as the file spells it; never used as a path.
        dtype: the name of a `modelstore.numeric.DType`, or of a GGUF quantisation such as "Q4_K".
        shape: outermost dimension first, as numpy and torch write it; () for a scalar.
        view: None where the span is exactly the tensor's values in row-major order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    view: View | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``[start, stop)`` of a file that become one blob.

    Attributes:
        start, stop: half open, in bytes from the beginning of the file.
        dtype: how to read the bytes as numbers ("" for literal bytes): tells the codec, not the reader.
        tensors: the tensors that lie in it, () for literal bytes; several where weights are tied.
    """

    start: int
    stop: int
    dtype: str = ""
    tensors: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """A file, cut into spans.

    Attributes:
        format: the format's name ("safetensors", "torch", "gguf", "opaque").
        spans: cover the file exactly and in order; no span is empty unless it is a tensor of no values.
        warning: what a header claimed and the file did not hold, one sentence, or "".
    """

    format: str
    spans: tuple[Span, ...]
    warning: str = ""


class MalformedError(Exception):
    """A file starts like a format but breaks its rules; it will be stored as opaque bytes.

    Not a `StoreError`: it never reaches a user, only its text does, as a warning.
    """


class Format(Protocol):
    """Finds the spans of one kind of file."""

    @property
    def name(self) -> str:
        """The name that manifests carry."""
        ...

    def matches(self, source: Source) -> bool:
        """Tell from a few bytes whether this file claims to be of the format."""
        ...

    def spans(self, source: Source) -> Sequence[Span]:
        """Return the spans of the file.

        Raises:
            MalformedError: the file breaks a rule of the format.
        """
        ...
