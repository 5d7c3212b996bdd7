"""How far two tensors are apart, in one pass and little memory.

Both are decoded block by block, and each pair of pieces is compared in float64; so two versions of
any size are compared in the memory of a few blocks. Where pieces are equal, only the norm is taken.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from modelstore.formats.base import Tensor
from modelstore.hashing import Bytes
from modelstore.numeric import item_size
from modelstore.ops.read import Located, read_span, whole_values
from modelstore.store import Store
from modelstore.values import NumpyArrays, as_wide, check_fit

_PIECE = 8 << 20
"""Bytes of a part of a larger span that are read at once."""

_MOST_REPEATED = 4
"""Times that values which a view repeats are compared; beyond, each of them is once."""

_AT_ONCE = 1 << 16
"""Bytes that are compared at once: 215 M values a second on one core, 56 M with a whole block."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How two tensors of one dtype and shape differ.

    Attributes:
        values: how many each has; of a packed kind, bytes.
        changed: how many of them have other bits.
        relative_l2: ‖after − before‖ / ‖before‖; None for packed kinds, where ``before`` is all zero,
            or where the norm is more than a float64 holds.
        max_abs: the largest |after − before|; None for packed kinds.
        not_finite: how many values of before, and of after, are NaN or infinite; wherever one of a
            pair is, the pair is left out of ``relative_l2`` and ``max_abs``.
    """

    values: int
    changed: int
    relative_l2: float | None
    max_abs: float | None
    not_finite: tuple[int, int] = (0, 0)


def distance(store: Store, before: Located, after: Located) -> Distance:
    """Return how far ``after`` is from ``before``, which has the same dtype and shape.

    Raises:
        IntegrityError: a blob is damaged.
    """
    dtype = before.tensor.dtype
    total = _Totals()
    with ExitStack() as stack:
        pieces = [stack.enter_context(closing(_pieces(store, one))) for one in (before, after)]
        for old, new in _aligned(pieces[0], pieces[1], item_size(dtype) or 1):
            total.add(old, new, dtype)
    return total.distance(packed=not item_size(dtype))


def _pieces(store: Store, one: Located) -> Generator[Bytes, None, None]:
    """Yield the values of a tensor in row-major order."""
    tensor, span = one.tensor, one.span
    check_fit(tensor, span.size)
    if tensor.view is None:
        yield from store.blobs.blocks(span.blob)
    elif _is_row_major(tensor):
        yield from _part(store, one)
    elif math.prod(tensor.shape) * item_size(tensor.dtype) > _MOST_REPEATED * span.size:
        yield from store.blobs.blocks(span.blob)  # one value, said to stand for terabytes
    else:
        flat = NumpyArrays(raw=True).flat(
            whole_values(read_span(store, span), tensor.dtype), tensor.dtype
        )
        yield NumpyArrays().shaped(flat, tensor).tobytes()


def _part(store: Store, one: Located) -> Iterator[Bytes]:
    """Yield the values of a tensor that lies in one piece of a larger span."""
    tensor, view = one.tensor, one.tensor.view
    width = item_size(tensor.dtype)
    start = view.offset * width if view is not None else 0
    stop = start + math.prod(tensor.shape) * width
    for at in range(start, stop, _PIECE):
        yield store.blobs.read_range(one.span.blob, at, min(at + _PIECE, stop))


def _is_row_major(tensor: Tensor) -> bool:
    expected = 1
    strides = tensor.view.strides if tensor.view is not None else ()
    for count, stride in zip(reversed(tensor.shape), reversed(strides), strict=True):
        if count != 1 and stride != expected:
            return False
        expected *= count
    return True


def _aligned(
    before: Iterator[Bytes], after: Iterator[Bytes], width: int
) -> Iterator[tuple[memoryview, memoryview]]:
    """Yield pairs of equally long pieces of whole values; frames may have different blocks.

    Both streams are taken to their ends, for only there a blob is known to match its name.
    """
    left = right = memoryview(b"")
    while True:
        left = left or _next(before, width)
        right = right or _next(after, width)
        size = min(len(left), len(right), _AT_ONCE)
        if not size:
            return
        yield left[:size], right[:size]
        left, right = left[size:], right[size:]


def _next(pieces: Iterator[Bytes], width: int) -> memoryview:
    """Return the next piece of whole values, joined to the one after it where it has to be."""
    piece = memoryview(next(pieces, b"")).cast("B")
    while len(piece) % width:
        more = next(pieces, b"")
        if not more:
            break
        piece = memoryview(b"".join((piece, more)))
    return piece


class _Totals:
    """Sums over pairs of pieces; float64 throughout."""

    def __init__(self) -> None:
        self._values = 0
        self._changed = 0
        self._before = 0.0
        self._apart = 0.0
        self._largest = 0.0
        self._not_finite = [0, 0]

    def add(self, old: memoryview, new: memoryview, dtype: str) -> None:
        """Take a pair of pieces of ``dtype``."""
        import numpy as np

        changed = _differing(old, new, item_size(dtype) or 1)
        self._values += len(old) // (item_size(dtype) or 1)
        self._changed += changed
        if item_size(dtype):
            with np.errstate(all="ignore"):  # what overflows is reported, not warned about
                self._measure(as_wide(old, dtype), as_wide(new, dtype) if changed else None)

    def _measure(self, old: Any, new: Any) -> None:
        import numpy as np

        finite = np.isfinite(old)
        self._not_finite[0] += old.size - int(np.count_nonzero(finite))
        if new is None:
            self._not_finite[1] += old.size - int(np.count_nonzero(finite))
            self._before += _square(old if finite.all() else old[finite])
            return
        also = np.isfinite(new)
        self._not_finite[1] += new.size - int(np.count_nonzero(also))
        both = finite & also
        if not both.all():
            old, new = old[both], new[both]
        apart = np.abs(new - old)
        self._before += _square(old)
        self._apart += _square(apart)
        self._largest = max(self._largest, float(apart.max(initial=0.0)))

    def distance(self, *, packed: bool) -> Distance:
        """Return the result."""
        if packed:
            return Distance(self._values, self._changed, None, None)
        relative = None
        if math.isfinite(self._before) and math.isfinite(self._apart):
            relative = math.sqrt(self._apart / self._before) if self._before else None
            relative = 0.0 if not self._apart else relative
        largest = self._largest if math.isfinite(self._largest) else None
        before, after = self._not_finite
        return Distance(self._values, self._changed, relative, largest, (before, after))


def _differing(old: memoryview, new: memoryview, width: int) -> int:
    """Return how many values of ``width`` bytes have other bits."""
    import numpy as np

    word = min(width, 8)
    differ = np.frombuffer(old, f"u{word}") != np.frombuffer(new, f"u{word}")
    if width > word:
        differ = differ.reshape(-1, width // word).any(axis=1)
    return int(np.count_nonzero(differ))


def _square(values: Any) -> float:
    """Return the sum of the squared absolute values."""
    import numpy as np

    if values.dtype.kind == "c":
        return _square(values.real) + _square(values.imag)
    return float(np.square(values).sum())
