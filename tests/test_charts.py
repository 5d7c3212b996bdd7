"""Charts: the right values in the right places, for any values, and nothing that could run."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.charts import (
    HEIGHT,
    STYLE,
    WIDTH,
    Axis,
    Cell,
    ChangeMap,
    Chart,
    CostBar,
    Edge,
    Head,
    Line,
    LogAxis,
    MetricPoint,
    Node,
    TensorFigures,
    cost_bars,
    heat_map,
    line_chart,
    lineage,
    metric_chart,
    sheet,
)
from modelstore.charts.changes import ADDED, CHANGED, UNCHANGED

SVG = "{http://www.w3.org/2000/svg}"
BAD = '</text><script>alert("x")</script>&\x00\x1b'


def parsed(chart: Chart) -> ET.Element:
    """Return the file's elements."""
    return ET.fromstring(chart.document())


def texts(chart: Chart) -> list[str]:
    """Return what is written."""
    return [str(node.text) for node in parsed(chart).iter(f"{SVG}text")]


def points(chart: Chart, kind: str = "ms-line ms-c0") -> list[tuple[float, float]]:
    """Return the corners of the first line of a class."""
    found = [p for p in parsed(chart).iter(f"{SVG}polyline") if p.get("class") == kind]
    pairs = (pair.split(",") for pair in str(found[0].get("points")).split())
    return [(float(x), float(y)) for x, y in pairs]


def place_of(chart: Chart, label: str, which: str) -> float:
    """Return a coordinate of a label."""
    (node,) = (n for n in parsed(chart).iter(f"{SVG}text") if n.text == label)
    return float(str(node.get(which)))


def assert_harmless(chart: Chart) -> None:
    """Both forms are XML without scripts, styles of their own or anything from elsewhere."""
    inline = chart.inline()
    names = {node.tag for node in ET.fromstring(inline).iter()}
    assert names <= {"svg", "title", "desc", "g", "a", "text", "line", "rect", "circle", "polyline",
                     "path"}  # fmt: skip
    assert " style=" not in inline
    assert not re.search(r"<[^>]*\son\w+=", inline)
    assert not re.findall(r'href="(?!/[^/])', inline)
    assert {node.tag.removeprefix(SVG) for node in parsed(chart).iter()} <= names | {
        "style",
        "rect",
    }
    assert chart.document() == chart.document()
    assert "http" not in STYLE


# --- lines


def test_values_lie_where_the_axes_say() -> None:
    """A point at a tick's value is drawn at that tick, on both axes."""
    chart = line_chart("Loss", [Line("training", [(0, 4), (50, 2), (100, 3)])], "steps")
    assert texts(chart)[0] == "Loss"
    assert {"0", "20", "40", "60", "80", "100", "2.0", "2.5", "3.0", "3.5", "4.0"} <= set(
        texts(chart)
    )
    (x0, top), (_, bottom), (x2, middle) = points(chart)
    assert (x0, x2) == (place_of(chart, "0", "x"), place_of(chart, "100", "x"))
    # a label stands a little below the middle of its line
    for label, y in (("4.0", top), ("2.0", bottom), ("3.0", middle)):
        assert place_of(chart, label, "y") - y == 4


def test_equal_ratios_are_equally_high_where_that_is_asked_for() -> None:
    """On such an axis there is no place for what is not positive."""
    chart = line_chart("Loss", [Line("a", [(0, 1), (1, 10), (2, 100), (3, 0)])], "n", log_y=True)
    (_, low), (_, middle), (_, high) = points(chart)
    assert low - middle == pytest.approx(middle - high, abs=0.2)


@pytest.mark.parametrize("values", [[], [(1.0, math.nan)], [(math.inf, 2.0)]])
def test_a_chart_without_values_says_so(values: list[tuple[float, float]]) -> None:
    """What is not finite is no value."""
    assert "no values" in texts(line_chart("Loss", [Line("training", values)], "steps"))


def test_one_point_can_be_seen() -> None:
    """It is a mark in the middle, with axes around it."""
    chart = line_chart("Loss", [Line("training", [(7, 2.5)])], "steps")
    (mark,) = parsed(chart).iter(f"{SVG}circle")
    assert 0 < float(str(mark.get("cx"))) < WIDTH
    assert 0 < float(str(mark.get("cy"))) < HEIGHT
    assert "7" in texts(chart)
    flat = line_chart("Loss", [Line("training", [(1, 0), (2, 0)])], "steps")
    assert len({y for _, y in points(flat)}) == 1


def test_a_shadow_has_the_colour_of_its_line() -> None:
    """It is drawn first, so that the line lies above it."""
    raw = [(float(n), float(n % 3)) for n in range(60)]
    chart = line_chart("Loss", [Line("a", raw[::2], raw), Line("b", raw)], "steps")
    kinds = [node.get("class") for node in parsed(chart).iter(f"{SVG}polyline")]
    assert kinds == ["ms-line ms-faint ms-c0", "ms-line ms-c0", "ms-line ms-c1"]


finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats() | finite), max_size=30), st.booleans())
def test_any_values_make_a_chart(values: list[tuple[int, float]], log: bool) -> None:
    """It is well-formed, every point lies within, and equal values make equal bytes."""
    lines = [Line("values", [(float(x), y) for x, y in values])]
    chart = line_chart("Loss", lines, "steps", log_y=log)
    assert chart.document() == line_chart("Loss", lines, "steps", log_y=log).document()
    for node in parsed(chart).iter(f"{SVG}circle"):
        assert 0 <= float(str(node.get("cx"))) <= chart.width
        assert 0 <= float(str(node.get("cy"))) <= chart.height


@given(st.lists(finite, min_size=1, max_size=5), st.integers(2, 9))
def test_ticks_are_few_and_round(values: list[float], most: int) -> None:
    """They lie in the axis, evenly apart, at 1, 2 or 5 times a power of ten."""
    axis = Axis.over(values, most)
    assert 2 <= len(axis.ticks) <= most + 1
    step = axis.ticks[1] - axis.ticks[0]
    assert axis.start - step / 1e6 <= min(values)
    assert axis.stop + step / 1e6 >= max(values)
    assert f"{step:.0e}"[0] in "125"
    whole = Axis.over(values, most, whole=True)
    assert all(tick == int(tick) for tick in whole.ticks)


@given(st.lists(st.floats(1e-14, 1e14), min_size=1, max_size=5))
def test_an_axis_of_ratios_holds_its_values(values: list[float]) -> None:
    """Each has a place between the ends, larger ones further up."""
    axis = LogAxis.over(values, 7)
    shares = [axis.share(value) for value in sorted(values)]
    assert shares == sorted(shares)
    assert -1e-9 <= shares[0] <= shares[-1] <= 1 + 1e-9
    assert 1 <= len(axis.ticks) <= 9


# --- versions


def test_a_metric_is_broken_where_a_version_lacks_it() -> None:
    """Its line joins neighbours that have it, and ACTIVE is marked."""
    values = [2.0, 1.5, None, 1.0, 0.5]
    versions = [MetricPoint(f"v1.{n}", value, active=n == 3) for n, value in enumerate(values)]
    chart = metric_chart("loss", versions)
    assert len([*parsed(chart).iter(f"{SVG}polyline")]) == 2
    assert "ACTIVE" in texts(chart)
    assert {f"v1.{n}" for n in range(5)} <= set(texts(chart))


def test_what_was_saved_is_the_length_of_a_bar() -> None:
    """Files are above, what they added below, on a scale of equal ratios; sums are of all."""
    rows = [CostBar(f"v1.{n}", 1000, 1000 if n == 0 else 10) for n in range(100)]
    chart = cost_bars("Costs", rows)
    assert "100 versions: 100 kB of files in 1.99 kB, 50.3 times smaller" in texts(chart)
    assert any("newest" in said for said in texts(chart))
    bars = [n for n in parsed(chart).iter(f"{SVG}line") if n.get("class") == "ms-pale"]
    assert len({n.get("y2") for n in bars[1:]}) == 1


def test_a_lineage_joins_children_and_parents() -> None:
    """Each version is a row, the newest first; a branch gets a lane of its own."""
    nodes = [Node("base", "base", outside=True)]
    nodes += [Node(f"v1.{n}", f"v1.{n}", active=n == 1) for n in range(3)]
    edges = [Edge("v1.0", "base"), Edge("v1.1", "v1.0"), Edge("v1.2", "v1.0")]
    chart = lineage("Lineage", nodes, edges)
    said = [text for text in texts(chart) if text.startswith("v1.")]
    assert said == ["v1.2", "v1.1", "v1.0"]
    assert len({n.get("cx") for n in parsed(chart).iter(f"{SVG}circle")}) == 2
    assert len(texts(lineage("Long", [Node(str(n), str(n)) for n in range(5000)], []))) < 1000


# --- heat


def change(*cells: Cell, columns: int = 2) -> ChangeMap:
    """Return a map with these cells."""
    rows = tuple(Head(str(n), f"layers.{n}") for n in range(1 + max(c.row for c in cells)))
    heads = tuple(Head(f"m{n}", f"m{n}") for n in range(columns))
    return ChangeMap("m@v1.0", "m@v1.1", "summary", rows, heads, cells)


def cell(row: int, column: int | None, relative: float | None, name: str = "w") -> Cell:
    """Return a cell of one tensor; one that changed by nothing is unchanged."""
    state = CHANGED if relative else UNCHANGED
    figures = TensorFigures(name, state, 1000, 10 if relative else 0, relative, 0.5)
    return Cell(row, column, state, relative, (figures,))


def test_a_larger_change_has_another_colour_and_none_a_frame() -> None:
    """What is not there is not drawn, and each cell tells its figures exactly."""
    chart = heat_map("Change", change(cell(0, 0, 1e-5), cell(0, 1, 1e-2), cell(1, 0, None)))
    told = [
        (str(node.get("class")), str(title.text))
        for node in parsed(chart).iter()
        for title in node.findall(f"{SVG}title")
        if node.tag != f"{SVG}svg"
    ]
    assert len(told) == 3
    assert len({kind for kind, _ in told}) == 3
    assert any("1e-05" in said and "10 of 1,000" in said for _, said in told)


@given(
    st.lists(
        st.tuples(st.integers(0, 120), st.none() | st.integers(0, 30), st.none() | st.floats(0, 1e30)),
        min_size=1, max_size=60, unique_by=lambda one: one[:2],
    ),
    st.text(max_size=30),
)  # fmt: skip
def test_any_changes_make_a_map(
    found: list[tuple[int, int | None, float | None]], name: str
) -> None:
    """However many layers and modules there are, whatever they are called."""
    cells = [cell(row, column, relative, name) for row, column, relative in found]
    chart = heat_map(name, change(*cells, columns=31))
    assert_harmless(chart)
    for node in parsed(chart).iter(f"{SVG}rect"):
        assert 0 <= float(str(node.get("x"))) <= chart.width
        assert 0 <= float(str(node.get("y"))) <= chart.height


# --- all of them


def _all_metrics(said: str) -> Chart:
    shown = MetricPoint(said, 1.0, active=True, href="/a")
    return metric_chart(said, [shown, MetricPoint(said, 2.0)])


def _all_lineage(said: str) -> Chart:
    nodes = [Node("a", said, said, href=said), Node("b", said)]
    return lineage(said, nodes, [Edge("b", "a")])


def _all_heat(said: str) -> Chart:
    head = Head(said, said, said)
    added = Cell(0, 0, ADDED, None, (TensorFigures(said, ADDED, remark=said),))
    return heat_map(said, ChangeMap(said, said, said, (head,), (head,), (added,)))


ALL: list[Callable[[str], Chart]] = [
    lambda said: line_chart(said, [Line(said, [(1, 1), (2, 2)])], said, said),
    _all_metrics,
    lambda said: cost_bars(said, [CostBar(said, 100, 3, True, "/a"), CostBar(said, 100, 0)]),
    _all_lineage,
    _all_heat,
    lambda said: sheet(said, [line_chart(said, [], said), cost_bars(said, [])]),
]


@pytest.mark.parametrize("make", ALL)
def test_text_is_text(make: Callable[[str], Chart]) -> None:
    """A title or a label is shown, whatever it looks like; a chart holds no script."""
    chart = make(BAD)
    assert_harmless(chart)
    assert b"<script" not in chart.document()
    assert_harmless(make(""))
    assert_harmless(make("long " * 300))


@pytest.mark.parametrize("make", ALL)
@given(said=st.text(max_size=60))
def test_any_text_makes_a_chart(make: Callable[[str], Chart], said: str) -> None:
    """Equal values make equal bytes; the ids of two charts in one page differ by their key."""
    chart = make(said)
    assert_harmless(chart)
    assert chart.document() == make(said).document()
    assert chart.inline("a") != chart.inline("b")


def test_a_link_leads_nowhere_else() -> None:
    """Only a path of the same server can be followed."""
    for href in ("javascript:alert(1)", "https://example.org", "//example.org"):
        chart = metric_chart("loss", [MetricPoint("v1.0", 1.0, href=href)])
        assert "<a" not in chart.inline()
    assert (
        '<a href="/models/m"'
        in metric_chart("l", [MetricPoint("v", 1.0, href="/models/m")]).inline()
    )
