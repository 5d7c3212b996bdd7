"""Whether the entropy coder is worth trying on a blob, by how much of it there is."""

from __future__ import annotations

from functools import cache

_FEW = 1 << 15
"""Values; for fewer, tables cost more than they save, and loading numba takes longer than coding."""


def tables_pay(count: int) -> bool:
    """Tell whether ``count`` values are enough for tables of their own, and can be coded so here."""
    return count >= _FEW and _can_compile()


@cache
def _can_compile() -> bool:
    """Tell whether numba is there; it has no build for every Python, and only encoding needs it."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
