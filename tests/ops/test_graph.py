"""The drawing of a history can be read back: what is connected in it is child and parent."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from modelstore.hashing import digest_of
from modelstore.names import parse_version
from modelstore.ops.graph import Row, graph
from modelstore.state import Entry


def draw(parents: Sequence[Sequence[int]]) -> list[Row]:
    """Draw versions, oldest first, that have the given older ones as parents."""
    ids = [digest_of(str(n).encode()) for n in range(len(parents))]
    entries = [
        Entry(parse_version(f"v1.{n}"), {"id": ids[n], "parents": [ids[p] for p in older]})
        for n, older in enumerate(parents)
    ]
    return graph(entries[::-1])


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the drawing line by line."""
    return [line for row in rows for line in (row.prefix, *row.joins)]


def read_back(rows: Sequence[Row]) -> set[tuple[int, int]]:
    """Follow every lane of the drawing down; return the pairs of rows, child and parent, it joins."""
    found: set[tuple[int, int]] = set()
    carried: dict[int, set[int]] = {}
    for number, row in enumerate(rows):
        at = row.prefix.index("*") // 2
        found |= {(child, number) for child in carried.get(at, ())}
        carried = _kept(carried, row.prefix) | {at: {number}}
        for join in row.joins:
            start, end = _slant(join)
            led = carried.get(end, set()) | carried[start]
            carried = _kept(carried, join) | {end: led}
    return found


def _kept(carried: dict[int, set[int]], line: str) -> dict[int, set[int]]:
    bars = {n // 2 for n, mark in enumerate(line) if mark in "|*" and n % 2 == 0}
    return {column: children for column, children in carried.items() if column in bars}


def _slant(join: str) -> tuple[int, int]:
    """Return the columns that the one slanting line of a join begins and ends in."""
    between = [n for n, mark in enumerate(join) if mark in "/\\_" and n % 2]
    assert between == list(range(between[0], between[-1] + 1, 2))
    low, high = between[0] // 2, between[-1] // 2 + 1
    marks = "".join(join[n] for n in between)
    assert marks.strip("_") in ("/", "\\")
    assert " " not in join[between[0] : between[-1]]
    return (high, low) if marks.endswith("/") else (low, high)


def test_a_chain_is_one_lane() -> None:
    """No line but the stars is needed."""
    assert lines(draw([[], [0], [1]])) == ["*", "*", "*"]


def test_siblings_have_a_lane_each() -> None:
    """Three fine-tunes of one base are no chain, as in git."""
    assert lines(draw([[], [0], [0], [0]])) == ["*", "| *", "|/", "| *", "|/", "*"]


def test_a_merge_leads_to_both_parents() -> None:
    """A version of two parents has a line to each."""
    assert lines(draw([[], [0], [0], [1, 2]])) == ["*", "|\\", "| *", "* |", "|/", "*"]


def test_versions_without_parents_are_not_connected() -> None:
    """What merely stands below another does not stand in its column."""
    assert lines(draw([[], [], []])) == ["*", "  *", "*"]


def test_a_line_behind_another_lane_passes_it() -> None:
    """The way to a parent two lanes away goes behind the lane between."""
    rows = draw([[], [], [1], [0], [1], [0]])
    assert read_back(rows) == {(0, 5), (1, 4), (2, 5), (3, 4)}


@given(st.lists(st.lists(st.integers(0, 20), max_size=3, unique=True), max_size=14))
def test_what_is_drawn_is_what_descends(parents: Sequence[Sequence[int]]) -> None:
    """Every version is drawn once, and lanes connect exactly the children and their parents."""
    older = [[p for p in some if p < n] for n, some in enumerate(parents)]
    rows = draw(older)
    last = len(older) - 1
    assert [row.prefix.count("*") for row in rows] == [1] * len(older)
    assert all(set(line) <= set("*|/\\_ ") for line in lines(rows))
    assert read_back(rows) == {(last - n, last - p) for n, some in enumerate(older) for p in some}
