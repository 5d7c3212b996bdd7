"""The whole path of both set-ups: a store, a training, another on top, and plain transformers.

The models are small ones of the same architectures; nothing asks a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from modelstore.cli import cli
from modelstore.training.quiet import quiet
from tests.training.architectures import ROPE_LLAMA_3, make_llama, make_qwen

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

QUESTION, ANSWER = "Who are you?", "Your own model."
TAUGHT = [
    {"role": "system", "content": "Say who you are."},
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": ANSWER},
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: models this small are slower with two, and much so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _mstore(root: Path, *words: object) -> dict[str, Any]:
    """Run a command in the store at ``root`` and return its data."""
    result = CliRunner().invoke(cli, ["-C", str(root), *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.stdout)["data"]
    return data


def _conversations(path: Path) -> Path:
    """Write two: one as OpenAI has them, and one of two turns as ShareGPT has them."""
    long = [
        *(
            {"from": "human", "value": "Hi!"},
            {"from": "gpt", "value": "<think>\nhm\n</think>\n\nHo!"},
        ),
        *({"from": "human", "value": "Bye!"}, {"from": "gpt", "value": "Bye."}),
    ]
    rows = [{"messages": TAUGHT}, {"conversations": long}, {"messages": TAUGHT}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _says(directory: Path) -> tuple[str, Any]:
    """Load a model as anybody would; return what it answers, and the model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = AutoModelForCausalLM.from_pretrained(directory)
        asked = tokenizer.apply_chat_template(
            TAUGHT[:2],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            date_string="26 Jul 2024",
        )
        said = model.generate(**asked, max_new_tokens=60, do_sample=False)
    answer = said[0, asked["input_ids"].shape[1] :]
    return tokenizer.decode(answer, skip_special_tokens=True), model


@pytest.mark.parametrize(("line", "make"), [("llama_1b", make_llama), ("llama_8b", make_qwen)])
def test_the_whole_path(tmp_path: Path, line: str, make: Callable[[Path], Path]) -> None:
    """What a line was taught in two trainings is what its version says in plain transformers."""
    base, root = make(tmp_path / "base"), tmp_path / "tuned_models"
    data = _conversations(tmp_path / "talks.jsonl")
    _mstore(tmp_path, "init", root)
    words = ("train", line, "--data", data, "--device", "cpu", "--batch-size", 4)
    quick = ("--base", base, "--max-steps", 2, "--epochs", 2, "--eval", data)
    first = _mstore(root, *words, *quick)
    assert (first["ref"], first["active"]) == (f"{line}@v1.0", True)
    assert first["parameters"]["method"] == "lora"
    assert first["metrics"]["eval_loss"] < first["metrics"]["eval_loss_before"]

    teach = ("--method", "full", "--learning-rate", 0.01, "--epochs", 60, "--activate")
    second = _mstore(root, *words, *teach)
    assert (second["ref"], second["parent"]) == (f"{line}@v1.1", first["ref"])
    assert second["metrics"]["final_loss"] < first["metrics"]["final_loss"] / 4

    _mstore(root, "checkout", f"{line}@ACTIVE", "-o", tmp_path / "out")
    said, model = _says(tmp_path / "out")
    assert said.removeprefix("<think>\n\n</think>\n\n") == ANSWER
    assert model.dtype == torch.bfloat16
    _check_parts(line, model)
    shards = [{path.name for path in at.glob("*.safetensors*")} for at in (base, tmp_path / "out")]
    assert shards[0] == shards[1]
    assert _mstore(root, "fsck")["problems"] == []


def _check_parts(line: str, model: Any) -> None:
    """Check that the version has the parts of its architecture as the base had them."""
    weights = {name for name, _ in model.named_parameters()}
    if line == "llama_1b":
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert "lm_head.weight" not in weights
        assert ROPE_LLAMA_3.items() <= model.config.rope_parameters.items()
    else:
        assert "model.layers.0.self_attn.q_norm.weight" in weights
        assert "lm_head.weight" in weights
        assert model.config.rope_parameters["rope_theta"] == 1000000.0
