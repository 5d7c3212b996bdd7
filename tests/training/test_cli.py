"""``mstore train``, as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from modelstore.cli import cli
from modelstore.errors import NotFoundError, StoreError, UsageError
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


def test_no_steps_are_needed_to_look(store: Store, tiny_model: Path, tmp_path: Path) -> None:
    """A dry run prints the plan, what it takes, and samples with what is learned of them."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "one\\ntwo", "completion": "three"}\n' * 3)
    words = ("train", "tiny", "--data", rows, "--base", tiny_model, "--dry-run", "--device", "cpu")
    result = _mstore(store, *words, "--set", "lora_rank=2")
    assert result.exit_code == 0, result.output
    for said in (
        r"^base +.*tiny$",
        r"^data +rows.jsonl \(3 rows, .*, 2 duplicates$",
        r"^method +lora, rank 2, alpha 32; 1 epoch, batch 1 x 1, device cpu$",
        r"lora_rank from --set",
        r"^takes +\d steps? of .* s: about .* of memory, .* free$",
        r"^  \| one\n  \| two\n  > three",
    ):
        assert re.search(said, result.stdout, re.MULTILINE), result.stdout
    assert store.models() == []
    assert list((store.meta / "runs").iterdir()) == []


def test_a_plan_as_json(store: Store, tiny_model: Path, tmp_path: Path) -> None:
    """A dry run with --json prints the plan as a run would keep it, and the samples."""
    config = tmp_path / "train.toml"
    _data(tmp_path, text="some text")
    config.write_text('data = "rows.jsonl"\nepochs = 2\npreset = "laptop"\n')
    words = ("train", "tiny", "-c", config, "--base", tiny_model, "-n", "--json")
    result = _mstore(store, *words, "--epochs", 3, "--set", "seed=1")
    value = json.loads(result.stdout)
    assert (value["schema"], result.stderr) == ("mstore/train-plan/1", "")
    data = value["data"]
    assert (data["options"]["epochs"], data["options"]["seed"]) == (3, 1)
    assert data["sources"]["epochs"] == "flag"
    assert (data["preset"], data["estimate"]["steps"]) == ("laptop", 3)
    assert data["samples"][0]["answer"].startswith("some text")


def test_the_plan_of_a_version(store: Store, tiny_model: Path, tmp_path: Path) -> None:
    """What a version takes is told from its small files, and nothing of that is left behind."""
    data = _data(tmp_path, text="some text")
    assert _mstore(store, "commit", tiny_model, "-M", "tiny").exit_code == 0
    result = _mstore(store, "train", "tiny", "--data", data, *QUICK, "--epochs", 2)
    assert result.exit_code == 0, result.output
    assert re.search(r"^base +tiny@v1\.0$", result.stderr, re.MULTILINE)
    assert re.search(r"^takes +2 steps, about", result.stderr, re.MULTILINE)
    assert list((store.meta / "runs").iterdir()) == []


def test_presets_are_listed(store: Store) -> None:
    """Presets are shown side by side, and as JSON."""
    shown = _mstore(store, "train", "--list-presets")
    assert re.search(r"^batch_size +1 +8$", shown.stdout, re.MULTILINE)
    listed = json.loads(_mstore(store, "train", "--list-presets", "--json").stdout)
    assert [preset["name"] for preset in listed["data"]] == ["laptop", "gpu"]


def test_runs_are_listed_and_discarded(store: Store) -> None:
    """Runs that are not over are listed, and go when they are discarded."""
    assert _mstore(store, "train", "--list-runs").stderr.startswith("no run")
    left = store.meta / "runs" / "20260131T120000Z-abcdef"
    left.mkdir(parents=True)
    assert re.search(r"^2026\S+ +- +left ", _mstore(store, "train", "--list-runs").stdout, re.M)
    gone = _mstore(store, "train", "--discard", "2026", "--json")
    assert json.loads(gone.stdout)["data"]["id"] == left.name
    assert not left.exists()


def test_a_run_goes_on_as_it_was_begun(store: Store) -> None:
    """What a run was begun with cannot be said anew, and there must be one."""
    other = _mstore(store, "train", "--resume", "--epochs", 3)
    assert isinstance(other.exception, UsageError)
    assert "--epochs" in other.exception.message
    assert isinstance(_mstore(store, "train", "--resume").exception, NotFoundError)


@pytest.mark.parametrize("words", [(), ("tiny",), ("tiny", "--eval", "x.jsonl")])
def test_too_little_is_said(store: Store, tiny_model: Path, words: tuple[str, ...]) -> None:
    """Without a model or without data there is nothing to do, and the hint shows a whole command."""
    result = _mstore(store, "train", *words, "--base", tiny_model, "--device", "cpu")
    assert isinstance(result.exception, UsageError)
    assert "mstore train MODEL --data FILE" in result.exception.hint
