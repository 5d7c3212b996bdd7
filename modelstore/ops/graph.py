"""The drawing of ``mstore log --graph``: which version descends from which, as git draws it.

A lane is a column that leads down to one version. Siblings have a lane each until a line below the
last of them joins it to the lane of their common parent:

    *      v1.3
    | *    v1.2
    |/
    | *    v1.1
    |/
    *      v1.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from modelstore.state import Entry


@dataclass(frozen=True, slots=True)
class Row:
    """What stands before a version, and the lines between it and the next one."""

    prefix: str
    joins: tuple[str, ...]


def graph(entries: Sequence[Entry]) -> list[Row]:
    """Return one row per entry; a parent that is not among ``entries`` has no lane.

    Args:
        entries: newest first.
    """
    lanes = _Lanes()
    return [lanes.draw(number, parents) for number, parents in enumerate(_parents(entries))]


def _parents(entries: Sequence[Entry]) -> list[list[int]]:
    """Return the places of each entry's parents, which lie further down."""
    below: dict[str, int] = {}
    found: list[list[int]] = []
    for number in reversed(range(len(entries))):
        known = [below[parent] for parent in entries[number].parents if parent in below]
        found.append(list(dict.fromkeys(known)))
        if entries[number].id is not None:
            below[str(entries[number].id)] = number
    return found[::-1]


@dataclass(slots=True)
class _Lanes:
    """The columns: which entry each leads to, None where it is free.

    A lane changes its column only by a line that is drawn, and none begins right below the end of
    another: what stands in one column, line by line, is connected.
    """

    leads_to: list[int | None] = field(default_factory=list)
    ended: int | None = None

    def draw(self, number: int, parents: Sequence[int]) -> Row:
        """Draw one entry, and what leads from it to its parents."""
        if number not in self.leads_to:
            self._begin(number, 0)
        at = self.leads_to.index(number)
        prefix = self._line({at: "*"})
        self.leads_to[at], self.ended = None, None
        if not parents:
            self.ended = at
        return Row(prefix, tuple(self._lead_on(at, parents)))

    def _lead_on(self, at: int, parents: Sequence[int]) -> Iterator[str]:
        """Yield the lines that lead from an entry in column ``at`` to the lanes of its parents."""
        joined = [parent for parent in parents if parent in self.leads_to]
        fresh = [parent for parent in parents if parent not in self.leads_to]
        if fresh:
            self.leads_to[at] = fresh[0]
        for parent in fresh[1:]:
            to = self._begin(parent, at + 1)
            yield self._join(at, to, {to: " "})
        for number, parent in enumerate(joined):
            to = self.leads_to.index(parent)
            last = not fresh and number == len(joined) - 1
            if last and to > at:  # the lane on the right joins this one, which goes on
                self.leads_to[at], self.leads_to[to] = parent, None
                at, to = to, at
            yield self._join(at, to, {} if last else {at: "|"})

    def _begin(self, number: int, first: int) -> int:
        """Lead a free column, from ``first`` on, to an entry; return which."""
        for column in range(first, len(self.leads_to)):
            if self.leads_to[column] is None and column != self.ended:
                self.leads_to[column] = number
                return column
        self.leads_to.append(number)
        return len(self.leads_to) - 1

    def _join(self, at: int, to: int, marks: Mapping[int, str]) -> str:
        """Return the line that leads from column ``at`` to column ``to``, behind those between."""
        line = list(self._line(marks).ljust(2 * len(self.leads_to)))
        low, high = sorted((at, to))
        for between in range(2 * low + 1, 2 * high):
            line[between] = "_" if line[between] == " " else line[between]
        line[2 * at - 1 if to < at else 2 * at + 1] = "/" if to < at else "\\"
        return "".join(line).rstrip()

    def _line(self, marks: Mapping[int, str]) -> str:
        """Return a line with these marks by column, and a bar in every other lane."""
        bars = ["|" if lane is not None else " " for lane in self.leads_to]
        return " ".join(marks.get(n, bar) for n, bar in enumerate(bars)).rstrip()
