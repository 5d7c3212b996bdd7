"""Runs a pickle on symbols: what it would build, without building anything.

A pickle is a program for a stack machine, and loading one runs it. Here a global is its name, a call
is a note of what would have been called with what. Nothing is imported and nothing is called, so a
hostile pickle is data like any other.

Opcodes are decoded by `pickletools.genops`, which only parses; see there for what each one does.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelstore.formats.base import MalformedError

MAX_OPS = 2_000_000
"""A checkpoint takes some 40 for each tensor."""


@dataclass(frozen=True, slots=True)
class Global:
    """Something that the pickle would import."""

    module: str
    name: str


class Box:
    """A container, or the unknown result of a call: pairs of key and value.

    A list has its indices for keys. The key is None for what a call was given, and for the state
    that an instance would have been given.
    """

    __slots__ = ("items",)

    def __init__(self, *values: object) -> None:
        self.items: list[tuple[object, object]] = [(None, value) for value in values]

    def extend(self, values: list[object]) -> None:
        """Append to a list."""
        self.items.extend(enumerate(values, len(self.items)))

    def update(self, values: list[object]) -> None:
        """Set items of a dict, given as key, value, key, value; earlier ones stay."""
        self.items.extend(zip(values[::2], values[1::2], strict=False))


Call = Callable[[Global, tuple[object, ...]], object]
"""Gives the symbol for the result of a call."""

Load = Callable[[object], object]
"""Gives the symbol for what a persistent id stands for."""


def run_pickle(data: bytes, call: Call, load: Load) -> object:
    """Return the symbol of what the pickle describes: `Box`, tuple, plain value, or another symbol.

    Raises:
        MalformedError: it is no pickle, or takes more than `MAX_OPS` steps.
    """
    machine = _Machine(call, load)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPS:
                raise MalformedError(f"its pickle takes more than {MAX_OPS} steps")
            machine.step(opcode.name, argument)
        return machine.pop()
    except (ValueError, IndexError, KeyError) as error:
        raise MalformedError("its pickle is damaged") from error


class _Machine:
    """The stack, its marks and the memo."""

    def __init__(self, call: Call, load: Load) -> None:
        self._call = call
        self._load = load
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do one opcode."""
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(Box())
        elif name in _TUPLES:
            self._tuple(_TUPLES[name])
        elif name in _PUT:
            self._put(len(self._memo) if argument is None else argument)
        elif name in _GET:
            self._stack.append(self._memo[argument])
        elif name not in _NOTHING:
            _STEPS[name](self, argument)

    def pop(self) -> object:
        """Take the top of the stack."""
        return self._stack.pop()

    def _pop_marked(self) -> list[object]:
        """Take everything down to the last mark."""
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _put(self, index: int) -> None:
        if not 0 <= index < MAX_OPS:  # chosen integers can make a dict slow
            raise ValueError(index)
        self._memo[index] = self._stack[-1]

    def _tuple(self, size: int) -> None:
        taken = tuple(self._stack[-size:])
        if len(taken) < size:
            raise IndexError(size)
        self._stack[-size:] = [taken]

    def mark(self, _: object) -> None:
        self._marks.append(len(self._stack))

    def marked_tuple(self, _: object) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def marked_list(self, _: object) -> None:
        self._stack.append(Box())
        self._box().extend(self._pop_below())

    def _pop_below(self) -> list[object]:
        """Take everything between the last mark and the top, which stays."""
        top = self._stack.pop()
        taken = self._pop_marked()
        self._stack.append(top)
        return taken

    def marked_dict(self, _: object) -> None:
        self._stack.append(Box())
        self._box().update(self._pop_below())

    def _box(self) -> Box:
        """Return the container on top; one that stays unseen where something else is."""
        top = self._stack[-1]
        return top if isinstance(top, Box) else Box()

    def append(self, _: object) -> None:
        value = self.pop()
        self._box().extend([value])

    def appends(self, _: object) -> None:
        values = self._pop_marked()
        self._box().extend(values)

    def set_item(self, _: object) -> None:
        value, key = self.pop(), self.pop()
        self._box().update([key, value])

    def set_items(self, _: object) -> None:
        values = self._pop_marked()
        self._box().update(values)

    def pop_top(self, _: object) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self.pop()

    def pop_mark(self, _: object) -> None:
        self._pop_marked()

    def dup(self, _: object) -> None:
        self._stack.append(self._stack[-1])

    def import_name(self, argument: object) -> None:
        module, _, name = str(argument).partition(" ")
        self._stack.append(Global(module, name))

    def import_from_stack(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        known = isinstance(module, str) and isinstance(name, str)
        self._stack.append(Global(str(module), str(name)) if known else Box())

    def reduce(self, _: object) -> None:
        arguments, function = self.pop(), self.pop()
        self._stack.append(self._result(function, arguments))

    def _result(self, function: object, arguments: object) -> object:
        if isinstance(function, Global) and isinstance(arguments, tuple):
            return self._call(function, arguments)
        return Box(arguments)

    def new_with_keywords(self, _: object) -> None:
        keywords, arguments, _class = self.pop(), self.pop(), self.pop()
        self._stack.append(Box(arguments, keywords))

    def marked_instance(self, _: object) -> None:
        self._stack.append(Box(tuple(self._pop_marked())))

    def build(self, _: object) -> None:
        state = self.pop()
        self._box().items.append((None, state))

    def persistent(self, _: object) -> None:
        self._stack.append(self._load(self.pop()))

    def unknown(self, _: object) -> None:
        self._stack.append(Box())


_NOTHING = {"PROTO", "FRAME", "STOP", "READONLY_BUFFER"}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_STEPS: dict[str, Callable[[_Machine, object], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.marked_tuple,
    "LIST": _Machine.marked_list,
    "FROZENSET": _Machine.marked_list,
    "DICT": _Machine.marked_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "POP": _Machine.pop_top,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    "GLOBAL": _Machine.import_name,
    "STACK_GLOBAL": _Machine.import_from_stack,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "OBJ": _Machine.marked_instance,
    "INST": _Machine.marked_instance,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
    "PERSID": _Machine.unknown,
    "EXT1": _Machine.unknown,
    "EXT2": _Machine.unknown,
    "EXT4": _Machine.unknown,
    "NEXT_BUFFER": _Machine.unknown,
}
