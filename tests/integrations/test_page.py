"""The examples of docs/integrations.md run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import modelstore
from modelstore.ops.init import init

pytest.importorskip("torch")
pytest.importorskip("transformers")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"


@pytest.mark.filterwarnings("ignore")  # of torch and transformers, about machines without a GPU
def test_the_examples_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in a directory with a store and a model, they do what the page says."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "base")
    init(tmp_path / "tuned_models")
    for name, value in _WORLD_OF_ONE.items():
        monkeypatch.setenv(name, value)
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(examples) == 4
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    store = modelstore.open()
    said = {line: [row["message"] for row in store.log(line)] for line in ("run_a", "run_b")}
    assert said == {"run_a": ["step 4", "step 2"], "run_b": ["step 100"]}
    assert store.log("llama_1b")[0]["parents"] == ["v1.0"]
    assert (
        store.load("llama_1b@latest", "torch").keys() == store.load("llama_1b@v1.0", "torch").keys()
    )
    assert names["state"]["step"] == 100  # type: ignore[index]


_WORLD_OF_ONE = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}
"""What torchrun tells each process; any free port will do."""
