"""The arithmetic of the codecs: compiled where there is much of it and numba is to be had.

`kernels_numba` and `kernels_numpy` give the same bytes; a test holds them to it.
"""

from __future__ import annotations

from typing import Protocol

from modelstore.codecs import kernels_numpy
from modelstore.codecs.base import Bits, Planes
from modelstore.codecs.fields import Layout
from modelstore.codecs.twins import Twins


class _Kernels(Protocol):
    """What both modules are."""

    def split(self, values: Bits, layout: Layout) -> Planes: ...
    def merge(self, planes: Planes, layout: Layout) -> Bits: ...
    def differ(self, values: Bits, base: Bits, layout: Layout) -> Planes: ...
    def apply(self, planes: Planes, base: Bits, layout: Layout) -> Bits: ...


def split(values: Bits, layout: Layout) -> Planes:
    """Do what `kernels_numpy.split` does."""
    return _twins.for_count(values.size).split(values, layout)


def merge(planes: Planes, layout: Layout) -> Bits:
    """Do what `kernels_numpy.merge` does."""
    return _twins.for_count(planes.shape[1]).merge(planes, layout)


def differ(values: Bits, base: Bits, layout: Layout) -> Planes:
    """Do what `kernels_numpy.differ` does."""
    return _twins.for_count(values.size).differ(values, base, layout)


def apply(planes: Planes, base: Bits, layout: Layout) -> Bits:
    """Do what `kernels_numpy.apply` does."""
    return _twins.for_count(planes.shape[1]).apply(planes, base, layout)


def _compiled() -> _Kernels:
    from modelstore.codecs import kernels_numba

    return kernels_numba


_twins: Twins[_Kernels] = Twins(kernels_numpy, _compiled, few=1 << 20)
