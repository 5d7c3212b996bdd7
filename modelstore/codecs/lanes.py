"""Eight numbers, or 64 bytes, at once: the few things that no compiler makes of a loop by itself.

Compiled loops call these as functions. They are made of the vector instructions that processors
have from Ice Lake and Zen 4 on; elsewhere, where `AVAILABLE` is false, nothing may call them, and
loops that work on one number at a time give the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, register_model

from modelstore.codecs.compiling import processor_has, written

AVAILABLE = processor_has(
    *("avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512ifma", "avx512vbmi", "avx512vbmi2")
)

COUNT = 8
_PIECE = 64  # bytes that `translate` takes at once
_BIT, _BYTE, _WORD, _LONG = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_LANES = ir.VectorType(_LONG, COUNT)
_WORDS = ir.VectorType(_WORD, COUNT)
_MASK = ir.VectorType(_BIT, COUNT)
_FLOATS = ir.VectorType(ir.DoubleType(), COUNT)
_BYTES = ir.VectorType(_BYTE, _PIECE)
_EIGHT_BYTES = ir.VectorType(_BYTE, COUNT)

Value = Any
"""A value of the code that is being written; neither llvmlite nor numba has types."""

Code = tuple[Any, Callable[..., Value]]
"""The signature of a function, and what writes its code."""


class Lanes(types.Type):
    """Eight unsigned numbers of 64 bits."""

    def __init__(self) -> None:
        super().__init__("Lanes")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    """They are kept in one register."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LANES)  # type: ignore[no-untyped-call]


lanes = Lanes()
_ADVANCED = types.Tuple((lanes, types.uint64))  # type: ignore[no-untyped-call]

# --- parts of the code


def _of(kind: Any, values: int | Sequence[int]) -> Value:
    """Return a constant vector, of one value or several."""
    count = kind.count
    return ir.Constant(kind, [values] * count if isinstance(values, int) else list(values))


def _spread(builder: Any, value: Value, kind: Any) -> Value:
    """Return a vector of a number that is not known yet."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(first, nothing, _of(ir.VectorType(_WORD, kind.count), 0))


def _call(builder: Any, name: str, result: Any, *args: Value) -> Value:
    """Return what an instruction of this name of LLVM's gives."""
    kind = ir.FunctionType(result, [value.type for value in args])
    found = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, kind, name
    )
    return builder.call(found, args)


def _data(context: Any, builder: Any, kind: Any, array: Value) -> Value:
    return context.make_array(kind)(context, builder, array).data


def _read(builder: Any, data: Value, index: Value, kind: Any) -> Value:
    """Return a vector from memory, wherever it lies."""
    place = builder.bitcast(builder.gep(data, [index]), kind.as_pointer())
    value = builder.load(place)
    value.align = 1
    return value


def _write(builder: Any, value: Value, data: Value, index: Value) -> None:
    place = builder.bitcast(builder.gep(data, [index]), value.type.as_pointer())
    builder.store(value, place).align = 1


def _gather(builder: Any, data: Value, places: Value, name: str) -> Value:
    """Return what an array has at eight places."""
    item, size = data.type.pointee, int(name[1:]) // 8
    start = _spread(builder, builder.ptrtoint(data, _LONG), _LANES)
    addresses = builder.add(start, builder.mul(places, _of(_LANES, size)))
    pointers = builder.inttoptr(addresses, ir.VectorType(data.type, COUNT))
    kind = ir.VectorType(item, COUNT)
    rest = (ir.Constant(_WORD, size), _of(_MASK, 1), ir.Constant(kind, ir.Undefined))
    return _call(builder, f"llvm.masked.gather.v8{name}.v8p0", kind, pointers, *rest)


def _add_product(builder: Any, value: Value, left: Value, right: Value) -> Value:
    """Return value + left * right; factors below 2**52, all else below 2**52 too."""
    return _call(builder, "llvm.x86.avx512.vpmadd52l.uq.512", _LANES, value, left, right)


def _shift(builder: Any, value: Value, bits: int) -> Value:
    """Return a value without its lowest bits."""
    return builder.lshr(value, _of(value.type, bits))


def _low(builder: Any, value: Value, bits: int) -> Value:
    """Return the lowest bits of a value."""
    return builder.and_(value, _of(value.type, (1 << bits) - 1))


def _how_many(builder: Any, mask: Value) -> Value:
    return builder.zext(builder.ctpop(builder.bitcast(mask, _BYTE)), _LONG)


# --- functions


@written
def load(typing: Any, array: Any, index: Any) -> Code:
    """Return the eight numbers (uint64) of ``array`` from ``index`` on."""

    def code(context: Any, builder: Any, _: Any, args: Any) -> Value:
        return _read(builder, _data(context, builder, array, args[0]), args[1], _LANES)

    return lanes(array, index), code


@written
def store(typing: Any, value: Any, array: Any, index: Any) -> Code:
    """Put eight numbers into ``array`` (uint64) from ``index`` on."""

    def code(context: Any, builder: Any, _: Any, args: Any) -> Value:
        _write(builder, args[0], _data(context, builder, array, args[1]), args[2])
        return context.get_dummy_value()

    return types.none(value, array, index), code


@written
def pull(  # noqa: PLR0913  (all that a step of a decoder touches)
    typing: Any,
    states: Any,
    table: Any,
    contexts: Any,
    symbols: Any,
    index: Any,
    words: Any,
    place: Any,
) -> Code:
    """Decode eight symbols, as `rans_numba.decode_section` decodes each.

    Args:
        states: `Lanes`.
        table: of `rans_numba.decode_table`.
        contexts, symbols: of all values; those from ``index`` on are read and filled.
        words: those from ``place`` on are read; there are eight, needed or not.

    Returns:
        the states, and the place of the next word.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        state, index, place = args[0], args[4], args[6]
        entries, numbers, target, source = (
            _data(context, builder, signature.args[at], args[at]) for at in (1, 2, 3, 5)
        )
        number = builder.zext(_read(builder, numbers, index, _EIGHT_BYTES), _LANES)
        start = builder.shl(number, _of(_LANES, 12))
        slot = builder.or_(start, _low(builder, state, 12))
        entry = builder.zext(_gather(builder, entries, slot, "i32"), _LANES)
        symbol = builder.trunc(_shift(builder, entry, 24), _EIGHT_BYTES)
        _write(builder, symbol, target, index)
        frequency = builder.add(_low(builder, _shift(builder, entry, 12), 12), _of(_LANES, 1))
        within = _low(builder, entry, 12)
        after = _add_product(builder, within, _shift(builder, state, 12), frequency)
        empty = builder.icmp_unsigned("<", after, _of(_LANES, 1 << 16))
        some = _read(builder, source, place, _WORDS)
        name = "llvm.x86.avx512.mask.expand.v8i32"
        each = builder.zext(_call(builder, name, _WORDS, some, _of(_WORDS, 0), empty), _LANES)
        filled = builder.or_(builder.shl(after, _of(_LANES, 32)), each)
        state = builder.select(empty, filled, after)
        place = builder.add(place, _how_many(builder, empty))
        return context.make_tuple(builder, signature.return_type, (state, place))

    return _ADVANCED(states, table, contexts, symbols, index, words, place), code


@written
def push(  # noqa: PLR0913  (all that a step of an encoder touches)
    typing: Any,
    states: Any,
    symbols: Any,
    contexts: Any,
    stride: Any,
    index: Any,
    packed: Any,
    inverses: Any,
    words: Any,
    place: Any,
) -> Code:
    """Encode eight symbols, the last one first, as `rans_numba.encode_section` encodes each.

    Args:
        states: `Lanes`.
        symbols, contexts: of all values (uint8); those from ``index`` on are read.
        stride: symbols in a context.
        packed, inverses: of `rans_numba.encode_table`.
        words: those before ``place`` are written; there is room for eight, needed or not.

    Returns:
        the states, and the place of the last word written.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        state, stride, index, place = args[0], args[3], args[4], args[8]
        source, numbers, entries, reciprocals, target = (
            _data(context, builder, signature.args[at], args[at]) for at in (1, 2, 5, 6, 7)
        )
        symbol = builder.zext(_read(builder, source, index, _EIGHT_BYTES), _LANES)
        number = builder.zext(_read(builder, numbers, index, _EIGHT_BYTES), _LANES)
        slot = _add_product(builder, symbol, number, _spread(builder, stride, _LANES))
        entry = _gather(builder, entries, slot, "i64")
        inverse = _gather(builder, reciprocals, slot, "f64")
        frequency = _shift(builder, entry, 16)
        limit = builder.shl(frequency, _of(_LANES, 36))
        full = builder.icmp_unsigned(">=", state, limit)
        count = _how_many(builder, full)
        last = _last_words(builder, builder.trunc(state, _WORDS), full, count)
        _write(builder, last, target, builder.sub(place, ir.Constant(_LONG, COUNT)))
        state = builder.select(full, _shift(builder, state, 32), state)
        exact = builder.fmul(builder.uitofp(state, _FLOATS), inverse)
        raised = builder.fadd(exact, ir.Constant(_FLOATS, [2.0**-14] * COUNT))
        quotient = builder.fptoui(raised, _LANES)
        more = builder.sub(_of(_LANES, 4096), frequency)
        state = builder.add(state, _low(builder, entry, 16))
        state = _add_product(builder, state, quotient, more)
        place = builder.sub(place, count)
        return context.make_tuple(builder, signature.return_type, (state, place))

    return _ADVANCED(states, symbols, contexts, stride, index, packed, inverses, words, place), code


def _last_words(builder: Any, words: Value, which: Value, count: Value) -> Value:
    """Return eight words whose last are those of ``which``, in order; the others mean nothing."""
    name = "llvm.x86.avx512.mask.compress.v8i32"
    first = _call(builder, name, _WORDS, words, _of(_WORDS, 0), which)
    turn = _spread(builder, builder.trunc(count, _WORD), _WORDS)
    order = builder.add(_of(_WORDS, range(COUNT)), turn)
    return _call(builder, "llvm.x86.avx2.permd", _WORDS, first, order)


@written
def translate(typing: Any, numbers: Any, index: Any, table: Any, target: Any, place: Any) -> Code:
    """Look 64 bytes up in a table of 256.

    Args:
        numbers, index: the bytes, and where the first is.
        table: of 256 bytes.
        target, place: what is filled, and where from.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        source, table, target = (
            _data(context, builder, signature.args[at], args[at]) for at in (0, 2, 3)
        )
        number = _read(builder, source, args[1], _BYTES)
        quarters = [
            _read(builder, table, ir.Constant(_LONG, start), _BYTES) for start in range(0, 256, 64)
        ]
        name = "llvm.x86.avx512.vpermi2var.qi.512"  # looks the lowest 7 bits up
        low = _call(builder, name, _BYTES, quarters[0], number, quarters[1])
        high = _call(builder, name, _BYTES, quarters[2], number, quarters[3])
        is_high = builder.icmp_unsigned(">=", number, _of(_BYTES, 128))
        _write(builder, builder.select(is_high, high, low), target, args[4])
        return context.get_dummy_value()

    return types.none(numbers, index, table, target, place), code
