"""What a run will take is counted, reckoned, and tried out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.training.base import open_base
from modelstore.training.data import load_data
from modelstore.training.estimate import measure, reckon, steps_of
from modelstore.training.options import TrainOptions

pytest.importorskip("trl")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Seven conversations."""
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "yes"}]
    path.write_text((json.dumps({"messages": turns}) + "\n") * 7)
    return path


def test_what_is_counted(tiny_model: Path, data: Path) -> None:
    """Samples, tokens and steps are those of the run, and samples say what is learned."""
    options = TrainOptions(device="cpu", epochs=2, batch_size=2)
    measured = measure(load_data([data]), options, open_base(tiny_model))
    found = measured.estimate
    assert (found.samples, found.steps, found.truncated, found.dropped) == (7, 8, 0, 0)
    assert found.learned == 7 * len("yes.\n")
    assert found.parameters == open_base(tiny_model).parameters
    assert (found.seconds_per_step, found.seconds) == (None, None)
    first, second = measured.shown
    assert first == second
    assert first.context == "<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n"
    assert first.answer == "yes<|im_end|>\n"


@pytest.mark.parametrize("method", ["lora", "last-1"])
def test_a_probe(tiny_model: Path, data: Path, method: str) -> None:
    """Two steps on the real model tell how long the run takes."""
    options = TrainOptions(device="cpu", method=method)
    found = measure(load_data([data]), options, open_base(tiny_model), probe=True).estimate
    assert found.seconds_per_step is not None
    assert found.seconds == found.seconds_per_step * found.steps
    assert found.memory > 1 << 20


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (TrainOptions(device="cpu"), 10),
        (TrainOptions(device="cpu", batch_size=3), 4),
        (TrainOptions(device="cpu", batch_size=3, gradient_accumulation=3, epochs=2), 4),
        (TrainOptions(device="cpu", processes=2, max_steps=4), 4),
        (TrainOptions(device="cpu", processes=2, max_steps=7), 5),
    ],
)
def test_steps(options: TrainOptions, steps: int) -> None:
    """Ten samples make as many steps as there are batches, in all processes together."""
    assert steps_of(10, options) == steps


def test_less_needs_less(tiny_model: Path) -> None:
    """Full training needs the most memory, adapters on four bits the least."""
    base = open_base(tiny_model)
    methods = ("qlora", "lora", "last-1", "full")
    options = [TrainOptions(device="cpu", method=one, lora_rank=1) for one in methods]
    needs = [reckon(base, one, 64) for one in options]
    assert needs == sorted(needs)
    whole, half = TrainOptions(device="cpu"), TrainOptions(device="cpu", batch_size=2)
    assert reckon(base, whole, 64) < reckon(base, half, 64)
