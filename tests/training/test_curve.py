"""From the steps of a run to the curve that a manifest keeps."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from modelstore.curve import CurvePoint, curve_value, parse_curve
from modelstore.training.curve import MOST_POINTS, curve_of, write_chart
from modelstore.training.options import Step


def _step(number: int, loss: float, evaluation: float | None = None) -> Step:
    return Step(number, 9, loss, 1, 1.0, evaluation)


def test_a_short_run_is_kept_whole() -> None:
    """Every step is a point, and the evaluation of the base is step 0."""
    steps = [_step(1, 3.0), _step(2, 2.5, 2.75)]
    assert curve_of(steps, 3.25) == (
        CurvePoint(0, "", "3.25"),
        CurvePoint(1, "3"),
        CurvePoint(2, "2.5", "2.75"),
    )
    assert curve_of([]) == ()


@given(st.integers(0, 5000), st.sets(st.integers(1, 5000)))
def test_a_long_run_is_thinned(count: int, evaluated: set[int]) -> None:
    """There are few points, the last step is one, and the mean of all steps stays what it was."""
    steps = [_step(n, float(n % 7), 1.0 if n in evaluated else None) for n in range(1, count + 1)]
    curve = curve_of(steps, 2.0)
    assert len(curve) <= MOST_POINTS
    assert tuple(parse_curve(curve_value(curve))) == curve
    if steps:
        assert curve[-1].step == count
        before, total = 0, 0.0
        for point in curve[1:]:
            total += float(point.loss) * (point.step - before)
            before = point.step
        assert abs(total - sum(step.loss for step in steps)) < 1e-3 * count


def test_the_chart_is_a_file_of_the_result(tmp_path: Path) -> None:
    """It may be written again; without a curve there is none."""
    write_chart((), tmp_path)
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        write_chart(curve_of([_step(1, 3.0)]), tmp_path)
    assert (tmp_path / "loss.svg").read_bytes().startswith(b"<svg")
