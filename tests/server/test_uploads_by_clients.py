"""Unmodified clients of the Hugging Face Hub upload to a live server."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.init import begin_line
from modelstore.ops.resolve import resolve
from modelstore.store import Store, create
from tests.models import write_model
from tests.server.clients import HERE, RELEASES, python_with, run, settings_of
from tests.server.live import TOKEN, Live, serving
from tests.server.test_uploads import AUTHORIZED, text_line
from tests.training.tiny import make_model


def _upload(python: str, tmp_path: Path, **more: str) -> str:
    """Let a client upload two states of a model, and return its release."""
    store = create(tmp_path / "tuned_models")
    first = write_model(tmp_path / "first", files={"notes.txt": "one", "extra/a.md": "a"})
    second = write_model(tmp_path / "second", step=0.001, files={"extra/a.md": "b"})
    client = [python, str(HERE / "hub_uploader.py"), str(first), str(second)]
    with serving(store, token=TOKEN) as live:
        release = run(client, {**settings_of(live, tmp_path / "home", TOKEN), **more})
        assert live.reports == []
    assert fsck(store, Level.FULL).problems == ()
    assert list((store.meta / "tmp").iterdir()) == []
    return release


def test_the_installed_client_uploads(tmp_path: Path) -> None:
    """Folders, files, deletions, tags and branches; what is refused says why."""
    pytest.importorskip("huggingface_hub")
    assert _upload(sys.executable, tmp_path)


@pytest.mark.slow
def test_without_xet_it_uploads_as_well(tmp_path: Path) -> None:
    """Large files then go by LFS."""
    pytest.importorskip("huggingface_hub")
    assert _upload(sys.executable, tmp_path, HF_HUB_DISABLE_XET="1")


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_earlier_clients_upload(tmp_path: Path, release: str) -> None:
    """The two major lines before do as well; each is installed for the test."""
    assert _upload(python_with(release, tmp_path / "venv"), tmp_path) == release


_PUSH = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(sys.argv[1]).push_to_hub("pushed")
model.push_to_hub("pushed", commit_message="as it was")
with torch.no_grad():
    model.lm_head.weight *= 1.01
model.push_to_hub("mstore/pushed", commit_message="moved")
back = AutoModelForCausalLM.from_pretrained("mstore/pushed").state_dict()
assert all(torch.equal(value, back[name]) for name, value in model.state_dict().items())
model.save_pretrained(sys.argv[2])
"""


@pytest.mark.slow
def test_push_to_hub_makes_versions(tmp_path: Path) -> None:
    """What transformers pushes is a version, and comes back bit by bit; the rest is kept as it is."""
    pytest.importorskip("torch")
    store = create(tmp_path / "tuned_models")
    make_model(tmp_path / "model", tied=False)
    with serving(store, token=TOKEN) as live:
        settings = settings_of(live, tmp_path / "home", TOKEN)
        command = [sys.executable, "-c", _PUSH, str(tmp_path / "model"), str(tmp_path / "saved")]
        run(command, settings)
    entries = store.state(ModelName("pushed")).entries()
    assert [str(entry.version) for entry in entries] == ["v1.0", "v1.1", "v1.2"]
    assert entries[-1].text("message") == "moved"
    files = {f.path: f for f in store.manifest(ModelName("pushed"), entries[-1]).files}
    saved = (tmp_path / "saved" / "model.safetensors").read_bytes()
    assert files["model.safetensors"].sha256 == hashlib.sha256(saved).hexdigest()
    assert {"tokenizer.json", "README.md", "config.json"} <= set(files)


def test_a_server_that_is_killed_in_an_upload_loses_nothing(tmp_path: Path) -> None:
    """The store is sound, the next commit removes what is left, and the upload can be made again."""
    store = create(tmp_path / "tuned_models")
    begin_line(store, ModelName("tiny"))
    data = os.urandom(1 << 20)
    oid = hashlib.sha256(data).hexdigest()
    command = [sys.executable, "-m", "modelstore", "-C", str(store.root), "serve", "--port", "0"]
    settings = {**os.environ, "MSTORE_TOKEN": TOKEN}
    process = subprocess.Popen(
        [*command, "--quiet"], stdout=subprocess.PIPE, text=True, env=settings
    )
    assert process.stdout is not None
    with process, ExitStack() as open_ones:
        port = int(process.stdout.readline().rpartition(":")[2])
        _begin_upload(port, oid, data, open_ones)
        process.kill()
        process.communicate(timeout=30)
    assert _left(store)
    assert fsck(store, Level.FULL).problems == ()
    with serving(store, token=TOKEN) as live:
        line = text_line("a.txt")
        answer = live.ask("/api/models/tiny/commit/main", "POST", AUTHORIZED, line)
        assert answer.status == 200
    assert _left(store) == []
    commit(store, write_model(tmp_path / "model"), ModelName("tiny"), CommitOptions("m"))
    assert str(resolve(store, "tiny@latest")) == "tiny@v1.1"
    assert fsck(store, Level.FULL).findings == ()


def _begin_upload(port: int, oid: str, data: bytes, open_ones: ExitStack) -> None:
    """Send half of a large file, and half of a commit."""
    row = {"oid": oid, "size": len(data)}
    body = json.dumps({"operation": "upload", "objects": [row]}).encode()
    live = Live("", port, [])
    batch = live.ask("/mstore/tiny.git/info/lfs/objects/batch", "POST", AUTHORIZED, body)
    path = "/" + batch.json["objects"][0]["actions"]["upload"]["href"].split("/", 3)[3]
    halves = (("PUT", path, data), ("POST", "/api/models/tiny/commit/main", text_line("a") * 10))
    for method, target, whole in halves:
        connection = open_ones.enter_context(socket.create_connection(("127.0.0.1", port)))
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(whole)}\r\n"
        said = f"Authorization: Bearer {TOKEN}\r\n\r\n"
        connection.sendall((head + said).encode() + whole[: len(whole) // 2])
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)  # it waits for the rest


def _left(store: Store) -> list[Path]:
    return sorted((store.meta / "tmp").iterdir())
