"""A line chart as SVG: small, without scripts, and readable on a light and on a dark page.

Colours follow the reader's preference, and the chart paints its own ground, so that it can be read
also where the page around it does not. Equal values make equal bytes.
Grammar: Scalable Vector Graphics 2 (https://www.w3.org/TR/SVG2/); only elements that every viewer
of images knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 680, 320
"""Of a chart, in pixels."""

MOST_LINES = 4
"""That a chart has colours for."""

_TOP, _RIGHT, _BOTTOM, _LEFT = 72, 24, 50, 64
_X_TICKS, _Y_TICKS = 8, 5
_LARGEST = 1e15  # a value that is drawn; what is beyond is no measurement
_FEW = 40  # points up to which each is marked, so that one alone can be seen

_STYLE = """\
.ground{fill:#fff;stroke:#d1d9e0}
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#59636e}
.title{font-size:14px;font-weight:600;fill:#1f2328}
.grid{stroke:#e4e8ec}.axis{stroke:#818b98}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.faint{stroke-width:1;opacity:.35}
.c0{stroke:#0969da}.c1{stroke:#bc4c00}.c2{stroke:#1a7f37}.c3{stroke:#8250df}
.d0{fill:#0969da}.d1{fill:#bc4c00}.d2{fill:#1a7f37}.d3{fill:#8250df}
@media(prefers-color-scheme:dark){
.ground{fill:#0d1117;stroke:#3d444d}text{fill:#9198a1}.title{fill:#f0f6fc}
.grid{stroke:#21262d}.axis{stroke:#656c76}
.c0{stroke:#4493f8}.c1{stroke:#f0883e}.c2{stroke:#3fb950}.c3{stroke:#ab7df8}
.d0{fill:#4493f8}.d1{fill:#f0883e}.d2{fill:#3fb950}.d3{fill:#ab7df8}
}"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """What is drawn in one colour.

    Attributes:
        label: what the line shows, for the legend.
        points: (x, y), in the order in which they are joined; what is not finite, or is beyond
            10 to the 15th, is left out.
        shadow: further points, drawn thin and pale in the same colour, as the values of which the
            line is the mean.
    """

    label: str
    points: Sequence[Point]
    shadow: Sequence[Point] = ()


def line_chart(title: str, x_label: str, lines: Sequence[Line]) -> str:
    """Return a chart of ``lines`` as an SVG document.

    Args:
        title: says what the values are, with their unit.
        x_label: what is counted from left to right.
        lines: at most `MOST_LINES`; without any point the chart says that there are no values.
    """
    drawn = [Line(one.label, _finite(one.points), _finite(one.shadow)) for one in lines]
    points = [point for line in drawn for point in (*line.points, *line.shadow)]
    parts = [_text(20, 28, title, "title")]
    if points:
        across = Axis.over([x for x, _ in points], _X_TICKS, whole=True)
        up = Axis.over([y for _, y in points], _Y_TICKS)
        area = _Area(across, up)
        parts += [*area.frame(x_label), *_legend(drawn)]
        for number, line in enumerate(drawn):
            parts += area.line(number, line)
    else:
        parts.append(_text(WIDTH / 2, HEIGHT / 2, "no values", anchor="middle"))
    return _document(title, parts)


def _document(title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">'
    )
    ground = (
        f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6"/>'
    )
    named = f"<title>{_escaped(title)}</title>"
    return "\n".join([head, named, f"<style>{_STYLE}</style>", ground, *parts, "</svg>", ""])


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if abs(x) <= _LARGEST and abs(y) <= _LARGEST]


# --- axes


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values, and where it is marked.

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
class _Area:
    """The part of a chart in which lines are drawn."""

    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        return _LEFT + self.across.share(value) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - self.up.share(value) * (HEIGHT - _TOP - _BOTTOM)

    def frame(self, x_label: str) -> Iterator[str]:
        """Yield the axes with their ticks and labels."""
        floor = HEIGHT - _BOTTOM
        for value in self.up.ticks:
            height = self.y(value)
            yield _stroke("grid", _LEFT, height, WIDTH - _RIGHT, height)
            yield _text(_LEFT - 10, height + 4, self.up.label(value), anchor="end")
        yield _stroke("axis", _LEFT, floor, WIDTH - _RIGHT, floor)
        for value in self.across.ticks:
            place = self.x(value)
            yield _stroke("axis", place, floor, place, floor + 4)
            yield _text(place, floor + 19, self.across.label(value), anchor="middle")
        yield _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 12, x_label, anchor="middle")

    def line(self, number: int, line: Line) -> Iterator[str]:
        """Yield a line, its shadow below it, and marks where its points are few."""
        colour = number % MOST_LINES
        for kind, points in (("line faint", line.shadow), ("line", line.points)):
            if len(points) > 1:
                places = " ".join(f"{_short(self.x(x))},{_short(self.y(y))}" for x, y in points)
                yield f'<polyline class="{kind} c{colour}" points="{places}"/>'
        for x, y in line.points if len(line.points) <= _FEW else ():
            place = f'cx="{_short(self.x(x))}" cy="{_short(self.y(y))}"'
            yield f'<circle class="d{colour}" {place} r="3"/>'


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    place = 20.0
    for number, line in enumerate(lines):
        yield f'<rect class="d{number % MOST_LINES}" x="{_short(place)}" y="43" width="16" height="3"/>'
        yield _text(place + 22, 49, line.label)
        place += 22 + 7.0 * len(line.label) + 20


# --- spelling


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    start = f'x1="{_short(x1)}" y1="{_short(y1)}"'
    return f'<line class="{kind}" {start} x2="{_short(x2)}" y2="{_short(y2)}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    more = f' class="{kind}"' if kind else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{_short(x)}" y="{_short(y)}"{more}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """Return text as XML can hold it: control characters are left out, they have no spelling."""
    return escape("".join(c for c in text if c.isprintable()))


def _short(value: float) -> str:
    """Return a coordinate in pixels, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
