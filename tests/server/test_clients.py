"""Unmodified clients of the Hugging Face Hub against a live server."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.server.content import Content
from modelstore.server.hub import resolve
from modelstore.store import create
from tests.server.clients import HERE, RELEASES, python_with, run, settings_of
from tests.server.conftest import Scene
from tests.server.live import serving
from tests.training.tiny import make_model


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The files of which bytes were sent, and the first byte of each."""
    rows: list[tuple[str, int]] = []

    class Noting(Content):
        def __init__(self, context: Any, file: Any, part: Any, headers: Any) -> None:
            super().__init__(context, file, part, headers)
            self.row = file.path, part.start

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            rows.append(self.row)
            await super().__call__(scope, receive, send)

    monkeypatch.setattr(resolve, "Content", Noting)
    return rows


def test_the_installed_client_reads_everything(
    scene: Scene, tmp_path: Path, sent: list[tuple[str, int]]
) -> None:
    """Snapshots, errors, parts and checksums; v1.1 after v1.0 brings the one file that changed."""
    pytest.importorskip("huggingface_hub")
    directories = [str(scene.directories[version]) for version in ("v1.0", "v1.1")]
    client = [sys.executable, str(HERE / "hub_client.py"), *directories]
    assert run(client, settings_of(scene.live, tmp_path))
    paths = [path for path, start in sent if start == 0]
    assert paths.count("tokenizer.json") == paths.count("README.md") == 1
    assert sent[-1][0] == "model.safetensors"


_DOWNLOAD = """
import sys
from pathlib import Path
from huggingface_hub import hf_hub_download
data = Path(sys.argv[1]).read_bytes()
assert Path(hf_hub_download("mstore/llama_1b", "model.dat")).read_bytes() == data
"""


def test_a_download_goes_on_where_it_stopped(
    tmp_path: Path, sent: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a connection breaks in the middle of a file, the client has the rest of it sent."""
    pytest.importorskip("huggingface_hub")
    store = create(tmp_path / "tuned_models")
    data = os.urandom(11 << 20)  # clients keep 10 MiB at once
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.dat").write_bytes(data)
    commit(store, tmp_path / "run", ModelName("llama_1b"), CommitOptions("m"))

    class Breaking(resolve.Content):  # type: ignore[name-defined, misc]
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if sent:
                await super().__call__(scope, receive, send)
                return
            sent.append(self.row)
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            await send({"type": "http.response.body", "body": data[:-100], "more_body": True})

    monkeypatch.setattr(resolve, "Content", Breaking)
    with serving(store) as live:
        command = [sys.executable, "-c", _DOWNLOAD, str(tmp_path / "run" / "model.dat")]
        run(command, settings_of(live, tmp_path / "home"))
    assert sent == [("model.dat", 0), ("model.dat", 10 << 20)]


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_earlier_clients_read_everything(scene: Scene, tmp_path: Path, release: str) -> None:
    """The two major lines before do as well; each is installed for the test."""
    python = python_with(release, tmp_path / "venv")
    directories = [str(scene.directories[version]) for version in ("v1.0", "v1.1")]
    client = [python, str(HERE / "hub_client.py"), *directories]
    assert run(client, settings_of(scene.live, tmp_path / "home")) == release


_LOGITS = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
words = {"revision": sys.argv[2]} if len(sys.argv) > 2 else {}
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, **words)
tokens = AutoTokenizer.from_pretrained(sys.argv[1], **words)("What is a version?", return_tensors="pt")
with torch.no_grad():
    print(json.dumps(model(**tokens).logits.double().flatten().tolist()))
"""


@pytest.mark.slow
def test_transformers_loads_a_version_bit_by_bit(tmp_path: Path) -> None:
    """`from_pretrained` with a version as its revision gives the logits of the files themselves."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    store = create(tmp_path / "tuned_models")
    make_model(tmp_path / "v1.0", shard="20KB")
    tuned = make_model(tmp_path / "v1.1", shard="20KB")
    for shard in tuned.glob("*.safetensors"):
        tensors = safetensors.load_file(shard)
        moved = {name: (t * 1.01).to(torch.bfloat16) for name, t in tensors.items()}
        safetensors.save_file(moved, shard, metadata={"format": "pt"})
    for directory in (tmp_path / "v1.0", tuned):
        commit(store, directory, ModelName("tiny"), CommitOptions(directory.name))
    with serving(store) as live:
        settings = settings_of(live, tmp_path / "home")
        for version in ("v1.0", "v1.1"):
            command = [sys.executable, "-c", _LOGITS]
            served = run([*command, "mstore/tiny", version], settings)
            local = run([*command, str(tmp_path / version)], settings)
            assert json.loads(served) == json.loads(local)
        assert len({path.name for path in (tmp_path / "v1.0").glob("*.safetensors")}) > 1
