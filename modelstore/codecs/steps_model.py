"""What a payload of the steps codec says of how its tokens are coded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from modelstore.codecs import rans, steps_numpy, streams
from modelstore.codecs.base import PayloadError, Planes

_HEAD = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Model:
    """How the tokens of a block are coded.

    Attributes:
        offsets: 256 bytes: the part of a class that the exponent gives.
        rows, columns: bytes: the parts that row and column give; empty where they do not matter.
        phase: index of the first value within its row.
        contexts: 256 bytes: the context of each class.
        tables: of every context.
    """

    offsets: Planes
    rows: Planes
    columns: Planes
    phase: int
    contexts: Planes
    tables: rans.Tables

    def pack(self, context_bits: int) -> bytes:
        """Return the model as bytes.

        Args:
            context_bits: of the exponent.
        """
        return b"".join(
            (
                _HEAD.pack(self.columns.size, self.phase),
                self.offsets[: 1 << context_bits].tobytes(),
                self.contexts.tobytes(),
                rans.pack_tables(self.tables),
                self.rows.tobytes(),
                self.columns.tobytes(),
            )
        )

    @classmethod
    def unpack(cls, data: bytes, context_bits: int, count: int) -> Model:
        """Return the model of ``count`` values that `pack` gave ``data`` for.

        Raises:
            PayloadError: there is none.
        """
        head, rest = streams.take(memoryview(data), _HEAD.size)
        width, phase = _HEAD.unpack(head)
        if phase >= max(1, width) or width > count + phase:
            raise PayloadError("a block does not lie in rows as it says")
        offsets, rest = streams.take(rest, 1 << context_bits)
        numbers, rest = streams.take(rest, 256)
        contexts = np.array(numbers, np.uint8)
        tables, rest = rans.unpack_tables(rest, int(contexts.max()) + 1)
        height = -(-(phase + count) // width) if width else 0
        rows, rest = streams.take(rest, height)
        columns, rest = streams.take(rest, width)
        if rest:
            raise PayloadError(f"{len(rest)} bytes after a model")
        padded = np.zeros(256, np.uint8)
        padded[: len(offsets)] = np.frombuffer(offsets, np.uint8)
        return cls(
            offsets=padded,
            rows=np.array(rows, np.uint8),
            columns=np.array(columns, np.uint8),
            phase=phase,
            contexts=contexts,
            tables=tables,
        )

    def contexts_of(self, exponents: Planes) -> Planes:
        """Return the context of each value, from the exponents of their bases."""
        loops, found = steps_loops(), np.empty(exponents.size, np.uint8)
        if not self.columns.size:
            loops.look_up(exponents, self.contexts[self.offsets], found)
            return found
        classes = np.empty(exponents.size, np.uint8)
        loops.look_up(exponents, self.offsets, classes)
        loops.add_rows(self.rows, self.columns, self.phase, classes)
        loops.look_up(classes, self.contexts, found)
        return found


def steps_loops() -> ModuleType:
    """Return the loops that decoding steps needs, compiled if numba is to be had."""
    try:
        from modelstore.codecs import steps_numba  # loads numba
    except ImportError:
        return steps_numpy
    return steps_numba
