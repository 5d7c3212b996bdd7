"""Imports of what Ollama has, and of GGUF files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import IntegrityError, NotFoundError, StoreError, UsageError
from modelstore.names import ModelName
from modelstore.ops import ollama
from modelstore.ops.modelfile import modelfile
from modelstore.store import Store
from tests.exports import (
    MEDIA,
    exported,
    gguf_bytes,
    imported,
    ollama_layer,
    ollama_model,
    version,
)
from tests.models import files_of

PARAMETERS = {"stop": ["<|im_end|>", 'a"b'], "temperature": 0.7, "num_ctx": 4096, "use_mmap": True}

MODELFILE = '''FROM ./model.gguf
TEMPLATE """{{ .Prompt }}
{{ "x" }} end"""
SYSTEM "You are tiny."
LICENSE "MIT"
LICENSE "Other"
PARAMETER stop "<|im_end|>"
PARAMETER stop """a"b"""
PARAMETER temperature 0.7
PARAMETER num_ctx 4096
PARAMETER use_mmap true
MESSAGE user "hi"
'''


def _rows(place: Path) -> list[dict[str, object]]:
    messages = [{"role": "user", "content": "hi"}]
    return [
        ollama_layer(place, "model", gguf_bytes()),
        ollama_layer(place, "template", b'{{ .Prompt }}\n{{ "x" }} end'),
        ollama_layer(place, "system", b"You are tiny."),
        ollama_layer(place, "license", b"MIT"),
        ollama_layer(place, "license", b"Other"),
        ollama_layer(place, "params", json.dumps(PARAMETERS).encode()),
        ollama_layer(place, "messages", json.dumps(messages).encode()),
    ]


def test_a_model_of_ollamas(store: Store, tmp_path: Path) -> None:
    """Its layers become files, with a Modelfile that makes the same of them again."""
    rows = _rows(tmp_path / "ollama")
    ollama_model(tmp_path / "ollama", rows)
    (done,) = imported(store, "ollama:tiny:1b", place=tmp_path / "ollama")
    assert done.ref == "tiny-1b@v1.0"
    exported(store, done.ref, "dir", tmp_path / "out")
    assert files_of(tmp_path / "out") == {
        "LICENSE": b"MIT",
        "LICENSE-2": b"Other",
        "Modelfile": MODELFILE.encode(),
        "messages.json": b'[{"role": "user", "content": "hi"}]',
        "model.gguf": gguf_bytes(),
        "params.json": json.dumps(PARAMETERS).encode(),
        "system.txt": b"You are tiny.",
        "template.txt": b'{{ .Prompt }}\n{{ "x" }} end',
    }
    resolved = version(store, done.ref)
    manifest = store.manifest(resolved.model, resolved.entry)
    assert manifest.base_model == "tiny:1b"
    assert manifest.environment["imported_from"] == "ollama:tiny:1b"
    (file,) = (file for file in manifest.files if file.path == "model.gguf")
    assert (file.format, f"sha256:{file.sha256}") == ("gguf", rows[0]["digest"])
    assert imported(store, "ollama:tiny:1b", place=tmp_path / "ollama")[0].made is None
    assert list((store.meta / "runs").glob("*")) == []


def test_and_back(store: Store, tmp_path: Path) -> None:
    """What came from Ollama goes back to it: the same weights, and the same Modelfile."""
    ollama_model(tmp_path / "ollama", _rows(tmp_path / "ollama"))
    imported(store, "ollama:tiny:1b", place=tmp_path / "ollama")
    exported(store, "tiny-1b@v1.0", "gguf-passthrough", tmp_path / "out")
    expected = {"model.gguf": gguf_bytes(), "Modelfile": MODELFILE.encode()}
    assert files_of(tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("text", "manifest"),
    [
        ("tiny", "registry.ollama.ai/library/tiny/latest"),
        ("someone/tiny:x", "registry.ollama.ai/someone/tiny/x"),
        ("hf.co/owner/tiny-GGUF:Q4_K_M", "hf.co/owner/tiny-GGUF/Q4_K_M"),
    ],
)
def test_names(store: Store, tmp_path: Path, text: str, manifest: str) -> None:
    """A model is found by every kind of name, and by its manifest, which gives the same name."""
    path = ollama_model(tmp_path, _rows(tmp_path), name=manifest)
    (done,) = imported(store, f"ollama:{text}", "one", place=tmp_path)
    (same,) = imported(store, path, "two")
    assert same.source.origin in {done.source.origin, f"{done.source.origin}:latest"}
    assert ollama.names(tmp_path) == [same.source.origin.removeprefix("ollama:")]


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    """A model that Ollama lacks, or lacks a part of, is an error with the command that brings it."""
    ollama_model(tmp_path, _rows(tmp_path))
    with pytest.raises(NotFoundError, match="it has tiny:1b") as caught:
        imported(store, "ollama:other", place=tmp_path)
    assert caught.value.hint == "ollama pull other"
    with pytest.raises(UsageError, match="a store of Ollama's: tiny:1b"):
        imported(store, tmp_path)
    for blob in (tmp_path / "blobs").iterdir():
        data = blob.read_bytes()
        blob.unlink()
        with pytest.raises(NotFoundError, match="lacks a part of 'tiny:1b'"):
            imported(store, "ollama:tiny:1b", place=tmp_path)
        blob.write_bytes(data)


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("how", ["changed", "shorter", "directory"])
def test_damage(store: Store, tmp_path: Path, number: int, how: str) -> None:
    """Every layer is held against its SHA-256; of a damaged one no version is made."""
    rows = _rows(tmp_path)
    ollama_model(tmp_path, rows)
    blob = tmp_path / "blobs" / str(rows[number]["digest"]).replace(":", "-")
    data = blob.read_bytes()
    blob.unlink()
    if how == "directory":
        blob.mkdir()
    else:
        blob.write_bytes(data[:-1] + (b"\x7f" if how == "changed" else b""))
    with pytest.raises(IntegrityError):
        imported(store, "ollama:tiny:1b", place=tmp_path)
    assert not store.registry(ModelName("tiny-1b")).exists()
    assert list((store.meta / "runs").glob("*")) == []


_GOOD = {"mediaType": f"{MEDIA}model", "digest": "sha256:" + "ab" * 32, "size": 1}


@pytest.mark.parametrize(
    "rows",
    [
        None,
        3,
        [3],
        [{}],
        [{**_GOOD, "digest": "sha256:../../../../etc/passwd"}],
        [{**_GOOD, "digest": "md5:" + "ab" * 16}],
        [{**_GOOD, "digest": "sha256:" + "AB" * 32}],
        [{**_GOOD, "size": -1}],
        [{**_GOOD, "size": True}],
        [{**_GOOD, "mediaType": 3}],
        [_GOOD] * 1001,
    ],
)
def test_hostile_manifests(store: Store, tmp_path: Path, rows: Any) -> None:
    """A manifest that Ollama would not write is a clear error."""
    ollama_model(tmp_path, rows)
    with pytest.raises(IntegrityError, match="no manifest of Ollama's"):
        imported(store, "ollama:tiny:1b", place=tmp_path)


def test_a_manifest_that_is_huge_or_no_json(store: Store, tmp_path: Path) -> None:
    """Neither is read into memory whole, or as anything else."""
    path = ollama_model(tmp_path, [])
    path.write_bytes(b" " * (5 << 20))
    with pytest.raises(IntegrityError, match="too large"):
        imported(store, "ollama:tiny:1b", place=tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(IntegrityError):
        imported(store, "ollama:tiny:1b", place=tmp_path)


def test_layers_that_are_no_weights(store: Store, tmp_path: Path) -> None:
    """A model without a GGUF file says so; a layer of an unknown kind is left out and told of."""
    ollama_model(tmp_path, [ollama_layer(tmp_path, "template", b"x")])
    with pytest.raises(NotFoundError, match="no weights"):
        imported(store, "ollama:tiny:1b", place=tmp_path)
    ollama_model(tmp_path, [ollama_layer(tmp_path, "tensor", b"x")])
    with pytest.raises(UsageError, match="single tensors"):
        imported(store, "ollama:tiny:1b", place=tmp_path)
    ollama_model(tmp_path, [*_rows(tmp_path), ollama_layer(tmp_path, "embed", b"x")])
    (done,) = imported(store, "ollama:tiny:1b", place=tmp_path)
    assert done.source.warnings == ("left out a layer of the kind 'embed'",)


KEYS = st.sampled_from(["mediaType", "digest", "size", "x"])
ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


@given(ANY)
def test_any_manifest(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    """Whatever is listed, the answer is layers or an error of ours."""
    path = ollama_model(tmp_path_factory.mktemp("ollama"), rows)
    model = ollama.listed_at(path)
    assert model is not None
    try:
        _, layers = ollama.layers(model)
    except StoreError:
        return
    assert all(len(layer.digest) == 64 for layer in layers)


@given(st.text(max_size=40))
def test_no_name_leads_out_of_the_store(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Whatever a name is, its manifest is looked for four directories below, or not at all."""
    place = tmp_path_factory.mktemp("ollama")
    assert ollama.listed(text, [place]) is None
    parts = ollama._parts(text)
    assert not {"", ".", ".."} & set(parts)


@given(st.text(max_size=60), st.text(max_size=20))
def test_a_modelfile_says_what_it_was_given(system: str, stop: str) -> None:
    """A text stands in a Modelfile as it was, in quotes that its own cannot end, or not at all."""
    text = modelfile(["m.gguf"], texts=[("SYSTEM", system)], parameters={"stop": stop})
    head, _, rest = text.partition("\n")
    assert head == "FROM ./m.gguf"
    triple, single = f'SYSTEM """{system}"""\n', f'SYSTEM "{system}"\n'
    if rest.startswith(triple):
        assert '"""' not in system
    elif rest.startswith(single):
        assert '"' not in system
        assert "\n" not in system
    else:
        assert rest.startswith("# SYSTEM")


def test_what_would_be_another_instruction() -> None:
    """A role or the name of a parameter that is no word is left out: it could begin a line."""
    text = modelfile(["m.gguf"], parameters={"a\nFROM b": 1}, messages=[("x\nFROM c", "y")])
    assert text == "FROM ./m.gguf\n"


# --- gguf


def test_a_gguf_file(store: Store, tmp_path: Path) -> None:
    """It becomes a version of a model that is called as it is, and is known again."""
    path = tmp_path / "My Tiny (Q4).gguf"
    path.write_bytes(gguf_bytes())
    (done,) = imported(store, path)
    assert done.ref == "My-Tiny-Q4@v1.0"
    resolved = version(store, done.ref)
    (file,) = store.manifest(resolved.model, resolved.entry).files
    assert (file.path, file.format) == (path.name, "gguf")
    (again,) = imported(store, path)
    assert again.made is not None
    assert not again.made.created


def test_files_that_are_no_gguf(store: Store, tmp_path: Path) -> None:
    """Another file is to be committed, and one that was cut short is to be fetched again."""
    path = tmp_path / "x.gguf"
    for data in (b"", b"GG", b"other bytes"):
        path.write_bytes(data)
        with pytest.raises(UsageError, match="no GGUF file"):
            imported(store, path)
    for size in (4, 20, 60, len(gguf_bytes()) - 32):
        path.write_bytes(gguf_bytes()[:size])
        with pytest.raises(IntegrityError, match="no valid gguf"):
            imported(store, path)
    path.rename(tmp_path / "---.gguf")
    (tmp_path / "---.gguf").write_bytes(gguf_bytes())
    with pytest.raises(UsageError, match="to be called here"):
        imported(store, tmp_path / "---.gguf")
