"""What every format demands alike: names, shapes, and spans that cover the file.

The limits are far above what any model needs, and low enough that a hostile header cannot make a
reader allocate much more than the header itself weighs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelstore.formats.base import MalformedError, Span

MAX_TENSORS = 250_000
"""Tensors of one file; the largest mixtures of experts have some 100,000, in many files."""

MAX_RANK = 64
"""Dimensions of one tensor; numpy has the same limit."""

MAX_COUNT = 2**63 - 1
"""Values of one tensor, bytes of one file, and any offset in it."""

_SHOWN = 80


def quoted(text: str) -> str:
    """Return ``text`` for a message: quoted, control characters escaped, cut to one line's length."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def check_name(name: str) -> str:
    """Return ``name`` if it can be the name of a tensor.

    Raises:
        MalformedError: it holds a NUL or half a surrogate pair, which no UTF-8 text can.
    """
    if "\0" in name:
        raise MalformedError(f"the name {quoted(name)} holds a NUL")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"the name {quoted(name)} is not Unicode text") from error
    return name


def count_values(shape: Sequence[int], name: str) -> int:
    """Return how many values a tensor of this shape has.

    Raises:
        MalformedError: too many dimensions, or their product overflows even without the zeros, which
            would hit whoever multiplies in another order.
    """
    if len(shape) > MAX_RANK:
        raise MalformedError(f"tensor {quoted(name)} has {len(shape)} dimensions")
    count = 1
    for size in shape:
        count *= size or 1
        if not 0 < count <= MAX_COUNT:
            raise MalformedError(f"the shape of tensor {quoted(name)} overflows")
    return 0 if 0 in shape else count


def fill(found: Iterable[Span], size: int) -> tuple[Span, ...]:
    """Return ``found``, which is sorted and disjoint, with literal spans in the gaps up to ``size``.

    Raises:
        MalformedError: spans overlap, are out of order or leave the file.
    """
    spans: list[Span] = []
    position = 0
    for span in found:
        if span.start > position:
            spans.append(Span(position, span.start))
        spans.append(span)
        position = span.stop
    if position < size:
        spans.append(Span(position, size))
    return checked_cover(spans, size)


def checked_cover(spans: Sequence[Span], size: int) -> tuple[Span, ...]:
    """Return ``spans`` if they cover ``size`` bytes exactly and in order.

    Raises:
        MalformedError: they do not, or a literal span is empty.
    """
    position = 0
    for span in spans:
        if span.start != position or span.stop < span.start:
            raise MalformedError(f"its parts overlap, or leave a hole, at byte {position}")
        if span.start == span.stop and not span.tensors:
            raise MalformedError(f"it has an empty part at byte {position}")
        if span.stop > size:
            what = f"tensor {quoted(span.tensors[0].name)}" if span.tensors else "a part"
            raise MalformedError(f"{what} is claimed to end at byte {span.stop} of {size}")
        position = span.stop
    if position != size:
        raise MalformedError(f"its parts end at byte {position} of {size}")
    return tuple(spans)
