"""Status: what is checked out where, what was changed there, and what is odd."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.checkout import checkout
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.resolve import resolve
from modelstore.ops.status import Status, status
from modelstore.state import Change
from modelstore.store import Store
from tests.models import write_model

MODEL = ModelName("llama_1b")


@pytest.fixture
def out(store: Store, model_dir: Path, tmp_path: Path) -> Path:
    """A directory that v1.0 is checked out in."""
    commit(store, model_dir, MODEL, CommitOptions())
    return checkout(store, resolve(store, "v1.0"), output=tmp_path / "out").path


def _changes(found: Status) -> dict[str, tuple[str, ...]]:
    copy = found.copies[-1]
    return {"modified": copy.modified, "missing": copy.missing, "added": copy.added}


def test_a_fresh_checkout_is_clean(store: Store, out: Path) -> None:
    """What was just written is what was committed."""
    found = status(store)
    assert found.clean
    assert [copy.ref for copy in found.copies if copy.path == out] == ["llama_1b@v1.0"]
    model = found.models[0]
    assert (model.active, model.latest, model.versions) == ("v1.0", "v1.0", 1)


def test_every_kind_of_change_is_seen(store: Store, out: Path) -> None:
    """Changed, deleted and new files are told apart."""
    (out / "config.json").write_text("{}")
    (out / "tokenizer.json").unlink()
    (out / "new").mkdir()
    (out / "new/notes.txt").write_text("x")
    found = status(store)
    assert not found.clean
    assert _changes(found) == {
        "modified": ("config.json",),
        "missing": ("tokenizer.json",),
        "added": ("new/notes.txt",),
    }


def test_a_change_of_equal_size_is_seen(store: Store, out: Path) -> None:
    """A file whose length stays the same is still found out."""
    path = out / "config.json"
    path.write_bytes(path.read_bytes().swapcase())
    assert _changes(status(store))["modified"] == ("config.json",)


def test_a_touched_file_is_not_changed(store: Store, out: Path) -> None:
    """The bytes count, not the time."""
    path = out / "config.json"
    data = path.read_bytes()
    path.write_bytes(data)
    assert status(store).clean


def test_what_a_commit_would_skip_is_no_change(store: Store, out: Path) -> None:
    """Leftovers of a trainer, which a commit leaves out, are not reported."""
    (out / "checkpoint-5").mkdir()
    (out / "checkpoint-5/optimizer.pt").write_bytes(b"x")
    assert status(store).clean


def test_the_small_files_of_a_version_are_no_change(store: Store, out: Path) -> None:
    """Checked out in place, the manifest and what was generated beside it belong there."""
    home = checkout(store, resolve(store, "v1.0")).path
    assert (home / "manifest.json").is_file()
    assert (home / "model_info.json").is_file()
    assert status(store).clean


def test_a_checkout_that_was_deleted(store: Store, out: Path) -> None:
    """A directory that has gone has no local changes worth a warning that never ends."""
    shutil.rmtree(out)
    assert [copy.path for copy in status(store).copies if copy.path == out] == []


def test_content_that_is_not_here(store: Store, out: Path) -> None:
    """A version that is registered only, and a directory that no registry knows, are named."""
    store.change(MODEL, lambda _: Change("adopt", versions={"v0.9": {"seq": 9}}))
    write_model(store.root / "llama_1b/v3.0")
    (store.root / "llama_1b/scratch").mkdir()
    model = status(store).models[0]
    assert (model.absent, model.unregistered) == (("v0.9",), ("v3.0",))


def test_adopt_is_offered_only_where_it_would_take_something(store: Store, out: Path) -> None:
    """A version directory without weights is named apart from those that adopt takes."""
    write_model(store.root / "llama_1b/v3.0")
    (store.root / "llama_1b/v3.1").mkdir()
    (store.root / "llama_1b/v3.1/notes.txt").write_text("to come")

    model = status(store).models[0]

    assert (model.unregistered, model.without_weights) == (("v3.0",), ("v3.1",))


def test_a_partial_checkout_is_compared_in_what_was_written(store: Store, tmp_path: Path) -> None:
    """Files that were never asked for are not missing; those that were are looked at."""
    commit(store, write_model(tmp_path / "run"), MODEL, CommitOptions())
    part = tmp_path / "part"
    checkout(store, resolve(store, "v1.0"), output=part, files=["*.json"])
    assert status(store).clean
    (part / "config.json").write_text("mine")
    (part / "tokenizer.json").unlink()

    assert _changes(status(store)) == {
        "modified": ("config.json",),
        "missing": ("tokenizer.json",),
        "added": (),
    }


def test_an_edited_registry(store: Store, out: Path) -> None:
    """The notice says what became of it."""
    view = store.root / "llama_1b/model_registry.json"
    value = json.loads(view.read_bytes())
    value["active_version"] = "v9.9"
    view.write_text(json.dumps(value))
    model = status(store).models[0]
    assert model.active == "v1.0"
    assert "was edited" in model.notice


def test_one_model_only(store: Store, out: Path) -> None:
    """Other models, and what is checked out of them, are left out."""
    other = ModelName("other")
    store.change(other, lambda _: Change("init"))
    found = status(store, other)
    assert ([m.model for m in found.models], found.copies) == ([other], ())
