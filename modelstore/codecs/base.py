"""What a codec is: two pure functions of one block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs.ids import CodecInfo
from modelstore.hashing import Bytes
from modelstore.numeric import DType

Bits: TypeAlias = NDArray[Any]
"""Values seen as unsigned integers of their own width; one dimension, contiguous.

Any, because numpy's annotations make a signed integer of every shift by a plain int.
"""

Planes: TypeAlias = NDArray[np.uint8]
"""Bytes of shape (planes, values), contiguous; or one plane of them, of shape (values,)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a block lies in the rows of its tensor: a coder may learn rows and columns from it.

    A decoder is not told; what it needs of this is in the payload.

    Attributes:
        columns: values in a row; 0 where that is unknown, or there are no rows.
        phase: index of the block's first value within its row; 0 where ``columns`` is.
    """

    columns: int
    phase: int

    def after(self, count: int) -> Grid:
        """Return the grid of what begins ``count`` values later."""
        return Grid(self.columns, (self.phase + count) % self.columns) if self.columns else self


NO_GRID = Grid(0, 0)
"""Of values without rows."""


class PayloadError(ValueError):
    """A payload breaks the rules of its codec.

    Not a `StoreError`: whoever knows which blob the payload is of says so.
    """


class Codec(Protocol):
    """Encodes and decodes one block, without memory, I/O or threads of its own.

    Both functions may run in several threads at once.
    """

    @property
    def info(self) -> CodecInfo:
        """Its id and name."""
        ...

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return the body of a coded block.

        Args:
            values: the block, 1 to 2**22 values.
            dtype: what the bits mean; ``values`` are of its width.
            base: the values of the base at the same indices, of the same dtype; may be shorter
                than ``values``; None where there are none or the codec takes no base.
            grid: where the block lies in the rows of its tensor.
        """
        ...

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the ``count`` values that `encode` made ``body`` of, given the same base.

        Never allocates more than a small multiple of the block, whatever ``body`` claims.

        Raises:
            PayloadError: ``body`` is not what `encode` could have returned.
        """
        ...
