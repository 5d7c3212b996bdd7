"""Exports as an OCI layout, as GGUF files for Ollama, and as a plain directory."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import (
    BadNameError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    UsageError,
)
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.export import LAYOUTS
from modelstore.store import Store
from tests.exports import MODEL, exported, gguf_bytes, two_versions
from tests.models import files_of


@pytest.fixture
def directories(store: Store, tmp_path: Path) -> dict[str, Path]:
    """v1.0, which is ACTIVE, and v1.1."""
    return two_versions(store, tmp_path / "made")


# --- oci


def _blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Return what a descriptor means, which must have its digest and its size."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    assert algorithm == "sha256"
    data = (layout / "blobs" / algorithm / digest).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) == descriptor["size"]
    return data


def _images(layout: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]]:
    """Read a layout as any reader would: by tag, each image's manifest, config and files."""
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    assert index["schemaVersion"] == 2
    images = {}
    for entry in index["manifests"]:
        assert entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        manifest = json.loads(_blob(layout, entry))
        assert manifest["mediaType"] == entry["mediaType"]
        assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
        assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
        config = json.loads(_blob(layout, manifest["config"]))
        assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]
        files = {
            layer["annotations"]["org.cncf.model.filepath"]: _blob(layout, layer)
            for layer in manifest["layers"]
        }
        images[entry["annotations"]["org.opencontainers.image.ref.name"]] = manifest, config, files
    return images


def test_an_oci_layout(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """Two versions lie in one layout, whole, with the types of ModelPack, and share their layers."""
    first = exported(store, f"{MODEL}@v1.0", "oci", tmp_path / "image")
    second = exported(store, f"{MODEL}@v1.1", "oci", tmp_path / "image")
    assert (len(first.written), second.written) == (6, ("model.safetensors",))
    images = _images(tmp_path / "image")
    assert {tag: files for tag, (_, _, files) in images.items()} == {
        ref: files_of(directory) for ref, directory in directories.items()
    }
    manifest, config, _ = images["v1.1"]
    types = {
        layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"].partition("model.")[2]
        for layer in manifest["layers"]
    }
    assert types == {
        "README.md": "doc.v1.raw",
        "config.json": "weight.config.v1.raw",
        "empty.txt": "weight.config.v1.raw",
        "extra/deep/größe.txt": "weight.config.v1.raw",
        "model.safetensors": "weight.v1.raw",
        "tokenizer.json": "weight.config.v1.raw",
    }
    assert config["descriptor"]["name"] == MODEL
    assert config["descriptor"]["version"] == "v1.1"
    assert config["descriptor"]["authors"] == ["Ann"]
    assert config["config"] == {
        "architecture": "transformer",
        "format": "safetensors",
        "paramSize": "2.1K",
        "precision": "fp32",
    }


def test_skopeo_reads_it(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """The tool that most people move images with takes it, blob by blob."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not on this machine")
    exported(store, f"{MODEL}@v1.0", "oci", tmp_path / "image")
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    words = ["skopeo", "--policy", tmp_path / "policy.json", "copy"]
    places = [f"oci:{tmp_path / name}:v1.0" for name in ("image", "copy")]
    subprocess.run([*words, *places], check=True, capture_output=True)
    assert _images(tmp_path / "copy") == _images(tmp_path / "image")


def test_an_oci_layout_follows_from_the_version(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """Exported twice, to two places, a version is the same bytes."""
    exported(store, f"{MODEL}@v1.0", "oci", tmp_path / "a")
    exported(store, f"{MODEL}@v1.0", "oci", tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    exported(store, f"{MODEL}@v1.0", "oci", tmp_path / "a")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_tags(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """A tag that is another image's is kept unless forced, and what others wrote stays."""
    layout = tmp_path / "image"
    exported(store, f"{MODEL}@v1.0", "oci", layout, tag="prod")
    index = json.loads((layout / "index.json").read_text())
    foreign = {"mediaType": "x", "digest": "sha256:00", "size": 1}
    index["manifests"].append(foreign)
    (layout / "index.json").write_text(json.dumps({**index, "annotations": {"a": "b"}}))
    with pytest.raises(ConflictError, match="another image with the tag 'prod'"):
        exported(store, f"{MODEL}@v1.1", "oci", layout, tag="prod")
    exported(store, f"{MODEL}@v1.1", "oci", layout, tag="prod", force=True)
    index = json.loads((layout / "index.json").read_text())
    assert index["annotations"] == {"a": "b"}
    assert foreign in index["manifests"]
    assert len(index["manifests"]) == 2
    with pytest.raises(BadNameError):
        exported(store, f"{MODEL}@v1.1", "oci", layout, tag="a/b")


@pytest.mark.parametrize("text", ["{", "[]", '{"manifests": 3}', '{"manifests": [3]}'])
def test_a_damaged_index(
    store: Store, tmp_path: Path, directories: dict[str, Path], text: str
) -> None:
    """An index that is none is told before anything is written."""
    (tmp_path / "image").mkdir()
    (tmp_path / "image/index.json").write_text(text)
    with pytest.raises(IntegrityError):
        exported(store, f"{MODEL}@v1.0", "oci", tmp_path / "image")
    assert files_of(tmp_path / "image") == {"index.json": text.encode()}


def test_a_directory_of_other_things(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """A layout is not made of somebody's home."""
    with pytest.raises(ConflictError, match="no OCI layout"):
        exported(store, f"{MODEL}@v1.0", "oci", directories["v1.0"])
    with pytest.raises(ConflictError, match="lies in the store"):
        exported(store, f"{MODEL}@v1.0", "oci", store.root / "image")


# --- gguf


def _commit_gguf(store: Store, place: Path, **files: bytes) -> None:
    place.mkdir()
    for name, data in files.items():
        (place / name.replace("__", ".")).write_bytes(data)
    commit(store, place, ModelName("packed"), CommitOptions())


def test_gguf_to_a_directory_and_to_a_file(store: Store, tmp_path: Path) -> None:
    """The file comes out as it went in, beside a Modelfile that names it."""
    _commit_gguf(store, tmp_path / "made", model__gguf=gguf_bytes())
    exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out")
    expected = {"model.gguf": gguf_bytes(), "Modelfile": b"FROM ./model.gguf\n"}
    assert files_of(tmp_path / "out") == expected
    done = exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "one/q4.gguf")
    assert done.names == ("q4.gguf",)
    expected = {"q4.gguf": gguf_bytes(), "Modelfile": b"FROM ./q4.gguf\n"}
    assert files_of(tmp_path / "one") == expected
    again = exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out")
    assert (again.written, again.kept) == ((), ("model.gguf",))


def test_gguf_never_overwrites(store: Store, tmp_path: Path) -> None:
    """Another file, or a Modelfile that somebody wrote, stays unless forced."""
    _commit_gguf(store, tmp_path / "made", model__gguf=gguf_bytes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/Modelfile").write_text("FROM ./model.gguf\nSYSTEM mine\n")
    with pytest.raises(ConflictError, match="Modelfile"):
        exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out")
    assert list(files_of(tmp_path / "out")) == ["Modelfile"]
    (tmp_path / "out/model.gguf").write_text("mine")
    with pytest.raises(ConflictError, match=r"model\.gguf"):
        exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out")
    exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out", force=True)
    assert files_of(tmp_path / "out")["model.gguf"] == gguf_bytes()


def test_several_gguf_files(store: Store, tmp_path: Path) -> None:
    """Patterns choose, a projector is named beside the model, and one name is not for two files."""
    q4, q8 = gguf_bytes([1.0] * 4), gguf_bytes([2.0] * 4)
    _commit_gguf(store, tmp_path / "made", q4__gguf=q4, q8__gguf=q8, mmproj__gguf=gguf_bytes())
    done = exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "all")
    text = (tmp_path / "all/Modelfile").read_text()
    assert text == "FROM ./q4.gguf\nFROM ./mmproj.gguf\n"
    assert "--files" in done.warnings[0]
    with pytest.raises(UsageError, match="3 GGUF files"):
        exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "x.gguf")
    exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "x.gguf", files=("q8*",))
    assert (tmp_path / "x.gguf").read_bytes() == q8
    with pytest.raises(NotFoundError, match="fits"):
        exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "y", files=("q2*",))


def test_shards_of_a_gguf(store: Store, tmp_path: Path) -> None:
    """Of a model in parts, the Modelfile names the first."""
    names = [f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    (tmp_path / "made").mkdir()
    for number, name in enumerate(names):
        (tmp_path / "made" / name).write_bytes(gguf_bytes([float(number)] * 4))
    commit(store, tmp_path / "made", ModelName("packed"), CommitOptions())
    done = exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out")
    assert (tmp_path / "out/Modelfile").read_text() == f"FROM ./{names[0]}\n"
    assert done.warnings == ()


def test_a_modelfile_of_the_version(store: Store, tmp_path: Path) -> None:
    """The version's own is taken byte for byte; for a file of another name only FROM changes."""
    own = b'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}\nx"""\nPARAMETER stop "a"\n'
    _commit_gguf(store, tmp_path / "made", model__gguf=gguf_bytes(), Modelfile=own)
    exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "out")
    assert (tmp_path / "out/Modelfile").read_bytes() == own
    exported(store, "packed@v1.0", "gguf-passthrough", tmp_path / "one/q.gguf")
    assert (tmp_path / "one/Modelfile").read_bytes() == own.replace(b"model.gguf", b"q.gguf")


def test_no_gguf(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """A version without GGUF says how to come by one."""
    with pytest.raises(NotFoundError, match="has no GGUF file") as caught:
        exported(store, f"{MODEL}@v1.0", "gguf-passthrough", tmp_path / "out")
    assert "convert_hf_to_gguf.py" in caught.value.hint
    assert not (tmp_path / "out").exists()


# --- dir, and all


def test_a_plain_directory(store: Store, tmp_path: Path, directories: dict[str, Path]) -> None:
    """What was committed comes out byte for byte, and what somebody changed there is kept."""
    exported(store, f"{MODEL}@v1.1", "dir", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(directories["v1.1"])
    (tmp_path / "out/config.json").write_text("mine")
    with pytest.raises(ConflictError):
        exported(store, f"{MODEL}@v1.1", "dir", tmp_path / "out")
    done = exported(store, f"{MODEL}@v1.1", "dir", tmp_path / "out", force=True)
    assert done.written == ("config.json",)


def test_options_of_another_layout(
    store: Store, tmp_path: Path, directories: dict[str, Path]
) -> None:
    """An option that a layout does not know is refused, and so is a layout that there is not."""
    options: dict[str, Any] = {"repo_id": "a/b", "main": True, "tag": "x", "files": ("*",)}
    owners = {"repo_id": "hf-cache", "main": "hf-cache", "tag": "oci", "files": "gguf-passthrough"}
    for name, value in options.items():
        for to in set(LAYOUTS) - {owners[name]}:
            with pytest.raises(UsageError, match=f"is for --to {owners[name]}"):
                exported(store, f"{MODEL}@v1.0", to, tmp_path / "out", **{name: value})
    with pytest.raises(UsageError, match="no layout"):
        exported(store, f"{MODEL}@v1.0", "zip", tmp_path / "out")
