"""Lines: values over steps, and metrics over versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from modelstore.charts.axes import Axis, LogAxis, Scale
from modelstore.charts.parts import (
    Chart,
    circle,
    escaped,
    hover,
    link,
    rect,
    short,
    shortened,
    stroke,
    text,
    width_of,
)
from modelstore.charts.style import COLOURS, DASHES

WIDTH, HEIGHT = 680, 320
"""Of a chart of lines, in pixels; one whose legend takes several rows is higher."""

_TOP, _RIGHT, _BOTTOM, _LEFT = 72, 24, 50, 64
_ROW = 18  # of a legend
_NO_LABEL = 22  # less at the foot, where nothing is written below the marks
_X_TICKS, _Y_TICKS = 8, 5
_LARGEST = 1e15  # a value that is drawn; what is beyond is no measurement
_SMALLEST = 1e-15  # on an axis of ratios
_FEW = 40  # points up to which each is marked, so that one alone can be seen
_LONG = 44  # characters of a label

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


def line_chart(
    title: str, lines: Sequence[Line], x_label: str, y_label: str = "", *, log_y: bool = False
) -> Chart:
    """Return a chart of ``lines``.

    Args:
        title: says what the values are, with their unit.
        lines: without any point the chart says that there are no values.
        x_label: what is counted from left to right.
        y_label: what the height is, where the title does not say it.
        log_y: equal ratios are equally high; what is not positive is left out.
    """
    drawn = [Line(one.label, _kept(one.points, log_y), _kept(one.shadow, log_y)) for one in lines]
    points = [point for line in drawn for point in (*line.points, *line.shadow)]
    legend = list(_legend(drawn)) if points else []
    more = _ROW * max(0, len(legend) - 1)
    parts = [text(20, 28, title, "ms-title")]
    if points:
        across = Axis.over([x for x, _ in points], _X_TICKS, whole=True)
        heights = [y for _, y in points]
        up: Scale = LogAxis.over(heights, 7) if log_y else Axis.over(heights, _Y_TICKS)
        area = _Area(across, up, _TOP + more, HEIGHT + more)
        marks = [(value, across.label(value)) for value in across.ticks]
        parts += [*area.frame(x_label, y_label, marks), *(part for row in legend for part in row)]
        for number, line in enumerate(drawn):
            parts += area.line(number, line)
    else:
        parts.append(text(WIDTH / 2, HEIGHT / 2, "no values", anchor="middle"))
    return Chart(title, _told(drawn, x_label), WIDTH, HEIGHT + more, "\n".join(parts))


def _kept(points: Sequence[Point], log_y: bool) -> list[Point]:
    least = _SMALLEST if log_y else -_LARGEST
    return [(x, y) for x, y in points if abs(x) <= _LARGEST and least <= y <= _LARGEST]


def _told(lines: Sequence[Line], x_label: str) -> str:
    told = [
        f"{line.label}: from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}, "
        f"least {min(y for _, y in line.points):.4g}"
        for line in lines
        if line.points
    ]
    return f"Lines over {x_label}. {'; '.join(told)}." if told else "There are no values."


# --- metrics over versions


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """What one version has of a metric.

    Attributes:
        version: its number.
        value: None where it has none.
        active: whether the version is ACTIVE.
        href: a path that leads to it, or "".
    """

    version: str
    value: float | None
    active: bool = False
    href: str = ""


def metric_chart(title: str, points: Sequence[MetricPoint]) -> Chart:
    """Return a metric across versions, oldest first; where versions lack it the line is broken."""
    known = [
        (
            float(n),
            point.value if point.value is not None and abs(point.value) <= _LARGEST else None,
        )
        for n, point in enumerate(points)
    ]
    values = [value for _, value in known if value is not None]
    parts = [text(20, 28, title, "ms-title")]
    height = HEIGHT - 60.0
    if not values:
        parts.append(text(WIDTH / 2, height / 2, "no values", anchor="middle"))
        return Chart(title, "There are no values.", WIDTH, height, "\n".join(parts))
    last = max(1.0, len(points) - 1.0)
    across = Axis(0.0, last, (), 0) if len(points) > 1 else Axis(-1.0, 1.0, (), 0)
    area = _Area(across, Axis.over(values, _Y_TICKS), 56, height)
    parts += area.frame("", "", list(_versions(points, area)))
    parts += area.active(points)
    for there, run in groupby(known, key=lambda point: point[1] is not None):
        if there:
            parts += area.line(0, Line("", [(x, y) for x, y in run if y is not None]), marked=False)
    parts += area.versions(points, known)
    told = f"{len(values)} versions have it, from {min(values):.4g} to {max(values):.4g}."
    links = any(point.href for point in points)
    return Chart(title, told, WIDTH, height - _NO_LABEL, "\n".join(parts), links)


def _versions(points: Sequence[MetricPoint], area: _Area) -> Iterator[tuple[float, str]]:
    """Yield the versions that are named below, as many as have room."""
    widest = max(width_of(shortened(point.version, 14)) for point in points) + 12
    room = (WIDTH - _LEFT - _RIGHT) / widest
    apart = max(1, -int(-len(points) // max(1.0, room)))
    for n in range(len(points) - 1, -1, -apart):
        yield float(n), shortened(points[n].version, 14)


@dataclass(frozen=True, slots=True)
class _Area:
    """The part of a chart in which lines are drawn."""

    across: Axis
    up: Scale
    top: float
    height: float

    @property
    def floor(self) -> float:
        return self.height - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + self.across.share(value) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.floor - self.up.share(value) * (self.floor - self.top)

    def frame(
        self, x_label: str, y_label: str, marks: Sequence[tuple[float, str]]
    ) -> Iterator[str]:
        """Yield the axes with their ticks and labels."""
        floor = self.floor
        for value in self.up.ticks:
            height = self.y(value)
            yield stroke("ms-grid", _LEFT, height, WIDTH - _RIGHT, height)
            yield text(_LEFT - 10, height + 4, self.up.label(value), anchor="end")
        yield stroke("ms-axis", _LEFT, floor, WIDTH - _RIGHT, floor)
        for value, label in marks:
            place = self.x(value)
            yield stroke("ms-axis", place, floor, place, floor + 4)
            yield text(place, floor + 19, label, anchor="middle")
        if x_label:
            yield text((_LEFT + WIDTH - _RIGHT) / 2, self.height - 12, x_label, anchor="middle")
        if y_label:
            yield text(16, (self.top + floor) / 2, y_label, anchor="middle", turn=-90)

    def line(self, number: int, line: Line, *, marked: bool = True) -> Iterator[str]:
        """Yield a line, its shadow below it, and marks where its points are few."""
        colour = f"ms-c{number % COLOURS}"
        for kind, points in (("ms-line ms-faint", line.shadow), ("ms-line", line.points)):
            if len(points) > 1:
                places = " ".join(f"{short(self.x(x))},{short(self.y(y))}" for x, y in points)
                dash = _dash(number)
                yield f'<polyline class="{kind} {colour}"{dash} points="{places}"/>'
        for x, y in line.points if marked and len(line.points) <= _FEW else ():
            yield circle(f"ms-d{number % COLOURS}", self.x(x), self.y(y), 3)

    def active(self, points: Sequence[MetricPoint]) -> Iterator[str]:
        """Yield a line through the version that is ACTIVE."""
        for number, point in enumerate(points):
            if point.active:
                x = self.x(number)
                yield stroke("ms-mark", x, self.top - 6, x, self.floor)
                anchor = "end" if x > WIDTH - 90 else "start" if x < _LEFT + 30 else "middle"
                yield text(x, self.top - 11, "ACTIVE", "ms-said ms-bold ms-small", anchor)

    def versions(
        self, points: Sequence[MetricPoint], known: Sequence[tuple[float, float | None]]
    ) -> Iterator[str]:
        """Yield a mark for each version that has a value; it tells which and how much."""
        radius = 4.0 if len(points) <= _FEW else 2.5
        for point, (x, value) in zip(points, known, strict=True):
            if value is None:
                continue
            said = f"{point.version}: {value:.6g}{', ACTIVE' if point.active else ''}"
            place = (self.x(x), self.y(value))
            mark = circle("ms-d0", *place, radius, hover([said]))
            if point.active:
                mark += circle("ms-active", *place, radius + 3)
            yield link(point.href, mark, said)


def _dash(number: int) -> str:
    dash = DASHES[number // COLOURS % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _legend(lines: Sequence[Line]) -> Iterator[list[str]]:
    """Yield the rows of the legend."""
    row: list[str] = []
    place, height = 20.0, 45.0
    for number, line in enumerate(lines):
        label = shortened(line.label, _LONG)
        wide = 22 + width_of(label) + 18
        if row and place + wide > WIDTH:
            yield row
            row, place, height = [], 20.0, height + _ROW
        more = f"<title>{escaped(line.label)}</title>" if label != line.label else ""
        row.append(rect(f"ms-d{number % COLOURS}", place, height - 2, 16, 3, more=more))
        row.append(text(place + 22, height + 4, label))
        place += wide
    yield row
