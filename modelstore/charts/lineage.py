"""Which version was made from which: one row each, newest first, in lanes as git draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modelstore.charts.parts import (
    Chart,
    circle,
    hover,
    link,
    rect,
    short,
    shortened,
    text,
    width_of,
)
from modelstore.charts.style import COLOURS

MOST_NODES = 200
"""That are drawn; of more the newest, and what they hang on."""

_ROW, _LANE, _LEFT, _TOP = 28.0, 18.0, 30.0, 62.0
_WIDTH = 680.0
_MOST_LANES = 16
_LONG_LABEL, _LONG_NOTE = 34, 70  # characters


@dataclass(frozen=True, slots=True)
class Node:
    """A version, or what it hangs on from elsewhere.

    Attributes:
        key: what edges name it by.
        label: what it is called.
        note: what else is said of it, in one line, or "".
        active: whether it is ACTIVE.
        outside: whether it is no version of this model: a base, or another model's.
        href: a path that leads to it, or "".
    """

    key: str
    label: str
    note: str = ""
    active: bool = False
    outside: bool = False
    href: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """That ``child`` was made from ``parent``; both are keys of nodes."""

    child: str
    parent: str


def lineage(title: str, nodes: Sequence[Node], edges: Sequence[Edge]) -> Chart:
    """Return the graph of versions.

    Args:
        nodes: oldest first: a parent before its children. What is outside may be anywhere.
        edges: those to keys that no node has, or from a version to a newer one, are left out.
    """
    if not nodes:
        parts = [text(20, 28, title, "ms-title"), text(20, 50, "no versions")]
        return Chart(title, "There are no versions.", _WIDTH, 80, "\n".join(parts))
    return _Drawing(title, *_shown(nodes, edges)).chart()


def _shown(
    nodes: Sequence[Node], edges: Sequence[Edge]
) -> tuple[list[Node], Mapping[str, list[str]]]:
    """Return the nodes to draw, newest first with what is outside last, and their parents."""
    unique = {node.key: node for node in nodes}
    inside = [node for node in unique.values() if not node.outside][::-1]
    rows, hidden = inside[:MOST_NODES], {node.key for node in inside[MOST_NODES:]}
    parents: dict[str, list[str]] = {}
    for edge in edges:
        parents.setdefault(edge.child, []).append(edge.parent)
    wanted = dict.fromkeys(parent for node in rows for parent in parents.get(node.key, ()))
    outside = [unique[key] for key in wanted if key in unique and unique[key].outside]
    rows += outside[:MOST_NODES]
    if hidden:
        earlier = f"{len(hidden):,} earlier version{'' if len(hidden) == 1 else 's'}"
        rows.append(Node("\0earlier", earlier, outside=True))
    place = {node.key: number for number, node in enumerate(rows)}
    place |= dict.fromkeys(hidden, len(rows) - 1)
    found = {
        node.key: list(
            dict.fromkeys(
                rows[place[parent]].key
                for parent in parents.get(node.key, ())
                if place.get(parent, -1) > number
            )
        )
        for number, node in enumerate(rows)
        if not node.outside
    }
    return rows, found


class _Drawing:
    """Gives every node a lane, and draws lines between them."""

    def __init__(self, title: str, rows: Sequence[Node], parents: Mapping[str, list[str]]) -> None:
        self._title = title
        self._rows = rows
        self._parents = parents
        self._place = {node.key: number for number, node in enumerate(rows)}
        self._lane = _lanes(rows, parents)
        lanes = min(_MOST_LANES, 1 + max(self._lane.values()))
        self._text = _LEFT + lanes * _LANE + 8

    def chart(self) -> Chart:
        """Return all of it."""
        count = sum(not node.outside for node in self._rows)
        told = f"{count} version{'' if count == 1 else 's'}, newest first"
        parts = [text(20, 28, self._title, "ms-title"), text(20, 46, told, "ms-small")]
        parts += [
            self._edge(child, parent) for child in self._parents for parent in self._parents[child]
        ]
        parts += [self._node(node) for node in self._rows]
        height = _TOP + _ROW * len(self._rows) + 8
        said = "; ".join(self._said())
        links = any(node.href for node in self._rows)
        return Chart(self._title, f"{told}. {said}", _WIDTH, height, "\n".join(parts), links)

    def _said(self) -> Iterator[str]:
        for child, parents in list(self._parents.items())[:20]:
            named = [self._rows[self._place[parent]].label for parent in parents]
            label = self._rows[self._place[child]].label
            yield f"{label} from {' and '.join(named)}" if named else f"{label} from nothing here"

    def _at(self, key: str) -> tuple[float, float]:
        lane = min(self._lane[key], _MOST_LANES - 1)
        return _LEFT + lane * _LANE, _TOP + (self._place[key] + 0.5) * _ROW

    def _edge(self, child: str, parent: str) -> str:
        (x1, y1), (x2, y2) = self._at(child), self._at(parent)
        colour = max(self._lane[child], self._lane[parent]) % COLOURS
        if x1 == x2:
            way = f"M{short(x1)} {short(y1)}V{short(y2)}"
        elif self._lane[parent] > self._lane[child]:  # out of the way first, then down
            way = f"M{short(x1)} {short(y1)}{_bend(x1, y1, x2, y1 + _ROW)}V{short(y2)}"
        else:  # down in its own lane, then over
            way = f"M{short(x1)} {short(y1)}V{short(y2 - _ROW)}{_bend(x1, y2 - _ROW, x2, y2)}"
        return f'<path class="ms-line ms-c{colour}" d="{way}"/>'

    def _node(self, node: Node) -> str:
        x, y = self._at(node.key)
        colour = f"ms-d{self._lane[node.key] % COLOURS}"
        said = ", ".join(filter(None, (node.label, "ACTIVE" if node.active else "", node.note)))
        if node.outside:
            mark = rect("ms-axis ms-open", x - 5, y - 5, 10, 10, 2)
        else:
            mark = circle(colour, x, y, 5)
        if node.active:
            mark += circle("ms-active", x, y, 8.5)
        label = shortened(node.label, _LONG_LABEL)
        kind = "" if node.outside else "ms-strong ms-bold"
        drawn = mark + text(self._text, y + 4, label, kind)
        after = self._text + width_of(label) * 1.06 + 12
        if node.active:
            drawn += text(after, y + 4, "ACTIVE", "ms-said ms-bold ms-small")
            after += 52
        room = min(_LONG_NOTE, int((_WIDTH - 20 - after) / 6.6))
        if node.note and room > 6:
            drawn += text(after, y + 4, shortened(node.note, room))
        return link(node.href, f"<g>{hover([said])}{drawn}</g>")


def _bend(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = short((y1 + y2) / 2)
    return f"C{short(x1)} {middle} {short(x2)} {middle} {short(x2)} {short(y2)}"


def _lanes(rows: Sequence[Node], parents: Mapping[str, list[str]]) -> dict[str, int]:
    """Return the lane of every node: that of its first child, unless a sibling has it already."""
    found: dict[str, int] = {}
    waiting: list[str | None] = []  # what each lane leads to
    for node in rows:
        lane = _take(waiting, node.key)
        found[node.key] = lane
        for number, key in enumerate(waiting):
            if key == node.key:
                waiting[number] = None
        fresh = [p for p in parents.get(node.key, ()) if p not in waiting]
        if fresh:
            waiting[lane] = fresh[0]
        elif parents.get(node.key):
            waiting[lane] = parents[node.key][0]  # beside its sibling, down to their parent
        for parent in fresh[1:]:
            waiting[_free(waiting, lane + 1)] = parent
    return found


def _take(waiting: list[str | None], key: str) -> int:
    return waiting.index(key) if key in waiting else _free(waiting, 0)


def _free(waiting: list[str | None], first: int) -> int:
    """Return the first free lane from ``first`` on."""
    while len(waiting) < first:
        waiting.append(None)
    for lane in range(first, len(waiting)):
        if waiting[lane] is None:
            return lane
    waiting.append(None)
    return len(waiting) - 1
