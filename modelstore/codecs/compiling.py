"""How loops are compiled: without the GIL, and kept for the next process where that is possible.

Each is compiled when it is first called, for the types of that call. So that this happens once,
arrays of values come as `steady` makes them. Whoever listens for remarks is told when it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import event
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from modelstore.codecs.base import Bits
from modelstore.progress import remark

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
_YES = ir.Constant(ir.IntType(1), 1)


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``loop`` compiled for the types it is called with, when it is first called.

    Divisions follow numpy (no exception), and nothing is reassociated or contracted, so the results
    are the same on every machine.
    """
    try:
        result: Callable[..., Any] = numba.njit(cache=True, **_OPTIONS)(loop)
    except RuntimeError:  # no place where a cache could be written
        return inlined(loop)
    return result


def inlined(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``loop`` compiled as a part of whatever compiled loop calls it."""
    result: Callable[..., Any] = numba.njit(**_OPTIONS)(loop)
    return result


def written(code: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for compiled loops whose code ``code`` writes; it is a part of theirs."""
    result: Callable[..., Any] = intrinsic(code)
    return result


@written
def bit_length(typing: Any, value: Any) -> Any:
    """Return, to compiled loops, the bit length of an unsigned number that is not 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = builder.ctlz(args[0], _YES)
        return builder.sub(ir.Constant(zeros.type, zeros.type.width), zeros)

    return value(value), code


@written
def trailing_zeros(typing: Any, value: Any) -> Any:
    """Return, to compiled loops, the lowest bit of an unsigned number that is not 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], _YES)

    return value(value), code


def steady(values: Bits) -> Bits:
    """Return the same values as loops are compiled for them: aligned and read-only."""
    view = values.view() if values.flags.aligned else values.copy()
    view.flags.writeable = False
    return view


def processor_has(*features: str) -> bool:
    """Tell whether code is compiled for a processor with all these features of LLVM's names."""
    offered = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return all(f"+{feature}" in offered for feature in features)


class _Announcement(event.Listener):
    """Remarks once that loops of ours are being compiled; nothing is where a cache has them."""

    def on_start(self, event: Any) -> None:
        """See whose loop it is."""
        if event.data["dispatcher"].py_func.__module__.startswith(_OURS):
            _stop_announcing()
            remark("Compiling the codec for this processor: some seconds, and only this once.")

    def on_end(self, event: Any) -> None:
        """Say nothing."""


_OURS = f"{__name__.rpartition('.')[0]}."
_announcement = _Announcement()
event.register("numba:compile", _announcement)  # type: ignore[no-untyped-call]


def _stop_announcing() -> None:
    event.unregister("numba:compile", _announcement)  # type: ignore[no-untyped-call]
