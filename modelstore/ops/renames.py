"""The tensors of a version by name, and by what else they might be called.

A model that is wrapped gets a prefix, one that gets another layer has the following ones shifted,
one that is converted gets other names altogether. What stays are the shape, the end of the name,
and the number of the layer or its distance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from modelstore.formats.base import Tensor
from modelstore.manifest import BlobSpan, Manifest
from modelstore.numeric import dtype_named

_FARTHEST = 8
"""Layers that one may have been shifted by, beside the shift that was seen last."""


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor, the span it lies in, and its name taken apart.

    Attributes:
        pattern: the parts between the dots, "" for numbers.
        numbers: those numbers.
    """

    tensor: Tensor
    span: BlobSpan
    pattern: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor, span: BlobSpan) -> Named:
        """Take the name of ``tensor`` apart."""
        parts = tensor.name.split(".")
        digits = [part.isascii() and part.isdigit() and len(part) < 10 for part in parts]
        pattern = tuple("" if d else part for d, part in zip(digits, parts, strict=True))
        numbers = tuple(int(part) for d, part in zip(digits, parts, strict=True) if d)
        return cls(tensor, span, pattern, numbers)

    def shift_from(self, other: Named) -> int:
        """Return by how many layers ``other`` lies before this."""
        return self.numbers[0] - other.numbers[0] if self.numbers and other.numbers else 0


_Key = tuple[object, ...]


class Catalogue:
    """The tensors of one version."""

    def __init__(self, manifest: Manifest) -> None:
        self._by_name: dict[str, list[Named]] = defaultdict(list)
        for _, span, tensor in manifest.tensors():
            self._by_name[tensor.name].append(Named.of(tensor, span))

    @cached_property
    def _by_end(self) -> dict[_Key, dict[tuple[int, ...], list[Named]]]:
        """Tensors by what lookalikes share, and by their numbers; most commits do not ask."""
        found: dict[_Key, dict[tuple[int, ...], list[Named]]] = defaultdict(dict)
        for named in chain.from_iterable(self._by_name.values()):
            for length in range(1, len(named.pattern) + 1):
                found[_key(named, length)].setdefault(named.numbers, []).append(named)
        return found

    def namesakes(self, wanted: Named) -> Iterator[Named]:
        """Yield the tensors of this name that have as many columns; rows may be more or fewer."""
        found = self._by_name.get(wanted.tensor.name, [])
        yield from (named for named in found if _fits(wanted, named))

    def lookalikes(self, wanted: Named, shift: int) -> Iterator[Named]:
        """Yield tensors of this shape and other names, the likeliest first, some perhaps twice.

        Args:
            shift: by how many layers the last one that was found had been shifted.
        """
        for length in range(len(wanted.pattern), 0, -1):
            places = self._by_end.get(_key(wanted, length), {})
            for numbers in _near(wanted.numbers, shift):
                for named in places.get(numbers, ()):
                    if named.tensor.name != wanted.tensor.name:
                        yield named


def _key(named: Named, length: int) -> _Key:
    """Return what lookalikes share: shape, kind of numbers, and the end of the name."""
    return named.tensor.shape, _kind(named), named.pattern[-length:]


def _kind(named: Named) -> str:
    """Return what the numbers of two tensors share if one may be the base of the other."""
    if named.tensor.view is not None:
        return f"view of {named.span.dtype} {named.span.size}"
    return "float" if dtype_named(named.span.dtype).is_float else named.span.dtype


def _fits(one: Named, other: Named) -> bool:
    # rows are stored one after the other, so more of them begin like fewer
    return _kind(one) == _kind(other) and one.tensor.shape[1:] == other.tensor.shape[1:]


def _near(numbers: tuple[int, ...], shift: int) -> Iterator[tuple[int, ...]]:
    """Yield the numbers that a tensor may have had: shifted as the last, the same, and nearby."""
    if not numbers:
        yield numbers
        return
    steps = [shift, 0, *(sign * by for by in range(1, _FARTHEST + 1) for sign in (1, -1))]
    for step in dict.fromkeys(steps):
        yield (numbers[0] - step, *numbers[1:])
