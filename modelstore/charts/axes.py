"""Axes: a range of values, and where it is marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Scale(Protocol):
    """What places values on an axis."""

    @property
    def ticks(self) -> tuple[float, ...]:
        """Values that are marked, in order."""

    def label(self, value: float) -> str:
        """Return ``value`` as it is written beside a tick."""

    def share(self, value: float) -> float:
        """Return where ``value`` lies, 0 at the start and 1 at the stop."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values, evenly.

    Attributes:
        start, stop: the range; stop is larger.
        ticks: values in it, evenly apart, at 1, 2 or 5 times a power of ten.
        decimals: of their labels.
    """

    start: float
    stop: float
    ticks: tuple[float, ...]
    decimals: int

    @staticmethod
    def over(values: Sequence[float], most: int, *, whole: bool = False) -> Axis:
        """Return the axis for ``values``, which are finite and at least one.

        Args:
            most: ticks that there are at most.
            whole: the values are counts: only integers are marked, and the axis ends with the last.
        """
        least, largest = min(values), max(values)
        if largest - least <= 1e-9 * max(abs(least), abs(largest)):  # equal, as far as is written
            margin = 1.0 if whole else abs(least) / 10 or 1.0
            least, largest = least - margin, largest + margin
        step = _step((largest - least) / (most - 1), whole=whole)
        first = math.ceil(least / step - 1e-9) if whole else math.floor(least / step + 1e-9)
        last = math.floor(largest / step + 1e-9) if whole else math.ceil(largest / step - 1e-9)
        ticks = tuple(number * step for number in range(first, last + 1))
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        if whole:
            return Axis(least, largest, ticks, decimals)
        return Axis(ticks[0], ticks[-1], ticks, decimals)

    def label(self, value: float) -> str:
        """Return ``value`` as it is written beside a tick."""
        if abs(value) >= 1e7 or self.decimals > 6:
            return f"{value:.3g}"
        return f"{value:,.{self.decimals}f}"

    def share(self, value: float) -> float:
        """Return where ``value`` lies, 0 at the start and 1 at the stop."""
        return (value - self.start) / (self.stop - self.start)


def _step(least: float, *, whole: bool) -> float:
    """Return the smallest of 1, 2, 5, 10, ... times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))
    return max(step, 1.0) if whole else step


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A range of positive values on which equal ratios are equally far apart.

    Attributes:
        start, stop: the range; both positive, stop is larger.
        ticks: values in it at 1, 2 or 5 times powers of ten, or at powers of ten only.
    """

    start: float
    stop: float
    ticks: tuple[float, ...]

    @staticmethod
    def over(values: Sequence[float], most: int) -> LogAxis:
        """Return the axis for ``values``, which are positive, finite and at least one.

        Its ends are at 1, 2 or 5 times a power of ten.

        Args:
            most: ticks that there are at most, though always two.
        """
        start, stop = _round_below(min(values)), _round_above(max(values))
        if start >= stop:
            start, stop = _round_below(start * 0.99), _round_above(stop * 1.01)
        return LogAxis(start, stop, _log_ticks(start, stop, most))

    def label(self, value: float) -> str:
        """Return ``value`` as it is written beside a tick."""
        return (
            f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
            if (value < 1e-3 or value >= 1e5)
            else f"{value:.12g}"
        )

    def share(self, value: float) -> float:
        """Return where ``value`` lies, 0 at the start and 1 at the stop."""
        span = math.log10(self.stop) - math.log10(self.start)
        return (math.log10(value) - math.log10(self.start)) / span


def _log_ticks(start: float, stop: float, most: int) -> tuple[float, ...]:
    first, last = math.floor(math.log10(start)), math.ceil(math.log10(stop))
    for within in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**power for power in range(first, last + 1) for m in within]
        ticks = [tick for tick in found if start * (1 - 1e-9) <= tick <= stop * (1 + 1e-9)]
        if 2 <= len(ticks) <= most:
            return tuple(ticks)
    apart = max(1, -(-(last - first + 1) // most))
    ticks = [10.0**power for power in range(first, last + 1, apart)]
    inside = [tick for tick in ticks if start * (1 - 1e-9) <= tick <= stop * (1 + 1e-9)]
    return tuple(inside) if len(inside) > 1 else (start, stop)


def _round_below(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max((m * power for m in (1, 2, 5) if m * power <= value * (1 + 1e-9)), default=power)


def _round_above(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next((m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9)), 10 * power)
