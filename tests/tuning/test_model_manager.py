from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelstore.ops.adopt import adopt
from modelstore.ops.survey import plan_adopt
from modelstore.store import Store
from tests import old_tool
from tuning import model_manager


@dataclass(frozen=True)
class Ran:
    """What a run of the command left: its exit code and its two streams."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of models that an old tool made: llama_1b with two versions, llama_8b with one."""
    root = tmp_path / "tuned_models"
    for number, name in enumerate(("v1.0", "v1.1")):
        old_tool.version(root / "llama_1b", name, seed=number + 1)
    old_tool.version(root / "llama_8b", "v1.0", seed=9)
    said = {
        "created_at": "2025-03-01T08:00:00Z",
        "training_parameters": {"epochs": 1, "learning_rate": 2e-05},
        "metrics": {"loss": 1.42, "model_size": 2471645608},
        "notes": "second try",
        "description": "Laptop model",
    }
    versions = {"v1.0": {}, "v1.1": said, "v1.2": {}}
    old_tool.registry(root / "llama_1b", {"active_version": "v1.1", "versions": versions})
    return root


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in the directory above an adopted store."""
    adopt(root, plan_adopt(root))
    monkeypatch.chdir(root.parent)

    def run(*words: str) -> Ran:
        with pytest.raises(SystemExit) as left:
            model_manager.main(words)
        out, err = capsys.readouterr()
        return Ran(int(left.value.code or 0), out, err)

    return run


def test_list_shows_every_model_and_version(run: Run) -> None:
    """Every version has its place below its model, with a star on the active one."""
    ran = run("list")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "llama_1b"
    assert "* v1.1 (active)" in lines
    assert "  v1.0" in lines
    assert "  v1.2  its files are missing" in lines
    assert lines[lines.index("llama_8b") + 1] == "* v1.0 (active)"
    assert "    training parameters  epochs=1, learning_rate=2e-05" in lines
    assert "    metrics              model_size=2.47 GB, loss=1.42" in lines
    assert "    notes                second try" in lines
    assert "    description          Laptop model" in lines


def test_list_of_one_model(run: Run) -> None:
    """With --model only that model is listed."""
    ran = run("list", "--model", "llama_8b")
    assert "llama_1b" not in ran.out
    assert "llama_8b" in ran.out


def test_info_shows_all_that_is_known(run: Run) -> None:
    """A version's parameters, metrics, notes and description are shown, one per line."""
    ran = run("info", "v1.1")
    assert ran.code == 0
    for line in ("  epochs: 1", "  learning_rate: 2e-05", "  loss: 1.42", "Metrics:"):
        assert line in ran.out.splitlines()
    for words in (["Model:", "llama_1b"], ["Version:", "v1.1", "(active)"]):
        assert words in [line.split() for line in ran.out.splitlines()]
    assert "second try" in ran.out
    assert "Laptop model" in ran.out


def test_a_version_of_two_models_needs_a_model(run: Run) -> None:
    """Where two models have the version, --model or the default model says which is meant."""
    assert run("info", "v1.0", "--model", "llama_8b").out.split()[1] == "llama_8b"
    assert run("--model", "llama_8b", "info", "v1.0").out.split()[1] == "llama_8b"


def test_active_of_all_models_and_of_one(run: Run) -> None:
    """Every model's active version is printed, or that of the one that was named."""
    assert run("active").out == "llama_1b: v1.1\nllama_8b: v1.0\n"
    assert run("active", "--model", "llama_1b").out == "llama_1b: v1.1\n"


def test_set_active_moves_it(run: Run, root: Path) -> None:
    """The pointer moves in the store that mstore sees, and the journal knows how."""
    ran = run("set-active", "v1.0", "--model", "llama_1b")
    assert (ran.code, ran.out) == (0, "Active version of llama_1b: v1.0 (was v1.1)\n")
    state = Store(root).state(Store(root).models()[0])
    assert (state.active, state.history[-1]["op"]) == ("v1.0", "set-active")


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["info", "v9.9"], 4, "no model has a version", "mstore log"),
        (["set-active", "v1.2"], 5, "files are missing", "mstore adopt"),
        (["info", "no ref"], 2, "is not a ref", "refs look like"),
        (["list", "--model", "nothing"], 4, "no model 'nothing'", "mstore list"),
    ],
)
def test_an_error_is_a_sentence_and_a_hint(
    run: Run, words: list[str], code: int, message: str, hint: str
) -> None:
    """What went wrong is said without a traceback, with mstore's exit code."""
    ran = run(*words)
    assert ran.code == code
    assert ran.out == ""
    assert message in ran.err
    assert hint in ran.err
    assert "Traceback" not in ran.err


def test_a_wrong_command_shows_the_usage_of_this_program(run: Run) -> None:
    """The usage line names the command that was typed."""
    ran = run("info")
    assert ran.code == 2
    assert "python -m tuning.model_manager info" in ran.err


def test_a_directory_that_was_not_adopted_says_so(root: Path) -> None:
    """In a directory of the old tool the answer is how to adopt it, with exit code 10."""
    done = subprocess.run(
        [sys.executable, "-m", "tuning.model_manager", "list"],
        cwd=root.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 10
    assert "registries that mstore did not make" in done.stderr
    assert "mstore adopt" in done.stderr


def test_a_model_that_was_not_adopted_is_mentioned(run: Run, root: Path) -> None:
    """A foreign registry that appears in a store later is pointed at."""
    old_tool.registry(root / "late", {"versions": {}})
    assert "late has a registry that mstore did not make" in run("list").err


def test_another_store_is_named_with_an_option(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-C and --store choose the store, wherever one stands."""
    monkeypatch.chdir(tmp_path.parent)
    assert run("-C", str(root), "active").code == 0
    assert run("active", "--store", str(root)).out.startswith("llama_1b: v1.1")


def test_a_size_that_is_text_is_shown_as_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A registry that says "2.3GB" is not read as bytes, and not hidden."""
    old_tool.registry(
        root / "llama_1b", {"versions": {"v1.0": {"metrics": {"model_size": "2.3GB"}}}}
    )
    adopt(root, plan_adopt(root))
    monkeypatch.chdir(root.parent)
    with pytest.raises(SystemExit):
        model_manager.main(["list"])
    assert "model_size=2.3GB" in capsys.readouterr().out
