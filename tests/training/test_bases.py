"""What a run starts from, by each of the names that a user may give it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import IntegrityError, NotFoundError, RemoteError, UsageError
from modelstore.names import ModelName
from modelstore.ops import ollama
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.init import init
from modelstore.store import Store, create
from modelstore.training import gguf, hub
from modelstore.training.base import digest_of_base, open_base
from modelstore.training.start import Start, find_start, laid_out
from tests.training.gguf_file import make_gguf

pytest.importorskip("transformers")

TINY = ModelName("tiny")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the Hub, empty, on a machine without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def _cached(cache: Path, name: str, model: Path) -> Path:
    """Put ``model`` into the cache as the Hub's client does: a snapshot of links into blobs."""
    place = cache / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    for directory in (place / "blobs", place / "refs", snapshot):
        directory.mkdir(parents=True)
    (place / "refs/main").write_text(COMMIT)
    for number, path in enumerate(sorted(model.iterdir())):
        blob = place / "blobs" / f"{number:040x}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def _ollama(place: Path, manifest: str, weights: Path | None) -> Path:
    """Make a store of Ollama's that has one model."""
    digest = "sha256:" + "ab" * 32
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "cd" * 32},
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest},
    ]
    path = place / "manifests" / manifest
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    blob = place / "blobs" / digest.replace(":", "-")
    blob.parent.mkdir(parents=True)
    if weights is not None:
        blob.write_bytes(weights.read_bytes())
    return blob


@pytest.fixture(scope="module")
def gguf_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model as a GGUF file; not to be changed."""
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_model)


def test_a_directory(store: Store, tiny_model: Path) -> None:
    """A directory is what it is, and must hold a model."""
    start = find_start(store, TINY, "", str(tiny_model))
    assert start == Start(str(tiny_model), directory=tiny_model)
    with pytest.raises(UsageError, match=r"has no config\.json"):
        find_start(store, TINY, "", str(tiny_model.parent))


def test_a_snapshot_of_the_hub(store: Store, tiny_model: Path, cache: Path) -> None:
    """A model that lies in the Hub's cache needs no network, and its links are followed."""
    snapshot = _cached(cache, "owner/tiny", tiny_model)
    start = find_start(store, TINY, "", "owner/tiny")
    assert start == Start("owner/tiny", directory=snapshot)
    base = open_base(snapshot)
    assert digest_of_base(base) == digest_of_base(open_base(tiny_model))
    assert base.parameters == open_base(tiny_model).parameters
    assert hub.download("owner/tiny") == snapshot


def test_half_a_snapshot(tiny_model: Path, cache: Path) -> None:
    """A snapshot whose download was cut short is not taken for the model."""
    snapshot = _cached(cache, "owner/tiny", tiny_model)
    (snapshot / "model.safetensors").unlink()
    assert hub.cached("owner/tiny") is None


def test_an_id_without_a_network(store: Store, cache: Path) -> None:
    """Without a network and without a copy, the error says how to give one."""
    start = find_start(store, TINY, "", "owner/tiny")
    assert start == Start("owner/tiny", hub="owner/tiny")
    with (
        pytest.raises(RemoteError, match="'owner/tiny' is not on this machine") as caught,
        laid_out(store, start),
    ):
        pass
    for way in ("--base DIR", "--base FILE.gguf", "hf download owner/tiny"):
        assert way in caught.value.hint


def test_a_gguf_file(store: Store, gguf_model: Path, tiny_model: Path) -> None:
    """A GGUF file becomes a model that can be trained, with its tokenizer and its template."""
    start = find_start(store, TINY, "", str(gguf_model))
    assert (start.gguf, start.directory) == (gguf_model, None)
    assert gguf.quantisation(gguf_model) == "Q8_0"
    with laid_out(store, start) as directory:
        base = open_base(directory)
        config = json.loads((directory / "config.json").read_text())
        template = (directory / "chat_template.jinja").read_text()
    assert not directory.exists()
    assert set(base.dtypes.values()) == {"BF16"}
    assert base.dtypes.keys() == open_base(tiny_model).dtypes.keys()
    assert "quantization_config" not in config
    assert template == (tiny_model / "chat_template.jinja").read_text()


def test_no_gguf_file(store: Store, tmp_path: Path) -> None:
    """A file that is not, or not whole, is an error."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"other")
    with pytest.raises(UsageError, match="is no GGUF file"):
        find_start(store, TINY, "", str(path))
    path.write_bytes(b"GGUF" + b"\x03\0\0\0")
    start = find_start(store, TINY, "", str(path))
    with pytest.raises(UsageError, match="cannot be trained"), laid_out(store, start):
        pass


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("llama3.2:1b", "registry.ollama.ai/library/llama3.2/1b"),
        ("tiny", "registry.ollama.ai/library/tiny/latest"),
        ("someone/tiny:x", "registry.ollama.ai/someone/tiny/x"),
        ("hf.co/owner/tiny-GGUF:Q4_K_M", "hf.co/owner/tiny-GGUF/Q4_K_M"),
    ],
)
def test_a_name_of_ollamas(
    store: Store, gguf_model: Path, tmp_path: Path, name: str, manifest: str
) -> None:
    """A model that Ollama has here is taken from its store, under the name that it has there."""
    blob = _ollama(tmp_path / "ollama", manifest, gguf_model)
    nowhere = tmp_path / "nowhere"
    assert ollama.find(name, [nowhere, tmp_path / "ollama"]) == blob
    start = find_start(store, TINY, "", name, [nowhere, tmp_path / "ollama"])
    assert start == Start(name, gguf=blob)


def test_a_name_of_ollamas_on_the_hub(store: Store, tiny_model: Path, cache: Path) -> None:
    """What Ollama does not have here is looked for on the Hub, and keeps the user's spelling."""
    assert find_start(store, TINY, "", "qwen3:8b").hub == "Qwen/Qwen3-8B"
    snapshot = _cached(cache, "meta-llama/Llama-3.2-1B-Instruct", tiny_model)
    init(store.root)
    start = find_start(store, ModelName("llama_1b"), "", "")
    assert start == Start("llama3.2:1b", directory=snapshot)
    with pytest.raises(NotFoundError, match="Ollama has no model 'own:1b'") as caught:
        find_start(store, TINY, "", "own:1b")
    assert "ollama pull own:1b" in caught.value.hint


@pytest.mark.parametrize("name", ["../../x:1b", "a/../b:1b", "a:b:c", ".:1b", "x:..", "a//b:1"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    """A name is never a path out of Ollama's store."""
    assert not ollama.is_name(name)
    assert ollama.find(name, [tmp_path]) is None


@pytest.mark.parametrize("layers", [None, 3, [3], [{"mediaType": 1}], [{"digest": "x"}]])
def test_a_manifest_that_is_none(tmp_path: Path, layers: Any) -> None:
    """A manifest of Ollama's that names no weights is an error with a way out."""
    path = tmp_path / "manifests/registry.ollama.ai/library/x/1b"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"layers": layers}))
    with pytest.raises(NotFoundError, match="no weights") as caught:
        ollama.find("x:1b", [tmp_path])
    assert caught.value.hint == "ollama pull x:1b"
    path.write_text("{")
    with pytest.raises(IntegrityError):
        ollama.find("x:1b", [tmp_path])


def test_weights_that_are_gone(tmp_path: Path) -> None:
    """Weights that Ollama lists and has not are an error."""
    _ollama(tmp_path, "registry.ollama.ai/library/x/1b", None)
    with pytest.raises(NotFoundError, match="no weights of it"):
        ollama.find("x:1b", [tmp_path])


def test_a_ref(store: Store, tiny_model: Path) -> None:
    """A ref is a version of the store, whichever option names it, and ACTIVE is the default."""
    commit(store, tiny_model, TINY, CommitOptions())
    for source, base in (("v1.0", ""), ("", "tiny@v1.0"), ("", "")):
        start = find_start(store, TINY, source, base)
        assert start.name == str(start.version) == "tiny@v1.0"
    with laid_out(store, start) as directory:
        assert open_base(directory).dtypes == open_base(tiny_model).dtypes
        before = (directory / "model.safetensors").read_bytes()
    assert before == (tiny_model / "model.safetensors").read_bytes()
    assert list((store.meta / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["./none", "/none", "a/b/c", "-x", "a b", "x/"])
def test_nothing_of_that_name(store: Store, name: str) -> None:
    """What can be none of these is an error that says what a base can be."""
    with pytest.raises(NotFoundError, match="there is no directory") as caught:
        find_start(store, TINY, "", name)
    assert "a .gguf file" in caught.value.hint
