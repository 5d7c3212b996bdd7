"""Committing: what becomes a version, and what does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelstore.errors import ConflictError, NotFoundError, UsageError
from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.resolve import resolve
from modelstore.store import Store
from tests.builders import safetensors_bytes, torch_bytes
from tests.models import files_of, weights, write_model

LINE = ModelName("llama_1b")


def put(store: Store, path: Path, **options: object) -> Committed:
    """Commit with options given by name."""
    return commit(store, path, LINE, CommitOptions(**options))  # type: ignore[arg-type]


def test_the_first_version_is_v1_0_and_active(store: Store, model_dir: Path) -> None:
    """A new line starts at v1.0, which becomes ACTIVE."""
    made = put(store, model_dir, message="base")

    assert (made.version, made.active, made.created) == ("v1.0", True, True)
    assert store.state(LINE).active == "v1.0"


def test_later_versions_count_up_and_stay_inactive(store: Store, model_dir: Path) -> None:
    """The next version is v1.1 with v1.0 as parent, and ACTIVE stays where it was."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)

    made = put(store, model_dir)

    assert (made.version, made.parent, made.active) == ("v1.1", "llama_1b@v1.0", False)
    assert store.state(LINE).active == "v1.0"


def test_activate_moves_active(store: Store, model_dir: Path) -> None:
    """With activate the new version is ACTIVE at once."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)

    assert put(store, model_dir, activate=True).active


def test_equal_content_is_nothing_to_commit(store: Store, model_dir: Path) -> None:
    """Committing what the parent holds makes no version and changes no byte of the registry."""
    put(store, model_dir)
    before = files_of(store.root)

    made = put(store, model_dir, message="again")

    assert (made.created, made.version) == (False, "v1.0")
    assert {k: v for k, v in files_of(store.root).items() if "locks" not in k} == {
        k: v for k, v in before.items() if "locks" not in k
    }


def test_an_empty_commit_adds_no_weight_blob(store: Store, model_dir: Path) -> None:
    """With allow_empty the version is made, and costs nothing but its manifest."""
    put(store, model_dir)

    made = put(store, model_dir, message="again", allow_empty=True)

    assert (made.version, made.new_blobs, made.stored) == ("v1.1", 0, 0)


def test_the_same_weights_in_another_file_cost_only_headers(store: Store, tmp_path: Path) -> None:
    """Safetensors, torch zip and shards of the same weights share every tensor blob."""
    tensors = weights(3)
    first = dict(list(tensors.items())[:1])
    rest = dict(list(tensors.items())[1:])
    one = tmp_path / "one"
    write_model(one, seed=3)
    zipped, shards = tmp_path / "zip", tmp_path / "shards"
    zipped.mkdir()
    (zipped / "pytorch_model.bin").write_bytes(torch_bytes(tensors))
    shards.mkdir()
    (shards / "model-00001-of-00002.safetensors").write_bytes(safetensors_bytes(first))
    (shards / "model-00002-of-00002.safetensors").write_bytes(safetensors_bytes(rest))
    put(store, one)
    blobs = {span.blob for _, span, _ in _manifest(store, "v1.0").tensors()}

    for directory in (zipped, shards):
        made = put(store, directory)
        found = {span.blob for _, span, _ in _manifest(store, made.version).tensors()}
        assert found == blobs


def test_major_starts_the_next_line(store: Store, model_dir: Path) -> None:
    """--major after v1.0 gives v2.0, and the next one v2.1."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)
    assert put(store, model_dir, major=True).version == "v2.0"
    write_model(model_dir, step=0.002)

    assert put(store, model_dir).version == "v2.1"


def test_a_taken_number_is_refused(store: Store, model_dir: Path) -> None:
    """An existing version is never replaced, however its number is written."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)

    with pytest.raises(ConflictError, match="exists already"):
        put(store, model_dir, version="v1.0.0")


def test_an_unregistered_directory_is_not_overwritten(store: Store, model_dir: Path) -> None:
    """A version directory that the registry does not know keeps its number and its files."""
    put(store, model_dir)
    other = store.root / LINE / "v1.1"
    write_model(other, seed=9)
    before = files_of(other)
    write_model(model_dir, step=0.001)

    assert put(store, model_dir).version == "v1.2"
    with pytest.raises(ConflictError, match="not registered"):
        put(store, model_dir, version="v1.1", allow_empty=True)
    assert files_of(other) == before


def test_a_version_directory_is_committed_in_place(store: Store, model_dir: Path) -> None:
    """What a trainer wrote to llama_1b/v1.1 becomes v1.1, its files where and as they were."""
    put(store, model_dir)
    home = write_model(store.root / LINE / "v1.1", step=0.001, files={"README.md": "# mine\n"})
    before = files_of(home)

    made = put(store, home)

    assert made.version == "v1.1"
    after = files_of(home)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"manifest.json", "model_info.json"}
    assert not put(store, home).created


def test_every_version_directory_has_three_small_files(store: Store, model_dir: Path) -> None:
    """Manifest, README and model_info are written even though the files are not."""
    put(store, model_dir, message="base", parameters={"epochs": 3}, metrics={"loss": 1.5})
    home = store.root / LINE / "v1.0"

    assert set(files_of(home)) == {"manifest.json", "README.md", "model_info.json"}
    info = json.loads((home / "model_info.json").read_text())
    assert (info["model_name"], info["version"]) == ("llama_1b", "v1.0")
    assert info["training_parameters"] == {"epochs": 3}
    assert info["metrics"]["loss"] == 1.5
    readme = (home / "README.md").read_text()
    for word in ("base", "epochs", "loss", "model.safetensors", "mstore checkout llama_1b@v1.0"):
        assert word in readme


def test_files_of_those_names_that_came_in_stay(store: Store, model_dir: Path) -> None:
    """A README or model_info in the directory is content and comes out as it went in."""
    info = '{"description": "mine", "metrics": {"loss": 2.5}}'
    write_model(model_dir, files={"README.md": "# mine\n", "model_info.json": info})

    put(store, model_dir)

    home = store.root / LINE / "v1.0"
    assert (home / "README.md").read_text() == "# mine\n"
    assert (home / "model_info.json").read_text() == info
    assert store.state(LINE).entry("v1.0").values["metrics"]["loss"] == 2.5  # type: ignore[union-attr]


def test_a_foreign_manifest_is_content(store: Store, model_dir: Path, tmp_path: Path) -> None:
    """A manifest.json that came in is stored; writing it in place would hide the store's own."""
    write_model(model_dir, files={"manifest.json": "{}"})
    put(store, model_dir)

    with pytest.raises(ConflictError, match="of its own"):
        checkout(store, resolve(store, "v1.0"))
    checkout(store, resolve(store, "v1.0"), output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(model_dir)


def test_a_checkout_that_was_edited_becomes_a_child(store: Store, model_dir: Path) -> None:
    """Committing an edited version directory takes that version as parent, not the latest."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)
    put(store, model_dir)
    home = checkout(store, resolve(store, "v1.0")).path
    (home / "config.json").write_text('{"edited": true}')

    made = put(store, home)

    assert (made.version, made.parent) == ("v1.2", "llama_1b@v1.0")
    names = {file.path for file in _manifest(store, "v1.2").files}
    assert names == {"model.safetensors", "config.json", "tokenizer.json"}


def test_an_edited_generated_readme_becomes_content(store: Store, model_dir: Path) -> None:
    """A README that mstore wrote is not content until somebody edits it."""
    put(store, model_dir)
    home = checkout(store, resolve(store, "v1.0")).path
    (home / "README.md").write_text("# now mine\n")

    put(store, home)

    readme = _manifest(store, "v1.1").file("README.md")
    assert readme is not None
    assert (store.root / LINE / "v1.1" / "README.md").read_text() == "# now mine\n"


def test_move_takes_the_files_into_the_version_directory(store: Store, model_dir: Path) -> None:
    """With move the source is gone and the version is hydrated and clean."""
    before = files_of(model_dir)

    put(store, model_dir, move=True)

    home = store.root / LINE / "v1.0"
    assert not model_dir.exists()
    assert before.items() <= files_of(home).items()
    assert not put(store, home).created


def test_a_merge_has_several_parents(store: Store, model_dir: Path) -> None:
    """Several parents are recorded in order."""
    put(store, model_dir)
    write_model(model_dir, step=0.001)
    put(store, model_dir)
    write_model(model_dir, step=0.002)

    put(store, model_dir, parents=["v1.1", "v1.0"])

    entries = {str(e.version): e for e in store.state(LINE).entries()}
    assert entries["v1.2"].parents == (entries["v1.1"].id, entries["v1.0"].id)


def test_another_schema_is_said(store: Store, model_dir: Path) -> None:
    """Other tensor shapes than the parent's give a warning that names --major."""
    put(store, model_dir)
    tensors = weights(1)
    tensors.popitem()
    (model_dir / "model.safetensors").write_bytes(safetensors_bytes(tensors))

    made = put(store, model_dir)

    assert any("--major" in warning for warning in made.warnings)


@pytest.mark.parametrize("case", ["nothing", "empty", "store", "meta"])
def test_what_cannot_be_a_version_is_refused(store: Store, tmp_path: Path, case: str) -> None:
    """A missing path, an empty directory and the store itself are clear errors."""
    empty = tmp_path / "empty"
    empty.mkdir()
    path = {"nothing": tmp_path / "none", "empty": empty, "store": store.root, "meta": store.meta}[
        case
    ]

    with pytest.raises((NotFoundError, UsageError)):
        put(store, path)
    assert not store.registry(LINE).exists()


def test_a_whole_model_is_no_version(store: Store, model_dir: Path) -> None:
    """The directory of a model, which holds its versions, is refused with the way to say one."""
    put(store, model_dir)

    with pytest.raises(UsageError, match="all versions"):
        put(store, store.root / LINE)


def test_an_unknown_parent_is_refused_before_anything_is_read(
    store: Store, model_dir: Path
) -> None:
    """A parent that does not exist is an error, and nothing is made."""
    with pytest.raises(NotFoundError):
        put(store, model_dir, parents=["v9.9"])
    assert list(store.blobs.iter_digests()) == []


def test_a_lying_header_is_stored_as_it_is(store: Store, model_dir: Path, tmp_path: Path) -> None:
    """A file whose header lies is kept byte for byte, with a warning that names it."""
    (model_dir / "model.safetensors").write_bytes(b"\xff\xff\xff\xff\0\0\0\0{}")

    made = put(store, model_dir)

    (warning,) = made.warnings
    assert warning.count("model.safetensors") == 1
    assert warning.endswith("; it is stored as plain bytes")
    checkout(store, resolve(store, "v1.0"), output=tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(model_dir)


def test_no_pickle_is_ever_run(store: Store, model_dir: Path, tmp_path: Path) -> None:
    """A pickle that would create a file is committed and checked out without creating it."""
    from tests.builders import pickled_call, torch_with_pickle

    canary = tmp_path / "canary"
    payload = b"\x80\x02" + pickled_call("os", "mkdir", str(canary)) + b"."
    (model_dir / "pytorch_model.bin").write_bytes(torch_with_pickle(payload, {}))

    put(store, model_dir)
    checkout(store, resolve(store, "v1.0"), output=tmp_path / "out")

    assert not canary.exists()
    assert files_of(tmp_path / "out") == files_of(model_dir)


def test_the_executable_bit_is_kept(store: Store, model_dir: Path, tmp_path: Path) -> None:
    """Of a file's mode only whether it may be run is content."""
    script = model_dir / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (model_dir / "model.safetensors").chmod(0o600)
    put(store, model_dir)
    mask = os.umask(0)
    os.umask(mask)

    out = checkout(store, resolve(store, "v1.0"), output=tmp_path / "out").path

    assert (out / "run.sh").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def _manifest(store: Store, version: str):  # type: ignore[no-untyped-def]
    entry = store.state(LINE).entry(version)
    assert entry is not None
    return store.manifest(LINE, entry)
