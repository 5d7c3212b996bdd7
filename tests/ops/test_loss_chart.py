"""The chart of a training's loss, from what a manifest keeps of it."""

from __future__ import annotations

from modelstore.curve import CurvePoint
from modelstore.ops.loss_chart import loss_chart


def test_few_steps_are_drawn_as_they_are() -> None:
    """One line with its points, and the evaluation beside it from step 0 on."""
    curve = [CurvePoint(0, "", "3.5"), CurvePoint(1, "3.0"), CurvePoint(2, "2.5", "2.75")]
    svg = loss_chart(curve).decode()
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 4
    assert ">training<" in svg
    assert ">evaluation<" in svg


def test_many_steps_are_a_mean_over_a_pale_line() -> None:
    """The mean of a straight line lies on it, and ends where neighbours are too few."""
    curve = [CurvePoint(step, str(step)) for step in range(1, 301)]
    svg = loss_chart(curve).decode()
    raw, mean = (part.split('"')[0] for part in svg.split('points="')[1:])
    assert mean in raw
    assert len(mean.split()) == 290
    assert "mean of nearby steps" in svg
    assert "evaluation" not in svg


def test_no_curve_is_a_chart_without_values() -> None:
    """It says so."""
    assert b"no values" in loss_chart([])
