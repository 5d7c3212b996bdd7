"""Charts: the right values in the right places, for any values, and nothing that could run."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.charts import HEIGHT, WIDTH, Axis, Line, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg: str) -> list[str]:
    return [str(node.text) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def _points(svg: str, kind: str = "line c0") -> list[tuple[float, float]]:
    found = [p for p in ET.fromstring(svg).iter(f"{SVG}polyline") if p.get("class") == kind]
    pairs = (pair.split(",") for pair in str(found[0].get("points")).split())
    return [(float(x), float(y)) for x, y in pairs]


def _place_of(svg: str, label: str, which: str) -> float:
    (node,) = (n for n in ET.fromstring(svg).iter(f"{SVG}text") if n.text == label)
    return float(str(node.get(which)))


def test_values_lie_where_the_axes_say() -> None:
    """A point at a tick's value is drawn at that tick, on both axes."""
    svg = line_chart("Loss", "steps", [Line("training", [(0, 4), (50, 2), (100, 3)])])
    assert _texts(svg)[0] == "Loss"
    assert {"0", "20", "40", "60", "80", "100", "2.0", "2.5", "3.0", "3.5", "4.0"} <= set(
        _texts(svg)
    )
    (x0, top), (_, bottom), (x2, middle) = _points(svg)
    assert (x0, x2) == (_place_of(svg, "0", "x"), _place_of(svg, "100", "x"))
    # a label stands a little below the middle of its line
    for label, y in (("4.0", top), ("2.0", bottom), ("3.0", middle)):
        assert _place_of(svg, label, "y") - y == 4


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)], [(math.inf, 2.0)]])
def test_a_chart_without_values_says_so(points: list[tuple[float, float]]) -> None:
    """What is not finite is no value."""
    assert "no values" in _texts(line_chart("Loss", "steps", [Line("training", points)]))


def test_one_point_can_be_seen() -> None:
    """It is a mark in the middle, with axes around it."""
    svg = line_chart("Loss", "steps", [Line("training", [(7, 2.5)])])
    (mark,) = ET.fromstring(svg).iter(f"{SVG}circle")
    assert 0 < float(str(mark.get("cx"))) < WIDTH
    assert 0 < float(str(mark.get("cy"))) < HEIGHT
    assert "7" in _texts(svg)
    flat = line_chart("Loss", "steps", [Line("training", [(1, 0), (2, 0)])])
    assert len({y for _, y in _points(flat)}) == 1


def test_text_is_escaped() -> None:
    """A title or a label is text, whatever it looks like; a chart holds no script."""
    bad = '</text><script>alert("x")</script>&\x00\x1b'
    svg = line_chart(bad, bad, [Line(bad, [(1, 1)])])
    assert "<script" not in svg
    assert _texts(svg)[0] == '</text><script>alert("x")</script>&'


def test_a_shadow_has_the_colour_of_its_line() -> None:
    """It is drawn first, so that the line lies above it."""
    raw = [(float(n), float(n % 3)) for n in range(60)]
    svg = line_chart("Loss", "steps", [Line("a", raw[::2], raw), Line("b", raw)])
    kinds = [node.get("class") for node in ET.fromstring(svg).iter(f"{SVG}polyline")]
    assert kinds == ["line faint c0", "line c0", "line c1"]


finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats() | finite), max_size=30))
def test_any_values_make_a_chart(values: list[tuple[int, float]]) -> None:
    """It is well-formed, every point lies within, and equal values make equal bytes."""
    lines = [Line("values", [(float(x), y) for x, y in values])]
    svg = line_chart("Loss", "steps", lines)
    assert svg == line_chart("Loss", "steps", lines)
    for node in ET.fromstring(svg).iter(f"{SVG}circle"):
        assert 0 <= float(str(node.get("cx"))) <= WIDTH
        assert 0 <= float(str(node.get("cy"))) <= HEIGHT


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
