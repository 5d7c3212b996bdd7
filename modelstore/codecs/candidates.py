"""Which codecs are worth trying on a blob, by what it holds and how much of it there is."""

from __future__ import annotations

from functools import cache

from modelstore.codecs import ids
from modelstore.codecs.ids import CodecInfo
from modelstore.numeric import BYTES, DType

_FEW = 1 << 15
"""Values; for fewer, tables cost more than they save, and loading numba takes longer than coding."""


def alone(dtype: DType, count: int) -> tuple[CodecInfo, ...]:
    """Return the codecs for ``count`` values of ``dtype`` without a base, the likeliest first."""
    plain = ids.ZSTD if dtype is BYTES else ids.PLANES
    if count < _FEW or not _can_compile():
        return (plain,)
    return (ids.ENTROPY, plain) if dtype.is_float else (plain, ids.ENTROPY)


def on_base(count: int) -> CodecInfo:
    """Return the codec for ``count`` values with a base."""
    return ids.DELTA if count < _FEW or not _can_compile() else ids.STEPS


@cache
def _can_compile() -> bool:
    """Tell whether numba is there; it has no build for every Python, and only encoding needs it."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
