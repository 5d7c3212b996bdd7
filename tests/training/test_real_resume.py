"""A real model, SmolLM2-135M-Instruct: stopped in the middle, it goes on to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions
from modelstore.ops.read import read_file
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from modelstore.training import runs
from modelstore.training.options import Step, TrainOptions
from modelstore.training.plan import Plan, plan
from modelstore.training.run import resume, train
from tests.training.test_real_models import smollm2  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LINE = ModelName("smollm2")


def _planned(store: Store, base: Path, directory: Path, method: str) -> Plan:
    path = directory / "rows.jsonl"
    rows = [{"prompt": f"What is {i} plus {i}?", "completion": f" {2 * i}."} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))
    options = TrainOptions(device="cpu", method=method, save_every=2, learning_rate=1e-4)
    return plan(store, LINE, [path], options, base=str(base))


@pytest.mark.parametrize("method", ["lora", "last-2"])
def test_it_goes_on(smollm2: Path, tmp_path: Path, method: str) -> None:  # noqa: F811
    """The weights of an interrupted run are, byte for byte, those of one that was left alone."""
    whole, store = create(tmp_path / "whole"), create(tmp_path / "tuned_models")
    train(whole, _planned(whole, smollm2, tmp_path, method), CommitOptions(), lambda _: None)

    def interrupt(step: Step) -> None:
        if step.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, _planned(store, smollm2, tmp_path, method), CommitOptions(), interrupt)
    assert [info.step for info in runs.list_runs(store)] == [2]
    steps: list[Step] = []
    resume(store, "", steps.append)
    assert [step.number for step in steps] == [3, 4, 5]
    one, other = (
        read_file(each, resolve(each, "smollm2@v1.0"), "model.safetensors")
        for each in (whole, store)
    )
    assert one == other
