"""The arithmetic of the codecs: compiled where there is much of it and numba is to be had.

`kernels_numba` and `kernels_numpy` give the same bytes; a test holds them to it.
Loading numba and its compiled kernels costs most of a second of CPU, in which numpy codes millions
of values. So numpy does the first of them, and what is small never pays for numba.
"""

from __future__ import annotations

from typing import Protocol

from modelstore.codecs import kernels_numpy
from modelstore.codecs.base import Bits, Planes
from modelstore.codecs.fields import Layout


class _Kernels(Protocol):
    """What both modules are."""

    def split(self, values: Bits, layout: Layout) -> Planes: ...
    def merge(self, planes: Planes, layout: Layout) -> Bits: ...
    def differ(self, values: Bits, base: Bits, layout: Layout) -> Planes: ...
    def apply(self, planes: Planes, base: Bits, layout: Layout) -> Bits: ...


def split(values: Bits, layout: Layout) -> Planes:
    """Do what `kernels_numpy.split` does."""
    return _kernels(values.size).split(values, layout)


def merge(planes: Planes, layout: Layout) -> Bits:
    """Do what `kernels_numpy.merge` does."""
    return _kernels(planes.shape[1]).merge(planes, layout)


def differ(values: Bits, base: Bits, layout: Layout) -> Planes:
    """Do what `kernels_numpy.differ` does."""
    return _kernels(values.size).differ(values, base, layout)


def apply(planes: Planes, base: Bits, layout: Layout) -> Bits:
    """Do what `kernels_numpy.apply` does."""
    return _kernels(planes.shape[1]).apply(planes, base, layout)


_FEW = 1 << 20
"""Values that numpy codes before numba is loaded."""


class _Chosen:
    """The kernels in use, and how many values are still left to numpy."""

    kernels: _Kernels = kernels_numpy
    left = _FEW


def _kernels(count: int) -> _Kernels:
    # Two threads that come here at once load the same module, or count a little wrong: no matter.
    if _Chosen.left > 0:
        _Chosen.left -= count
        if _Chosen.left <= 0:
            _Chosen.kernels = _compiled()
    return _Chosen.kernels


def _compiled() -> _Kernels:
    try:
        from modelstore.codecs import kernels_numba
    except ImportError:  # numba has no build for every Python; everything stays readable without it
        return kernels_numpy
    return kernels_numba
