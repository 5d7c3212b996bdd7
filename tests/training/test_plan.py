"""A plan is settled before any time is spent, and outlives the process that made it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelstore.canonical import canonical
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.store import Store, create
from modelstore.training.estimate import Estimate
from modelstore.training.options import TrainOptions
from modelstore.training.plan import Plan, Request, plan_from, plan_value, planned

pytest.importorskip("trl")

TINY = ModelName("tiny")
OPTIONS = TrainOptions(
    learning_rate=0.1 + 0.2, warmup=0.03, method="last-1", activation_checkpointing=True, seed=7
)
ESTIMATE = Estimate(4, 90, 40, 0, 1, 4, 50_000, 1 << 30, 1 << 34, 0.25)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten rows to learn."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": "?", "completion": f"{n}"}) + "\n" for n in range(10))
    )
    return path


def _through_json(store: Store, plan: Plan) -> Plan:
    return plan_from(store, json.loads(canonical(plan_value(plan))))


def test_a_plan_comes_back(store: Store, tiny_model: Path, data: Path) -> None:
    """A plan of a directory, written down and read again, is the same plan."""
    request = Request(TINY, (data,), split=0.3, base=str(tiny_model))
    plan = replace(
        planned(store, request, OPTIONS),
        preset="laptop",
        sources={"seed": "flag"},
        estimate=ESTIMATE,
    )
    assert len(plan.data.evaluation) == 3
    assert _through_json(store, plan) == plan


def test_a_plan_of_a_version_comes_back(store: Store, tiny_model: Path, data: Path) -> None:
    """So is one that starts from a version, with rows to evaluate on in a file of their own."""
    commit(store, tiny_model, TINY, CommitOptions())
    request = Request(TINY, (data,), evaluation=(data,))
    plan = planned(store, request, TrainOptions())
    assert plan.data.shared == 10
    assert _through_json(store, plan) == plan


def test_paths_stay_as_they_were_given(
    store: Store, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run is continued from wherever one is, and records the path that the user gave."""
    monkeypatch.chdir(data.parent)
    plan = planned(store, Request(TINY, (Path(data.name),), base=str(tiny_model)), OPTIONS)
    value = plan_value(plan)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = plan_from(store, value)
    assert again.data.files[0].path == data.name


def test_other_data_is_refused(store: Store, tiny_model: Path, data: Path) -> None:
    """Data that was changed since is named, and so is data that is gone."""
    plan = planned(store, Request(TINY, (data,), base=str(tiny_model)), OPTIONS)
    before = data.read_bytes()
    data.write_bytes(before + b'{"text": "more"}\n')
    with pytest.raises(ConflictError, match=r"rows\.jsonl' is not what it was"):
        _through_json(store, plan)
    data.write_bytes(before)
    assert _through_json(store, plan) == plan
    data.unlink()
    with pytest.raises(NotFoundError, match=r"rows\.jsonl"):
        _through_json(store, plan)


def test_another_base_is_refused(
    store: Store, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """A base that was changed since is named."""
    base = tmp_path / "base"
    base.mkdir()
    for path in tiny_model.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    plan = planned(store, Request(TINY, (data,), base=str(base)), OPTIONS)
    value = plan_value(plan)
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConflictError, match=r"base' is not what it was"):
        plan_from(store, value)


def test_what_is_no_plan(store: Store) -> None:
    """What is not a plan is an error, and not a crash."""
    for value in ({}, {"options": {"epochs": "x"}}, {"options": 3}):
        with pytest.raises(IntegrityError, match="no plan"):
            plan_from(store, value)


def test_nothing_to_start_from(store: Store, data: Path) -> None:
    """A line without a version and without a base is an error that says how to name one."""
    with pytest.raises(UsageError, match="no version to start from") as caught:
        planned(store, Request(TINY, (data,)), OPTIONS)
    assert "--base DIR" in caught.value.hint
