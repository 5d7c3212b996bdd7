"""What versions cost: bytes of their files against bytes that they added to the store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelstore.charts.axes import LogAxis
from modelstore.charts.lines import WIDTH
from modelstore.charts.parts import Chart, circle, hover, link, shortened, stroke, text, width_of
from modelstore.sizes import human_size

MOST_BARS = 60
"""Versions that are drawn; of more the newest."""

_HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT = 300.0, 92.0, 44.0, 76.0, 24.0
_FEW = 16  # bars up to which each says its share
_LONG = 14  # characters of a label


@dataclass(frozen=True, slots=True)
class CostBar:
    """What one version cost.

    Attributes:
        version: its number.
        logical: bytes of its files.
        stored: bytes that it added to the store.
        active: whether it is ACTIVE.
        href: a path that leads to it, or "".
    """

    version: str
    logical: int
    stored: int
    active: bool = False
    href: str = ""


def cost_bars(title: str, rows: Sequence[CostBar]) -> Chart:
    """Return what versions cost, oldest first, on a scale of equal ratios.

    Each version is a bar from the bytes that it added, a disc, to those of its files, a ring: its
    length is what was saved. Of more than `MOST_BARS` the newest are drawn, and the sums are of all.
    """
    parts = [text(20, 28, title, "ms-title")]
    rows = [row for row in rows if row.logical > 0]
    if not rows:
        parts.append(text(WIDTH / 2, 60, "no sizes", anchor="middle"))
        return Chart(title, "There are no sizes.", WIDTH, 90, "\n".join(parts))
    told = _sums(rows)
    parts += [text(20, 48, told), *_legend()]
    drawn = rows[-MOST_BARS:]
    parts += _Bars(drawn).parts()
    left_out = len(rows) - len(drawn)
    if left_out:
        parts.append(_earlier(left_out))
    links = any(row.href for row in drawn)
    return Chart(title, f"{told}.", WIDTH, _HEIGHT, "\n".join(parts), links)


def _sums(rows: Sequence[CostBar]) -> str:
    logical, stored = sum(row.logical for row in rows), sum(row.stored for row in rows)
    count = f"{len(rows)} version{'' if len(rows) == 1 else 's'}"
    ratio = f", {logical / stored:.3g} times smaller" if 0 < stored < logical else ""
    return f"{count}: {human_size(logical)} of files in {human_size(stored)}{ratio}"


def _earlier(count: int) -> str:
    said = f"the {MOST_BARS} newest; {count:,} earlier ones are only in the sums"
    return text(WIDTH - _RIGHT, 72, said, "ms-small", "end")


def _legend() -> Iterator[str]:
    yield circle("ms-edge ms-open", 26, 68, 4)
    yield text(36, 72, "files", "ms-small")
    yield stroke("ms-pale", 76, 68, 96, 68)
    yield text(102, 72, "saved", "ms-small")
    yield circle("ms-d0", 148, 68, 4)
    yield text(158, 72, "new in the store", "ms-small")


class _Bars:
    """Places bars and draws them."""

    def __init__(self, rows: Sequence[CostBar]) -> None:
        self._rows = rows
        largest = max(max(row.logical, row.stored) for row in rows)
        sizes = [size for row in rows for size in (row.logical, row.stored) if size > 0]
        least = max(1, min(sizes))
        first = 10.0 ** math.floor(math.log10(least))
        last = 10.0 ** math.ceil(math.log10(max(largest, 10 * first)) - 1e-9)
        powers = range(round(math.log10(first)), round(math.log10(last)) + 1)
        apart = max(1, -(-len(powers) // 6))
        self._up = LogAxis(first, last, tuple(10.0**n for n in powers if n % apart == 0))
        self._nothing = any(not row.stored for row in rows)
        self._floor = _HEIGHT - _BOTTOM
        self._apart = (WIDTH - _LEFT - _RIGHT) / len(rows)

    def parts(self) -> Iterator[str]:
        """Yield the axes and the bars."""
        for tick in self._up.ticks:
            y = self._y(tick)
            yield stroke("ms-grid", _LEFT, y, WIDTH - _RIGHT, y)
            yield text(_LEFT - 10, y + 4, human_size(int(tick)), anchor="end")
        if self._nothing:
            yield text(_LEFT - 10, self._floor + 4, "0 B", anchor="end")
        yield stroke("ms-axis", _LEFT, self._floor, WIDTH - _RIGHT, self._floor)
        widest = max(width_of(shortened(row.version, _LONG)) for row in self._rows) + 10
        labelled = max(1, math.ceil(widest / self._apart))
        for number, row in enumerate(self._rows):
            yield self._bar(number, row)
            if (len(self._rows) - 1 - number) % labelled == 0:
                label = shortened(row.version, _LONG)
                kind = "ms-said ms-bold" if row.active else ""
                yield text(self._x(number), self._floor + 19, label, kind, "middle")

    def _bar(self, number: int, row: CostBar) -> str:
        x, high, low = self._x(number), self._y(row.logical), self._y(row.stored)
        saved = max(0.0, 1 - row.stored / row.logical)
        radius = 4.0 if self._apart > 12 else 3.0
        lines = [
            f"{row.version}{', ACTIVE' if row.active else ''}",
            f"files: {human_size(row.logical)} ({row.logical:,} B)",
            f"new in the store: {human_size(row.stored)} ({row.stored:,} B)",
            f"saved: {100 * saved:.1f} %",
        ]
        drawn = stroke("ms-pale", x, high, x, low) if low > high else ""
        drawn += circle("ms-edge ms-open", x, high, radius)
        drawn += circle("ms-d0", x, low, radius)
        said = f"{row.version}, {lines[2]}"
        if len(self._rows) <= _FEW:
            share = f"{100 * row.stored / row.logical:.3g} %"
            said = f"{said}, {share}"
            below = low + 17 if low + 22 < self._floor else low - 9
            drawn += text(x, below, share, "ms-small", "middle")
        return link(row.href, f"<g>{hover(lines)}{drawn}</g>", said)

    def _x(self, number: int) -> float:
        return _LEFT + (number + 0.5) * self._apart

    def _y(self, size: float) -> float:
        """Return the height of a number of bytes; none at all is at the foot."""
        floor = self._floor - (24 if self._nothing else 0)
        return floor - self._up.share(size) * (floor - _TOP) if size > 0 else self._floor
