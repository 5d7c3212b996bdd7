"""The line that lives while a model is trained, and how a plan reads."""

from __future__ import annotations

import pytest

from modelstore.cli.train_view import Line, Speed, duration, sample_lines, step_line, told
from modelstore.training.estimate import Shown
from modelstore.training.options import Step


def _speed(*steps: Step) -> Speed:
    speed = Speed()
    for step in steps:
        speed.take(step)
    return speed


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_line_fits(width: int) -> None:
    """The line is never wider than the terminal, and has a bar where there is room for one."""
    step = Step(50, 100, 1.2345, 50_000, 100.0)
    line = step_line(step, _speed(step), width)
    assert len(line) <= width
    assert "50/100" in line
    assert width < 80 or line.startswith(("━", "#"))


def test_speed_and_time_left() -> None:
    """Tokens a second and the time left follow from the steps seen."""
    steps = [Step(n, 10, 2.0, 100 * n, 2.0 * n) for n in (1, 2, 3)]
    assert told(steps[-1], _speed(*steps)) == "loss 2.0000  50 tok/s  14 s left"


def test_a_run_that_goes_on() -> None:
    """A run that is continued is as fast as it was before."""
    before = Step(51, 100, 2.0, 51_000, 102.0)
    after = Step(52, 100, 2.0, 52_000, 104.0)
    assert _speed(before).left(before) == 98
    assert _speed(before, after).tokens_per_second == 500
    assert _speed(before, after).left(after) == 96


def test_the_last_evaluation_stays() -> None:
    """The loss on the evaluation rows is shown until there is a newer one."""
    speed = _speed(Step(1, 3, 2.0, 10, 1.0, evaluation=1.5), Step(2, 3, 2.0, 20, 2.0))
    assert speed.evaluation == 1.5


def test_lines_that_stay(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody watches, a line a second is enough; evaluations and the last step are shown."""
    with Line(silent=False) as live:
        for number in range(1, 101):
            live.step(Step(number, 100, 1.0, number, number / 10, 0.5 if number == 50 else None))
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown] == ["1/100", "50/100", "100/100"]
    with Line(silent=True) as live:
        live.step(Step(1, 1, 1.0, 1, 1.0, 0.5))
        live.progress("write", 1, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (3725, "1:02:05")]
)
def test_durations(seconds: float, text: str) -> None:
    """A length of time is as short as it can be read."""
    assert duration(seconds) == text


def test_samples_are_cut() -> None:
    """Of a long sample the beginning is shown, and anybody's text cannot move the cursor."""
    lines = list(sample_lines(Shown("\n".join(map(str, range(20))), "a\x1b[2Jb\n")))
    assert sum("| " in line for line in lines) == 13
    assert "(8 more lines)" in lines[12]
    assert "\x1b[2J" not in lines[13]
