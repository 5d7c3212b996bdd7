"""Training a version again, from what its manifest says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout_adapter
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from modelstore.training.options import Step, TrainOptions
from modelstore.training.plan import Request, plan, planned
from modelstore.training.replay import Replayed, Whereabouts, replay
from modelstore.training.run import train

pytest.importorskip("trl")

LINE = ModelName("tiny")
QUICK = TrainOptions(max_steps=2, device="cpu", learning_rate=1e-2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows to learn."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}?", "completion": f"{n}!"} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _replay(store: Store, ref: str, *data: Path) -> Replayed:
    steps: list[Step] = []
    before = resolve(store, "tiny@latest")
    found = replay(store, resolve(store, ref), Whereabouts(data), steps.append)
    assert len(steps) == 2
    assert resolve(store, "tiny@latest") == before
    assert not list((store.meta / "runs").iterdir())
    return found


def test_a_version_comes_out_again(
    store: Store, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """From a directory and then from a version, with adapters; the record is complete for both."""
    first = Request(LINE, (data,), base=str(tiny_model), split=0.25)
    train(store, planned(store, first, QUICK), CommitOptions(), lambda step: None)
    train(store, plan(store, LINE, [data], QUICK), CommitOptions(), lambda step: None)
    version = resolve(store, "tiny@v1.1")
    manifest = store.manifest(LINE, version.entry)
    assert {"adapter/adapter_config.json", "loss.svg"} <= {file.path for file in manifest.files}
    assert [point.step for point in manifest.curve] == [1, 2]
    assert {"cpu_time", "tokens"} <= manifest.metrics.keys()
    assert "platform" in manifest.environment
    _check_adapter(store, tmp_path)
    for ref in ("tiny@v1.0", "tiny@v1.1"):
        found = _replay(store, ref)
        assert (found.equal, found.different, dict(found.environment)) == (True, (), {})
        assert found.tensors > 20
    elsewhere = data.rename(data.with_name("moved.jsonl"))
    with pytest.raises(NotFoundError, match="is gone") as gone:
        _replay(store, "tiny@v1.0")
    assert "--data FILE" in gone.value.hint
    assert _replay(store, "tiny@v1.0", elsewhere).equal


def _check_adapter(store: Store, tmp_path: Path) -> None:
    """PEFT merges the adapter into the parent, and gets the version, bit for bit."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    import modelstore
    from modelstore.training.quiet import quiet

    opened = modelstore.open(store.root)
    directory = checkout_adapter(store, resolve(store, "tiny@v1.1"), output=tmp_path / "a").path
    settings = json.loads((directory / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny@v1.0"
    parent = opened.checkout("tiny@v1.0", tmp_path / "parent").path
    with quiet():
        base = AutoModelForCausalLM.from_pretrained(parent, dtype="auto")
        merged = PeftModel.from_pretrained(base, str(directory)).merge_and_unload().state_dict()
    for name, tensor in opened.load("tiny@v1.1", "torch").items():
        assert torch.equal(merged[name], tensor)


def test_what_is_not_as_it_was_is_said(store: Store, tiny_model: Path, data: Path) -> None:
    """Other data, another base, or nothing recorded: an error, before any training."""
    commit(store, tiny_model, LINE, CommitOptions())
    with pytest.raises(UsageError, match="not made by mstore train"):
        _replay(store, "tiny@v1.0")
    train(store, plan(store, LINE, [data], QUICK), CommitOptions(), lambda step: None)
    data.write_text(data.read_text().replace("!", "."))
    with pytest.raises(ConflictError, match="not what was trained on"):
        _replay(store, "tiny@v1.1")
    with pytest.raises(NotFoundError, match="there is no file"):
        _replay(store, "tiny@v1.1", data.with_name("nowhere"))
