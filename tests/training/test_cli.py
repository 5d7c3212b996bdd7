"""``mstore train``, as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from modelstore.cli import cli
from modelstore.errors import StoreError, UsageError
from modelstore.names import ModelName
from modelstore.store import Store, create
from modelstore.training import plan

pytest.importorskip("trl")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


def _mstore(store: Store, *words: object) -> Result:
    return CliRunner().invoke(cli, ["-C", str(store.root), *map(str, words)])


def _data(directory: Path, **row: str) -> Path:
    path = directory / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


QUICK = ("--max-steps", 2, "--device", "cpu")


def test_a_run(store: Store, tiny_model: Path, tmp_path: Path) -> None:
    """The plan and every step go to stderr, the new version and its losses to stdout."""
    data = _data(tmp_path, text="some text")
    words = ("train", "tiny", "--data", data, "--base", tiny_model, *QUICK, "--epochs", 2)
    result = _mstore(store, *words)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("tiny@v1.0  ")
    assert "in 2 steps" in result.stdout
    assert "rows.jsonl (1 row, 22 B): 1 answer" in result.stderr
    assert "step 2/2  loss " in result.stderr


def test_what_a_merged_adapter_became(store: Store, wide_model: Path, tmp_path: Path) -> None:
    """The description of a tensor says that it is stored as a product that was added to another."""
    data = _data(tmp_path, text="some text")
    assert _mstore(store, "commit", wide_model, "-M", "wide").exit_code == 0
    words = ("train", "wide", "--data", data, *QUICK, "--epochs", 2, "--learning-rate", 0.01)
    trained = _mstore(store, *words)
    assert trained.exit_code == 0, trained.output
    shown = _mstore(store, "show", "wide@v1.1:::model.layers.0.mlp.up_proj.weight")
    assert re.search(r"^codec +lowrank$", shown.stdout, re.MULTILINE), shown.output


def test_json(store: Store, tiny_model: Path, tmp_path: Path) -> None:
    """With --json stdout is one envelope and stderr is silent."""
    data = _data(tmp_path, text="some text")
    words = ("train", "tiny", "--data", data, "--base", tiny_model, "--max-steps", 1, "--json")
    result = _mstore(store, *words)
    assert result.stderr == ""
    envelope: dict[str, Any] = json.loads(result.stdout)
    assert envelope["schema"] == "mstore/train/1"
    assert envelope["data"]["ref"] == "tiny@v1.0"
    assert envelope["data"]["metrics"]["steps"] == 1
    assert envelope["data"]["parameters"]["method"] == "lora"


def test_a_wrong_row_stops_it_at_once(store: Store, tiny_model: Path, tmp_path: Path) -> None:
    """An error in the data is found before anything is made."""
    data = _data(tmp_path, question="?")
    result = _mstore(store, "train", "tiny", "--data", data, "--base", tiny_model)
    assert isinstance(result.exception, UsageError)
    assert f"{data}:1: " in result.exception.message
    assert store.models() == []


def test_without_the_packages(
    store: Store, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where training is not installed, the hint is how to install it."""
    monkeypatch.setattr(plan, "_STACK", ("no_such_package",))
    data = _data(tmp_path, text="some text")
    result = _mstore(store, "train", "tiny", "--data", data, "--base", tiny_model)
    assert isinstance(result.exception, StoreError)
    assert "no_such_package" in result.exception.message
    assert result.exception.hint == 'pip install "mstore[train]"'


def test_a_line_knows_how_it_is_trained(tmp_path: Path) -> None:
    """What a line was set up with holds unless something else is said."""
    from modelstore.ops.init import init

    store = init(tmp_path / "tuned_models").store
    laptop = plan.options_for(store, ModelName("llama_1b"), {"epochs": None})
    desktop = plan.options_for(store, ModelName("llama_8b"), {"epochs": 1, "seed": 7})
    assert (laptop.device, laptop.batch_size, laptop.epochs) == ("cpu", 1, 1)
    assert (desktop.device, desktop.batch_size, desktop.epochs) == ("cuda", 8, 1)
    assert desktop.seed == 7
