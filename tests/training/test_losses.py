"""Losses: what is reported and summed up, and when a run has run away."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import DivergedError
from modelstore.training.losses import Losses, Past, Watchdog
from modelstore.training.metrics import Metrics, go_back, read, step_of, value_of
from modelstore.training.options import Step


def test_an_infinite_gradient_ends_a_run() -> None:
    """A loss may still look fine when its gradient is not."""
    steps: list[Step] = []
    losses = Losses(steps.append)
    losses.take({"loss": 2.0, "grad_norm": 1.0}, 1, 2)
    with pytest.raises(DivergedError, match="grad_norm of step 2 is inf"):
        losses.take({"loss": 2.0, "grad_norm": math.inf}, 2, 2)
    assert len(steps) == 1


def test_an_evaluation_belongs_to_its_step() -> None:
    """A step that is evaluated is reported once, with its evaluation; the base's is no step."""
    steps: list[Step] = []
    losses = Losses(steps.append)
    losses.evaluated(3.0, 0)
    losses.take({"loss": 2.0, "num_tokens": 7, "learning_rate": 0.5}, 1, 2)
    losses.take({"loss": 1.0, "num_tokens": 9}, 2, 2, evaluates=True)
    assert len(steps) == 1
    losses.evaluated(1.5, 2)
    assert [(s.number, s.evaluation, s.tokens, s.rate) for s in steps] == [
        (1, None, 7, 0.5),
        (2, 1.5, 9, 0.0),
    ]
    metrics = losses.metrics()
    assert (metrics["eval_loss_before"], metrics["eval_loss"]) == (3.0, 1.5)
    assert (metrics["loss"], metrics["first_loss"], metrics["steps"]) == (1.5, 2.0, 2)
    with pytest.raises(DivergedError, match="evaluation loss after step 2 is nan"):
        losses.evaluated(math.nan, 2)


def test_a_continued_run_counts_on() -> None:
    """Tokens and seconds go on from where the run was."""
    past = Past((Step(1, 3, 2.0, 100, 50.0),), before=4.0)
    losses = Losses(lambda _: None, past)
    losses.take({"loss": 1.0, "num_tokens": 11}, 2, 3)
    assert [step.tokens for step in losses.curve] == [100, 111]
    assert losses.curve[-1].seconds >= 50.0
    assert losses.metrics()["eval_loss_before"] == 4.0


def test_losses_that_only_grow_end_a_run() -> None:
    """The mean of twenty steps decides, and names what it was and what it became."""
    dog = Watchdog()
    for number in range(1, 41):
        dog.see(1.0, number)
    for number in range(41, 51):
        dog.see(9.0, number)  # a mean of 5 is three times 1 and 2 more, and no more than that
    with pytest.raises(DivergedError, match=r"5\.400 .* step 51, and it was 1\.000") as caught:
        dog.see(9.0, 51)
    assert "--learning-rate" in caught.value.hint


@given(st.lists(st.floats(0.0, 2.0), max_size=200), st.floats(5.0, 12.0))
def test_noise_ends_no_run(losses: list[float], first: float) -> None:
    """Single steps may be as easy or hard as they like, and a loss may fall as it likes."""
    dog = Watchdog([first])
    for number, loss in enumerate(losses, 2):
        dog.see(loss, number)  # raises nothing


STEPS = st.builds(
    Step,
    number=st.integers(1, 10**6),
    total=st.integers(1, 10**6),
    loss=st.floats(0, 1e6),
    tokens=st.integers(0, 10**12),
    seconds=st.integers(0, 10**6).map(lambda n: n / 1000),
    evaluation=st.none() | st.floats(0, 1e6),
    rate=st.floats(0, 1),
)


@given(STEPS)
def test_a_step_comes_back_from_its_line(step: Step) -> None:
    """What is written of a step is all there is to it."""
    assert step_of(value_of(step)) == step


def test_measurements_outlive_a_torn_line(tmp_path: Path) -> None:
    """A line that was cut off is none, and going back forgets what came later."""
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    metrics.base(3.0)
    step = Step(1, 5, 2.0, 10, 1.0)
    for number in (1, 2, 3):
        metrics.take(replace(step, number=number))
    metrics.flush()
    with path.open("ab") as file:
        file.write(b'{"step": 4, "lo')
    assert [row["step"] for row in read(path)] == [0, 1, 2, 3]
    past = go_back(path, 2, 1.5)
    assert ([one.number for one in past.steps], past.before, past.cpu) == ([1, 2], 3.0, 1.5)
    assert [row["step"] for row in read(path)] == [0, 1, 2]
    assert go_back(tmp_path / "none.jsonl", 0, 0.0) == Past()
