"""Exports and imports through the Python API."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelstore
from modelstore.errors import UsageError
from modelstore.ops.init import init
from tests.exports import MODEL, gguf_bytes, ollama_layer, ollama_model, two_versions
from tests.models import files_of


@pytest.fixture
def store(tmp_path: Path) -> modelstore.ModelStore:
    """A store with v1.0 and v1.1."""
    two_versions(init(tmp_path / "tuned_models").store, tmp_path)
    return modelstore.open(tmp_path / "tuned_models")


def test_there_and_back(store: modelstore.ModelStore, tmp_path: Path) -> None:
    """What is exported to a cache is imported from there."""
    done = store.export(f"{MODEL}@v1.1", "hf-cache", tmp_path / "cache", repo_id="ann/tiny")
    assert done.names == ("ann/tiny@v1.1",)
    (back,) = store.import_model("hf:ann/tiny", place=tmp_path / "cache", message="back")
    assert back.ref == "tiny@v1.0"
    store.checkout(back.ref, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "v1.1")


def test_from_ollama(store: modelstore.ModelStore, tmp_path: Path) -> None:
    """A model of Ollama's goes into the model that is named."""
    ollama_model(tmp_path / "o", [ollama_layer(tmp_path / "o", "model", gguf_bytes())])
    (done,) = store.import_model("ollama:tiny:1b", "packed", place=tmp_path / "o")
    assert done.ref == "packed@v1.0"
    store.export(done.ref, "gguf-passthrough", tmp_path / "x.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == gguf_bytes()


def test_what_is_refused(store: modelstore.ModelStore, tmp_path: Path) -> None:
    """An option that there is not, and a name without the place where it counts, are errors."""
    with pytest.raises(UsageError, match="unexpected keyword"):
        store.export(f"{MODEL}@v1.1", "oci", tmp_path / "out", tags="x")
    with pytest.raises(UsageError, match="where is"):
        store.import_model("hf:ann/tiny")
