"""How the tensors of one torch storage become spans.

Mostly a storage is one tensor, or several names share it; then the span is that tensor, and equals
the span of the same tensor in any other format. Tensors that lie side by side get a span each.
Where views overlap or are strided the whole storage is one span, and each tensor says how it lies
in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from modelstore.formats.base import MalformedError, Span, Tensor, View
from modelstore.formats.rules import count_values, quoted
from modelstore.formats.torch_pickle import PickledTensor
from modelstore.numeric import item_size


@dataclass(frozen=True, slots=True)
class _Placed:
    """A tensor, and the bytes ``[start, stop)`` of its storage that its values lie between."""

    tensor: Tensor
    view: View
    start: int
    stop: int
    row_major: bool


def storage_spans(start: int, stop: int, tensors: dict[str, PickledTensor]) -> list[Span]:
    """Return the spans that ``tensors`` make of their storage, bytes ``[start, stop)`` of the file.

    Bytes that are in no tensor are in no span, unless the storage has to stay whole.

    Raises:
        MalformedError: a tensor is claimed to lie outside of its storage.
    """
    placed = [_place(name, tensor, stop - start) for name, tensor in tensors.items()]
    empty = [one for one in placed if one.start == one.stop]
    full = sorted((one for one in placed if one.start < one.stop), key=lambda p: (p.start, p.stop))
    spans = [Span(start, start, one.tensor.dtype, (one.tensor,)) for one in empty]
    if _are_apart(full):
        return spans + _apart(start, full)
    return [*spans, _whole(start, stop, full)]


def _place(name: str, tensor: PickledTensor, size: int) -> _Placed:
    width = item_size(tensor.dtype)
    start = stop = tensor.offset * width
    if count_values(tensor.shape, name):
        steps = zip(tensor.shape, tensor.strides, strict=True)
        stop += (1 + sum((count - 1) * stride for count, stride in steps)) * width
    if stop > size:
        raise MalformedError(f"tensor {quoted(name)} is claimed to end at byte {stop} of {size}")
    return _Placed(
        Tensor(name, tensor.dtype, tensor.shape),
        View(tensor.offset, tensor.strides),
        start,
        stop,
        _is_row_major(tensor.shape, tensor.strides),
    )


def _is_row_major(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for count, stride in zip(reversed(shape), reversed(strides), strict=True):
        if count != 1 and stride != expected:
            return False
        expected *= count
    return True


def _are_apart(placed: Sequence[_Placed]) -> bool:
    """Tell whether any two sorted tensors are the same bytes or have none in common."""
    if not all(one.row_major for one in placed):
        return False
    return all(
        b.start >= a.stop or (a.start, a.stop) == (b.start, b.stop) for a, b in pairwise(placed)
    )


def _apart(start: int, placed: Sequence[_Placed]) -> list[Span]:
    names: dict[tuple[int, int], list[Tensor]] = {}
    for one in placed:
        names.setdefault((one.start, one.stop), []).append(one.tensor)
    return [
        Span(start + begin, start + end, tensors[0].dtype, tuple(tensors))
        for (begin, end), tensors in names.items()
    ]


def _whole(start: int, stop: int, placed: Sequence[_Placed]) -> Span:
    dtype = placed[0].tensor.dtype
    if (stop - start) % item_size(dtype):
        dtype = "U8"  # an untyped storage with bytes to spare
    tensors = (
        one.tensor
        if one.row_major and one.stop - one.start == stop - start
        else replace(one.tensor, view=one.view)
        for one in placed
    )
    return Span(start, stop, dtype, tuple(tensors))
