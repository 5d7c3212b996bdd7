"""What a coder could reach: entropies of real weights, counted.

An entropy here is that of one table per context over the whole model, tables not counted. A coder
with tables per block may come out below it where tensors differ, and pays for its tables.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from modelstore.numeric import DType

Array: TypeAlias = np.ndarray[Any, Any]

_DIRECT = 64
"""Differences below it are symbols; larger ones are a class of eight an octave, and raw bits."""

_SYMBOLS = _DIRECT + 8 * 64
_LEVELS = 48
"""Of movement: half octaves from 2**-26 on."""

_EXPONENTS = 128
"""That are told apart together with movement: those of numbers below 2."""


class Alone:
    """Order-0 entropy of the exponents, and every other bit in full."""

    def __init__(self, dtype: DType) -> None:
        self._dtype = dtype
        self._counts = np.zeros(1 << dtype.exponent)

    def add(self, values: Array) -> None:
        """Count the values of a tensor."""
        exponents = exponents_of(values, self._dtype)
        self._counts += np.bincount(exponents, minlength=self._counts.size)

    def bits(self) -> float:
        """Return bits per value."""
        total = self._counts.sum()
        rest = 8 * self._dtype.width - self._dtype.exponent
        return float(_entropy(self._counts[None]) / total + rest)


class Delta:
    """Entropy of the difference in value order, given what a decoder knows of the base.

    `bits` is in the context of the base's exponent; `active_bits` also in that of how far its row
    and its column moved. A decoder has to be told the latter; here that is free, so it is a bound.
    """

    def __init__(self, dtype: DType) -> None:
        self._dtype = dtype
        self._by_exponent = np.zeros((1 << dtype.exponent) * _SYMBOLS)
        self._by_movement = np.zeros(_EXPONENTS * _LEVELS * _SYMBOLS)
        self._raw = self._total = 0

    def add(self, values: Array, base: Array, shape: tuple[int, ...]) -> None:
        """Count the differences of a tensor."""
        differences = ordered(values, self._dtype) - ordered(base, self._dtype)
        symbols, raw = _tokens(differences)
        contexts = exponents_of(base, self._dtype).astype(np.int64)
        _count(self._by_exponent, contexts * _SYMBOLS + symbols)
        contexts = np.minimum(contexts, _EXPONENTS - 1) * _LEVELS
        contexts += _movement(values, base, shape, self._dtype)
        _count(self._by_movement, contexts * _SYMBOLS + symbols)
        self._raw += raw
        self._total += values.size

    def bits(self) -> float:
        """Return bits per value in the context of the base's exponent."""
        return float((_entropy(self._by_exponent.reshape(-1, _SYMBOLS)) + self._raw) / self._total)

    def active_bits(self) -> float:
        """Return bits per value, rows and columns known."""
        return float((_entropy(self._by_movement.reshape(-1, _SYMBOLS)) + self._raw) / self._total)


def exponents_of(values: Array, dtype: DType) -> Array:
    """Return the exponent field of each value."""
    exponents: Array = values >> dtype.mantissa & ((1 << dtype.exponent) - 1)
    return exponents


def ordered(values: Array, dtype: DType) -> Array:
    """Return integers in the order of the numbers that ``values`` are the bits of."""
    wide: Array = values.astype(np.int64)
    magnitudes: Array = wide & ((1 << (8 * dtype.width - 1)) - 1)
    return np.where(wide == magnitudes, magnitudes, ~magnitudes)


def _tokens(differences: Array) -> tuple[Array, int]:
    """Return a symbol for each difference, and how many raw bits they need besides."""
    folded = (differences << 1) ^ (differences >> 63)
    large = folded >= _DIRECT
    some = folded[large]
    lengths = np.frexp(some.astype(np.float64))[1].astype(np.int64)
    folded[large] = _DIRECT + (lengths - 7) * 8 + ((some >> (lengths - 4)) & 7)
    return folded, int((lengths - 4).sum())


def _movement(values: Array, base: Array, shape: tuple[int, ...], dtype: DType) -> Array | int:
    """Return the level of how far each value moves if rows and columns are independent."""
    numbers, before = floats(values, dtype), floats(base, dtype)
    if numbers is None or before is None or len(shape) != 2:
        return 0
    moved = np.abs(numbers - before).reshape(shape)
    rows, columns = moved.mean(axis=1), moved.mean(axis=0)
    expected = np.outer(rows, columns).reshape(-1) / max(float(rows.mean()), 1e-30)
    levels = np.rint(2 * np.log2(np.maximum(expected, 1e-30))) + 52
    clipped: Array = np.clip(levels, 0, _LEVELS - 1)
    return clipped.astype(np.int64)


def floats(values: Array, dtype: DType) -> Array | None:
    """Return the numbers that ``values`` are the bits of, in fp32; None for kinds numpy has not."""
    if dtype.name == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if dtype.name == "F16":
        return values.view(np.float16).astype(np.float32)
    return values.view(np.float32) if dtype.name == "F32" else None


def _count(counts: Array, keys: Array) -> None:
    counts += np.bincount(keys, minlength=counts.size)


def _entropy(counts: Array) -> float:
    """Return the bits of all symbols, coded with a table of their own in each row of ``counts``."""
    rows = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.where(counts > 0, counts * np.log2(rows / counts), 0.0)
    return float(cost.sum())
