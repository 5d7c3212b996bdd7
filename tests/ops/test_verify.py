"""Verify finds every damage, says what is lost with it, and finds nothing where nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore import disk
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import Resolved, resolve
from modelstore.ops.verify import active_versions, verify
from modelstore.store import Store
from tests.models import write_model

LLAMA = ModelName("llama_1b")
LAYER = "model.layers.0.mlp.weight"


@pytest.fixture
def version(store: Store, model_dir: Path, tmp_path: Path) -> Resolved:
    """The second version of a model, whose tensors are made against the first."""
    commit(store, model_dir, LLAMA, CommitOptions())
    commit(store, write_model(tmp_path / "next", step=1e-4), LLAMA, CommitOptions())
    return resolve(store, "latest")


def blob_of(store: Store, version: Resolved, tensor: str) -> Digest:
    """Return the blob of a tensor."""
    manifest = store.manifest(version.model, version.entry)
    return next(span.blob for _, span, one in manifest.tensors() if one.name == tensor)


def damage(path: Path) -> None:
    """Flip the last bit of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    disk.replace(path, bytes(data))


def test_a_version_as_it_was_committed_is_sound(store: Store, version: Resolved) -> None:
    """Every file and blob is counted, and nothing is wrong."""
    found = verify(store, version)
    manifest = store.manifest(version.model, version.entry)
    assert found.sound
    assert (found.files, found.blobs) == (3, len(manifest.blobs()))
    assert found.size == manifest.size


def test_a_damaged_blob_is_found_with_its_file_and_tensor(store: Store, version: Resolved) -> None:
    """One flipped bit names the file and the tensor that are lost, and no others."""
    damage(store.blobs.path(blob_of(store, version, LAYER)))
    (problem,) = verify(store, version).problems
    assert (problem.file, problem.tensors) == ("model.safetensors", (LAYER,))
    assert "damaged" in problem.what


def test_a_missing_blob_is_found(store: Store, version: Resolved) -> None:
    """What is not there is a problem, not an end of the command."""
    disk.remove(store.blobs.path(blob_of(store, version, LAYER)))
    (problem,) = verify(store, version).problems
    assert problem.tensors == (LAYER,)
    assert "not in the store" in problem.what


def test_damage_to_a_base_is_found_in_the_version_that_is_built_on_it(
    store: Store, version: Resolved
) -> None:
    """A delta whose base is damaged cannot be read either."""
    base = store.blobs.header(blob_of(store, version, "model.embed_tokens.weight")).base
    assert base is not None
    damage(store.blobs.path(base))
    (problem,) = verify(store, version).problems
    assert problem.tensors == ("model.embed_tokens.weight",)


def test_two_damaged_blobs_are_two_problems(store: Store, version: Resolved) -> None:
    """One problem does not hide another."""
    for name in (LAYER, "model.embed_tokens.weight"):
        damage(store.blobs.path(blob_of(store, version, name)))
    assert len(verify(store, version).problems) == 2


def test_a_damaged_manifest_is_found(store: Store, version: Resolved) -> None:
    """Without a manifest nothing else can be checked, and that is the problem."""
    assert version.id is not None
    damage(store.blobs.path(version.id))
    (problem,) = verify(store, version).problems
    assert problem.file == "manifest.json"


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_the_published_manifest_is_checked(store: Store, version: Resolved, change: str) -> None:
    """The copy of the manifest in the version's directory is the manifest."""
    directory = store.version_dir(version.model, version.entry.version)
    if change == "edit":
        disk.replace(directory / "manifest.json", b"{}")
    else:
        disk.remove(directory / "manifest.json")
    (problem,) = verify(store, version).problems
    assert (problem.file, problem.directory) == ("manifest.json", directory)


def test_checked_out_files_are_hashed(store: Store, version: Resolved, tmp_path: Path) -> None:
    """A changed and a missing file are found wherever the version was written to."""
    checkout(store, version, output=tmp_path / "out")
    assert verify(store, version).directories == (tmp_path / "out",)
    damage(tmp_path / "out" / "model.safetensors")
    disk.remove(tmp_path / "out" / "config.json")
    found = verify(store, version).problems
    assert {(problem.file, problem.directory) for problem in found} == {
        ("model.safetensors", tmp_path / "out"),
        ("config.json", tmp_path / "out"),
    }


def test_active_versions_are_those_of_all_models(
    store: Store, version: Resolved, model_dir: Path
) -> None:
    """Each model with a version has one ACTIVE."""
    commit(store, model_dir, ModelName("other"), CommitOptions())
    assert [str(one) for one in active_versions(store)] == ["llama_1b@v1.0", "other@v1.0"]
