"""What a version records of how it was made."""

from __future__ import annotations

import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from modelstore.hashing import digest_of
from modelstore.manifest import from_scalars, to_scalars
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions
from modelstore.training.data import Data, DataFile
from modelstore.training.options import Step, TrainOptions, TrainResult
from modelstore.training.plan import Plan
from modelstore.training.provenance import git_state, options_from, with_provenance


def _file(name: str) -> DataFile:
    return DataFile(name, 5, 2, digest_of(name.encode()), f"data/{name}")


def _plan(options: TrainOptions, **more: object) -> Plan:
    data = Data((), (_file("a.jsonl"),), evaluation_files=(_file("b.jsonl"),), duplicates=1)
    return Plan(ModelName("m"), "org/base", None, None, data, options, **more)  # type: ignore[arg-type]


def _result(**metrics: float) -> TrainResult:
    steps = (Step(1, 2, 3.0, 10, 1.0), Step(2, 2, 2.0, 20, 2.0, 2.5))
    return TrainResult({"device": "cpu"}, {"loss": 2.5, **metrics}, {"torch": "2.13.0"}, steps)


def test_all_that_is_known_is_recorded(tmp_path: Path) -> None:
    """Base, options, data with its use, environment and curve; what the user says stays."""
    plan = _plan(TrainOptions(device="auto", warmup=0.1), preset="laptop", split=0.25)
    said = with_provenance(
        CommitOptions(note="a note"),
        plan,
        _result(eval_loss_before=3.5),
        base_digest="ab",
        directory=tmp_path,
    )
    assert (said.base_model, said.parents, said.op, said.note) == (
        "org/base",
        (),
        "train",
        "a note",
    )
    assert said.message == "fine-tune of org/base on a.jsonl"
    wanted = {"device": "cpu", "warmup": 0.1, "preset": "laptop", "eval_split": 0.25, "seed": 42}
    assert wanted.items() <= said.parameters.items()
    assert said.metrics["duplicate_rows"] == 1
    assert said.environment["base_blake3"] == "ab"
    learned, held = said.data
    assert (learned["path"], "use" in learned, held["use"]) == ("data/a.jsonl", False, "evaluation")
    assert [(p.step, p.loss, p.evaluation) for p in said.curve] == [
        (0, "", "3.5"), (1, "3", ""), (2, "2", "2.5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        TrainOptions(device="cpu", learning_rate=3e-5, warmup=0.1, activation_checkpointing=True),
        TrainOptions(device="cpu", method="last-4", learning_rate=5e-5, weights_format="bin"),
    ],
)
def test_options_are_read_back_from_a_manifest(tmp_path: Path, options: TrainOptions) -> None:
    """What was recorded as decimal strings is what the run was asked for."""
    said = with_provenance(CommitOptions(), _plan(options), _result(), directory=tmp_path)
    again = options_from(from_scalars(to_scalars(said.parameters)))
    assert {f.name: getattr(again, f.name) for f in fields(again)} == {
        f.name: getattr(options, f.name) for f in fields(options)
    }


def _git(directory: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True)


@pytest.mark.needs("git")
def test_the_commit_of_the_working_directory_is_known(tmp_path: Path) -> None:
    """And whether tracked files differ from it; other files, and no repository, do not count."""
    assert git_state(tmp_path) == {}
    _git(tmp_path, "init")
    assert git_state(tmp_path) == {}
    (tmp_path / "train.py").write_text("a")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "x")
    (tmp_path / "new").write_text("b")
    clean = git_state(tmp_path)
    assert (len(clean["git_commit"]), clean["git_dirty"]) == (40, "false")
    (tmp_path / "train.py").write_text("c")
    assert git_state(tmp_path) == {**clean, "git_dirty": "true"}
    assert git_state(tmp_path / "nowhere") == {}
