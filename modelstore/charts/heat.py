"""A heat map of change: layers from top to bottom, modules from left to right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from modelstore.charts.axes import LogAxis
from modelstore.charts.changes import (
    ADDED,
    CHANGED,
    PACKED,
    REMOVED,
    REPLACED,
    UNCHANGED,
    Cell,
    ChangeMap,
    Head,
    TensorFigures,
)
from modelstore.charts.parts import Chart, hover, rect, shortened, stroke, text, width_of
from modelstore.charts.style import STEPS

_LEFT, _RIGHT = 24.0, 24.0
_GRID = 600.0  # what columns share
_NARROWEST, _WIDEST = 13.0, 64.0
_TALL = ((24, 20.0), (40, 16.0), (72, 12.0), (140, 8.0), (10**9, 5.0))  # rows up to, height of each
_APART = 8.0  # between stacks of layers
_LINE = 13.0  # of a label
_LONG_ROW, _LONG_COLUMN = 26, 24  # characters of labels
_TURN = -42.0
_STEP = 24.0  # of the legend
_WIDEST_SCALE = 1e6  # of the largest change over the least that has a colour of its own
_MOST_NAMED = 4  # tensors of a cell that are told one by one

_GLYPHS = {ADDED: "+", REMOVED: "−", REPLACED: "≠", PACKED: "~"}
_MEANINGS = {
    UNCHANGED: "unchanged",
    ADDED: "added",
    REMOVED: "removed",
    REPLACED: "other dtype or shape",
    PACKED: "changed, not comparable",
}


def heat_map(title: str, change: ChangeMap) -> Chart:
    """Return how tensors changed, layer by module.

    The colour of a cell is its relative change, on a scale of equal ratios; what is there without
    change is an empty frame, what is not there is nothing at all. Each cell tells its tensors and
    their exact figures. Changes below a millionth of the largest have the colour of the least.
    """
    if not change.cells:
        parts = [text(20, 28, title, "ms-title"), text(20, 50, "no tensors")]
        return Chart(title, "There are no tensors.", 680, 80, "\n".join(parts))
    return _Drawing(title, change).chart()


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a row is."""

    head: Head
    top: float
    height: float


class _Drawing:
    """Places everything, and draws it."""

    def __init__(self, title: str, change: ChangeMap) -> None:
        self._title = title
        self._change = change
        self._scale = _scale(change.cells)
        columns = change.columns
        self._wide = min(_WIDEST, max(_NARROWEST, _GRID / max(1, len(columns))))
        stacks = {row.group for row in change.rows}
        label = max(width_of(shortened(row.label, _LONG_ROW)) for row in change.rows)
        self._left = _LEFT + label + 8 + (18 if stacks != {""} else 0)
        self._grid = max(self._wide * len(columns), 240.0 if not columns else 0.0)
        labels = [width_of(shortened(column.label, _LONG_COLUMN), 11) for column in columns]
        self._turned = any(label > self._wide - 6 for label in labels)
        self._heads = _heads_height(labels, turned=self._turned)
        overhang = self._wide / 2 + labels[-1] * math.cos(math.radians(_TURN)) if labels else 0.0
        right = (
            self._left + self._grid + max(_RIGHT, overhang - self._wide + 8 if self._turned else 0)
        )
        legend = 20 + _STEP * STEPS + 40 + 150 * math.ceil(len(self._others()) / 2)
        self._full = max(right, legend, 480.0)
        self._top = 118.0 + self._heads
        self._rows = list(self._placed())

    def chart(self) -> Chart:
        """Return all of it."""
        parts = [
            text(20, 28, self._title, "ms-title"),
            *self._summary(),
            *self._legend(),
            *self._columns(),
            *self._row_labels(),
            *(part for cell in self._change.cells for part in self._cell(cell)),
            *self._groups(),
        ]
        bottom = self._rows[-1].top + self._rows[-1].height
        height = bottom + (44 if any(c.group for c in self._change.columns) else 20)
        told = (
            f"Rows are layers, columns are modules; colours are the {self._change.measure} "
            f"from {self._change.before} to {self._change.after}. {self._change.summary}."
        )
        return Chart(self._title, told, self._full, height, "\n".join(parts))

    def _placed(self) -> Iterator[_Row]:
        top = self._top
        heads = self._change.rows
        tall = next(height for most, height in _TALL if len(heads) <= most)
        lone = {cell.row for cell in self._change.cells if cell.column is None}
        before: tuple[bool, str] | None = None
        for number, head in enumerate(heads):
            kind = (number in lone, head.group)
            if before is not None and kind != before:
                top += _APART
            height = max(tall, _LINE + 1) if number in lone and len(lone) < 40 else tall
            yield _Row(head, top, height)
            top, before = top + height, kind

    # --- around the cells

    def _summary(self) -> Iterator[str]:
        room = int(self._full / 6.4)
        yield text(20, 48, shortened(self._change.summary, max(20, room)))

    def _others(self) -> list[str]:
        """Return the states that have no colour, of those that occur."""
        found = {cell.state for cell in self._change.cells}
        return [state for state in _MEANINGS if state in found]

    def _legend(self) -> Iterator[str]:
        left, top = 20.0, 62.0
        if self._scale is not None:
            for step in range(STEPS):
                yield rect(f"ms-cell ms-h{step}", left + step * _STEP, top, _STEP, 11)
            for tick in self._scale.ticks:
                place = left + self._scale.share(tick) * STEPS * _STEP
                yield stroke("ms-axis", place, top + 11, place, top + 15)
                yield text(place, top + 26, self._scale.label(tick), "ms-small", "middle")
            yield text(left, top + 41, self._change.measure, "ms-small")
            left += STEPS * _STEP + 40
        for number, state in enumerate(self._others()):
            x, y = left + 150 * (number // 2), top + 22.0 * (number % 2)
            yield from self._framed(state, x, y, 14, 11)
            yield text(x + 20, y + 10, _MEANINGS[state], "ms-small")

    def _columns(self) -> Iterator[str]:
        foot = self._top - 7
        for number, head in enumerate(self._change.columns):
            x = self._left + (number + 0.5) * self._wide
            label = shortened(head.label, _LONG_COLUMN)
            if self._turned:
                yield text(x + 2, foot, label, "ms-small", turn=_TURN)
            else:
                yield text(x, foot, label, "ms-small", "middle")

    def _groups(self) -> Iterator[str]:
        """Yield a line below columns that belong together, and what they belong to."""
        last = self._rows[-1]
        y, start = last.top + last.height + 9, 0
        for group, members in groupby(self._change.columns, key=lambda column: column.group):
            stop = start + len(list(members))
            left, right = self._left + start * self._wide + 3, self._left + stop * self._wide - 3
            most = int((right - left) / 6)
            if group and (most >= len(group) or most > 5):
                yield stroke("ms-axis", left, y, right, y)
                yield text((left + right) / 2, y + 14, shortened(group, most), "ms-small", "middle")
            start = stop

    def _row_labels(self) -> Iterator[str]:
        last = -math.inf
        for row in self._rows:
            middle = row.top + row.height / 2
            if middle - last >= _LINE - 1.5:
                label = shortened(row.head.label, _LONG_ROW)
                yield text(self._left - 8, middle + 4, label, "ms-small", "end")
                last = middle
        for group, members in groupby(self._rows, key=lambda row: row.head.group):
            rows = list(members)
            if not group:
                continue
            top, bottom = rows[0].top, rows[-1].top + rows[-1].height
            label = shortened(group, max(3, int((bottom - top) / 6)))
            yield text(_LEFT, (top + bottom) / 2, label, "ms-small", "middle", turn=-90)

    # --- cells

    def _cell(self, cell: Cell) -> Iterator[str]:
        row = self._rows[cell.row]
        x, wide = self._left, self._grid
        if cell.column is not None:
            x, wide = self._left + cell.column * self._wide, self._wide
        lines = list(_told(cell, self._change.measure))
        if cell.state == CHANGED and cell.relative is not None and self._scale is not None:
            kind = f"ms-cell ms-h{_step(self._scale, cell.relative)}"
            yield rect(kind, x, row.top, wide, row.height, more=hover(lines))
            return
        gap = 1.5 if row.height > 7 else 0.8
        place = (x + gap, row.top + gap, wide - 2 * gap, row.height - 2 * gap)
        yield from self._framed(cell.state, *place, lines=lines)

    def _framed(
        self, state: str, x: float, y: float, wide: float, tall: float, lines: Sequence[str] = ()
    ) -> Iterator[str]:
        """Yield a frame, and the sign of its state."""
        more = hover(lines) if lines else ""
        kind = "ms-hollow" if state == UNCHANGED else "ms-other"
        yield rect(f"{kind} ms-hit", x, y, wide, tall, 2 if tall > 8 else 0, more)
        glyph = _GLYPHS.get(state, "~" if state == CHANGED else "")
        if glyph and tall > 8:
            yield text(x + wide / 2, y + tall / 2 + 4, glyph, "ms-small ms-sign", "middle")


def _heads_height(labels: Sequence[float], *, turned: bool) -> float:
    if not labels:
        return 0.0
    return 12 + max(labels) * math.sin(math.radians(-_TURN)) if turned else 16.0


def _scale(cells: Sequence[Cell]) -> LogAxis | None:
    found = [cell.relative for cell in cells if cell.state == CHANGED and cell.relative]
    if not found:
        return None
    largest = max(found)
    return LogAxis.over([max(min(found), largest / _WIDEST_SCALE), largest], 7)


def _step(scale: LogAxis, value: float) -> int:
    if value <= scale.start:
        return 0
    return min(STEPS - 1, int(scale.share(value) * STEPS))


# --- what a cell tells


def _told(cell: Cell, measure: str) -> Iterator[str]:
    order = sorted(cell.tensors, key=lambda one: -(one.relative or 0.0))
    if len(order) > 1:
        changed = sum(one.state != UNCHANGED for one in order)
        mean = f", together {measure} {cell.relative:.4g}" if cell.relative is not None else ""
        yield f"{len(order)} tensors, {changed} changed{mean}"
    for one in order[:_MOST_NAMED]:
        yield from _told_of(one, measure)
    if len(order) > _MOST_NAMED:
        yield f"and {len(order) - _MOST_NAMED} more"


def _told_of(one: TensorFigures, measure: str) -> Iterator[str]:
    yield one.name
    if one.state in (CHANGED, PACKED):
        share = 100 * one.changed / max(1, one.values)
        things = "bytes" if one.state == PACKED else "values"
        yield f"  {one.changed:,} of {one.values:,} {things} changed ({share:.3g} %)"
        if one.relative is not None and one.state == CHANGED:
            largest = f", largest change {one.largest:.4g}" if one.largest is not None else ""
            yield f"  {measure} {one.relative:.4g}{largest}"
    else:
        yield f"  {_MEANINGS[one.state]}"
    if one.remark:
        yield f"  {one.remark}"
