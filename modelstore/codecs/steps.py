"""Numbers as steps from a base, entropy-coded in the context of what tells how long a step is.

See `contexts` for why this is small, and `rans` for how it is coded.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelstore.codecs import fields, ids, rans, steps_numpy, streams, zstd
from modelstore.codecs.base import Bits, Grid, PayloadError, Planes
from modelstore.codecs.entropy import EntropyCodec
from modelstore.codecs.on_base import OnBase
from modelstore.codecs.steps_model import Model, steps_loops
from modelstore.numeric import DType

_LENGTH = struct.Struct("<I")


class StepsCodec(OnBase):
    """Steps as far as the base reaches, numbers alone beyond it."""

    info = ids.STEPS

    def __init__(self) -> None:
        super().__init__(EntropyCodec())

    def encode_differences(self, values: Bits, dtype: DType, base: Bits, grid: Grid) -> bytes:
        """Return the steps from ``base`` to ``values``, coded."""
        return _encode_steps(values, dtype, base, grid)

    def decode_differences(self, body: memoryview, dtype: DType, base: Bits) -> Bits:
        """Return the values that lie the steps in ``body`` away from ``base``."""
        return _decode_steps(body, dtype, base)


class LowRankCodec(StepsCodec):
    """Steps from what a product of low rank makes of the base; whoever calls has made that."""

    info = ids.LOWRANK


def _exponent(layout: fields.Layout) -> tuple[Any, Any]:
    """Return where the exponent begins, and a mask of those of its bits that matter."""
    kind = np.dtype(f"u{layout.width}").type
    return kind(layout.mantissa), kind((1 << layout.context_bits) - 1)


def _order(layout: fields.Layout) -> tuple[Any, Any]:
    """Return what to invert in negative numbers, and the largest number that is not."""
    kind = np.dtype(f"u{layout.width}").type
    half = (1 << (8 * layout.width - 1)) - 1
    return kind(half if layout.ordered else 0), kind(half)


def _encode_steps(values: Bits, dtype: DType, base: Bits, grid: Grid) -> bytes:
    from modelstore.codecs import contexts, steps_numba  # load numba
    from modelstore.codecs.compiling import steady

    layout = fields.layout_of(dtype)
    tokens, exponents = _tokens(values.size), np.empty(values.size, np.uint8)
    extra = np.empty(values.nbytes // 8 + 2, np.uint64)
    known = (*_order(layout), *_exponent(layout))
    filled = (tokens, tokens.view(np.uint64), exponents, extra)
    bits = int(steps_numba.differ(steady(values), steady(base), *known, *filled))
    model, numbers = contexts.learn(tokens[: values.size], exponents, grid)
    head = zstd.compress(model.pack(layout.context_bits), zstd.FAST)
    coded = rans.encode(tokens[: values.size], numbers, model.tables)
    below = extra[: bits // 64 + 1].astype("<u8").view(np.uint8)[: -(-bits // 8)]
    return b"".join((_LENGTH.pack(len(head)), head, coded, below.data))


def _decode_steps(body: memoryview, dtype: DType, base: Bits) -> Bits:
    layout = fields.layout_of(dtype)
    length, rest = streams.take(body, _LENGTH.size)
    head, rest = streams.take(rest, _LENGTH.unpack(length)[0])
    packed = zstd.decompress_at_most(head, _largest_head(base.size))
    model = Model.unpack(packed, layout.context_bits, base.size)
    if model.tables.shape[1] > _most_tokens(layout.width):
        raise PayloadError("a token stands for more than a number holds")
    loops = steps_loops()
    base = loops.steady(base)
    exponents = np.empty(base.size, np.uint8)
    loops.exponents_of(base, *_exponent(layout), exponents)
    tokens = _tokens(base.size)
    contexts = model.contexts_of(exponents)
    rest = rans.decode(rest, contexts, model.tables, tokens[: base.size])
    extra = _words_of(rest, int(loops.bits_below(tokens)))
    values = np.empty(base.size, base.dtype)
    loops.restore(tokens, tokens.view(np.uint64), extra, base, *_order(layout), values)
    return values


def _tokens(count: int) -> Planes:
    """Return room for tokens, and zeros up to a multiple of 64."""
    tokens = np.empty(-(-count // 64) * 64, np.uint8)
    tokens[count:] = 0
    return tokens


def _largest_head(count: int) -> int:
    """Return the most bytes of a model of so many values: tables, and a row or column for each."""
    return 1024 + 2 * 256 * 256 + 2 * count


def _most_tokens(width: int) -> int:
    """Return how many tokens there are for numbers of so many bytes."""
    return steps_numpy.token_of((1 << 8 * width) - 1) + 1


def _words_of(below: memoryview, bits: int) -> NDArray[np.uint64]:
    """Return the words whose lowest bits, the first word first, are in ``below``; and one more."""
    if len(below) != -(-bits // 8):
        raise PayloadError(f"{len(below)} bytes where {bits} bits belong")
    if bits % 8 and below[-1] >> bits % 8:
        raise PayloadError("bits that belong to no number are not zero")
    words = np.zeros(bits // 64 + 2, np.uint64)
    words.view(np.uint8)[: len(below)] = np.frombuffer(below, np.uint8)
    return words
