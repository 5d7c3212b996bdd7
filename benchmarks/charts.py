"""Draws charts as SVG text: lines over versions, and bars of two speeds.

The colours suit light and dark pages; names stand at the ends of lines, so no legend is needed
there, and are moved apart where they would touch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 190, 64, 40
_GAP = 15
"""Pixels between the names at the ends of two lines."""

_STYLE = """
text { font-family: sans-serif; font-size: 12px; fill: #57606a }
.title { font-size: 14px; font-weight: bold }
text.ours { font-weight: bold; fill: #1a7f37 }
.grid { stroke: #57606a; stroke-opacity: .25 }
.line { fill: none; stroke-width: 1.5 }
.line.ours { fill: none; stroke: #1a7f37; stroke-width: 3 }
.first { fill: #218bff } .second { fill: #8c959f } .first.ours { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } text.ours { fill: #3fb950 } .line.ours { stroke: #3fb950 }
}
"""

_COLOURS = (
    *("#218bff", "#bf8700", "#a475f9", "#e85aad", "#cf222e"),
    *("#2da5a5", "#8c959f", "#bc4c00", "#6639ba", "#59636e"),
)


def lines(title: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Return a chart with a line for each of ``series``, whose values belong to ``names``."""
    top = max(max(values) for values in series.values())
    across = (WIDTH - _LEFT - _RIGHT) / max(1, len(names) - 1)
    parts = _grid(top) + _names_below(names, across)
    ends = _apart({name: _height(values[-1], top) for name, values in series.items()})
    for number, (name, values) in enumerate(series.items()):
        points = " ".join(
            f"{_LEFT + at * across:.1f},{_height(value, top):.1f}"
            for at, value in enumerate(values)
        )
        place = f'x="{WIDTH - _RIGHT + 8}" y="{ends[name] + 4:.1f}"'
        label = f"{escape(name)}: {values[-1]:,.0f}"
        if _is_ours(name):
            parts.append(f'<polyline class="line ours" points="{points}"/>')
            parts.append(f'<text class="ours" {place}>{label}</text>')
        else:
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(f'<polyline class="line" stroke="{colour}" points="{points}"/>')
            parts.append(f'<text style="fill: {colour}" {place}>{label}</text>')
    return _svg(title, parts, HEIGHT)


def bars(title: str, kinds: tuple[str, str], series: Mapping[str, tuple[float, float]]) -> str:
    """Return a chart with two bars for each of ``series``."""
    top = max(max(pair) for pair in series.values())
    left, step = 190, 36
    long = (WIDTH - left - 80) / top
    height = 70 + step * len(series)
    parts = []
    for kind, colour, x in zip(kinds, ("first", "second"), (left, left + 220), strict=True):
        parts.append(f'<rect class="{colour}" x="{x}" y="34" width="10" height="10"/>')
        parts.append(f'<text x="{x + 15}" y="43">{escape(kind)}</text>')
    for number, (name, pair) in enumerate(series.items()):
        y = 60 + number * step
        ours = "ours" if _is_ours(name) else ""
        parts.append(
            f'<text class="{ours}" x="{left - 8}" y="{y + 16}" text-anchor="end">'
            f"{escape(name)}</text>"
        )
        for below, (kind, value) in enumerate(zip(("first", "second"), pair, strict=True)):
            at, size = y + below * 13, f'width="{value * long:.1f}" height="11"'
            parts.append(f'<rect class="{kind} {ours}" x="{left}" y="{at}" {size}/>')
            end = left + value * long + 6
            parts.append(f'<text x="{end:.1f}" y="{at + 10}">{value:,.0f}</text>')
    return _svg(title, parts, height)


def _is_ours(name: str) -> bool:
    return name.startswith("mstore")


def _height(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM)


def _grid(top: float) -> list[str]:
    parts = []
    step = _round_step(top)
    for number in range(int(top / step) + 1):
        value = number * step
        y = _height(value, top)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
    return parts


def _round_step(top: float) -> float:
    """Return the smallest of 1, 2, 5, 10, ... that divides ``top`` into five parts at most."""
    power: float = 10.0 ** math.floor(math.log10(top / 5))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit * 5 >= top)


def _names_below(names: Sequence[str], across: float) -> list[str]:
    every = max(1, len(names) // 10)
    return [
        f'<text x="{_LEFT + at * across:.1f}" y="{HEIGHT - 20}" text-anchor="middle">'
        f"{escape(name)}</text>"
        for at, name in enumerate(names)
        if at % every == 0
    ]


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """Return the places, moved upwards from the lowest on until no two names touch."""
    moved: dict[str, float] = {}
    limit = float(HEIGHT)
    for name, y in sorted(places.items(), key=lambda item: -item[1]):
        moved[name] = limit = min(y, limit - _GAP)
    return moved


def _svg(title: str, parts: Sequence[str], height: int) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">'
    )
    heading = f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>'
    return "\n".join((head, f"<style>{_STYLE}</style>", heading, *parts, "</svg>\n"))
