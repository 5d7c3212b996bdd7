"""What somebody wrote into a registry of mstore's is taken over by adopt, once and not blindly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import NotFoundError
from modelstore.ops import adopt as adopting
from modelstore.ops.pointer import add_note, set_active, set_alias
from modelstore.ops.resolve import resolve
from modelstore.ops.survey import plan_adopt
from modelstore.ops.verify import verify
from modelstore.store import Store
from tests import old_tool
from tests.old_tool import MODEL, adopt, entry, refs, state, tree


def edit(model: Path, change: Callable[[Any], None]) -> None:
    """Change the registry as a script does: read the JSON, change it, write it."""
    value = json.loads((model / "model_registry.json").read_text(encoding="utf-8"))
    change(value)
    old_tool.registry(model, value)


def trained(view: Any) -> None:
    """Register v1.6 as an outside trainer does."""
    view["versions"]["v1.6"] = {
        "created_at": "2025-05-01T08:00:00Z",
        "training_parameters": {"epochs": 2},
        "metrics": {"loss": 1.2},
        "notes": "from outside",
    }


def note(root: Path, ref: str = "v1.0", text: str = "hello") -> Store:
    """Make a change that has nothing to do with what was edited; return the store it was made in."""
    store = Store(root)
    add_note(store, resolve(store, ref), text)
    return store


@pytest.mark.parametrize("between", [False, True])
def test_what_a_trainer_registered_is_found(model: Path, between: bool) -> None:
    """A new directory has what was said of it, though another change wrote the view again."""
    adopt(model.parent)
    old_tool.version(model, "v1.6", seed=6)
    edit(model, trained)
    if between:
        note(model.parent)
    assert refs(adopt(model.parent)) == ["llama_1b@v1.6"]
    said = entry(model.parent, "v1.6")
    assert (said["training_parameters"], said["metrics"]["loss"]) == ({"epochs": 2}, 1.2)
    assert (said["notes"], said["created_at"]) == ("from outside", "2025-05-01T08:00:00Z")
    assert not plan_adopt(model.parent).pending


def test_a_change_over_an_edit_says_so(model: Path) -> None:
    """The state after it carries the notice, and the store remembers it for whoever prints."""
    adopt(model.parent)
    edit(model, trained)
    store = note(model.parent)
    assert "mstore adopt" in store.notices[0]
    assert state(model.parent).notice == ""
    assert note(model.parent).notices == []


@pytest.mark.parametrize("between", [False, True])
def test_edits_of_known_versions_are_merged(model: Path, between: bool) -> None:
    """Notes, descriptions, unknown keys and aliases are taken; all else stays and is reported."""
    old_tool.registry(model, {"active": "v1.0", "versions": {"v1.0": {"notes": "one"}}})
    adopt(model.parent)
    before = state(model.parent)

    def change(view: Any) -> None:
        view["owner"] = "me"
        view["aliases"] = {"prod": "v1.1"}
        view["active_version"] = "v1.1"
        view["versions"]["v1.0"] |= {"notes": "one\ntwo", "reviewed": True, "sizes": {"stored": 1}}
        view["versions"]["v1.1"] |= {"description": "better", "seq": 99}

    edit(model, change)
    if between:
        note(model.parent)
    plan = plan_adopt(model.parent)
    assert set(plan.models[0].edits.lines()) == {
        *("notes of v1.0", "reviewed of v1.0", "description of v1.1", "owner", "alias prod"),
    }
    remarks = " ".join(plan.models[0].remarks)
    assert "mstore set-active llama_1b@v1.1" in remarks
    assert "another sizes of v1.0" in remarks
    assert "another seq of v1.1" in remarks
    adopting.adopt(model.parent, plan)
    after = state(model.parent)
    first, second = entry(model.parent, "v1.0"), entry(model.parent, "v1.1")
    assert first["notes"] == ("one\nhello\ntwo" if between else "one\ntwo")
    assert (first["reviewed"], second["description"]) == (True, "better")
    assert (after.document["owner"], after.aliases) == ("me", {"prod": "v1.1"})
    assert [e.id for e in after.entries()] == [e.id for e in before.entries()]
    assert (after.active, after.notice, second["seq"]) == ("v1.0", "", 3)
    again = plan_adopt(model.parent)
    assert not again.pending
    assert again.models[0].remarks == ()


def test_what_was_moved_since_stays(model: Path) -> None:
    """An alias or pointer that mstore has set is not put back by an old edit of something else."""
    adopt(model.parent)
    store = Store(model.parent)
    set_alias(store, "prod", resolve(store, "v1.0"))
    edit(model, lambda view: view["versions"]["v1.0"].update(reviewed=True))
    set_alias(store, "prod", resolve(store, "v1.1"))
    set_active(store, resolve(store, "v1.1"))
    adopt(model.parent)
    assert state(model.parent).aliases == {"prod": "v1.1"}
    assert state(model.parent).active == "v1.1"
    assert entry(model.parent, "v1.0")["reviewed"] is True


def test_an_edit_that_was_taken_is_not_taken_again(model: Path) -> None:
    """What is undone after it was taken over stays undone."""
    adopt(model.parent)
    edit(model, lambda view: view.update(aliases={"prod": "v1.0"}))
    adopt(model.parent)
    store = Store(model.parent)
    set_alias(store, "prod", resolve(store, "v1.1"))
    assert not plan_adopt(model.parent).pending


@pytest.mark.parametrize("data", [b"<<<<<<< ours", b"{}", None])
def test_a_view_that_says_nothing_is_written_again(model: Path, data: bytes | None) -> None:
    """After the adopt that the notice asks for, the notice is gone."""
    adopt(model.parent)
    path = model / "model_registry.json"
    path.write_bytes(data if data is not None else path.read_bytes() + b"\n")
    assert "mstore adopt" in state(model.parent).notice
    before = state(model.parent).document["versions"]
    adopt(model.parent)
    assert state(model.parent).notice == ""
    assert state(model.parent).document["versions"] == before
    assert not plan_adopt(model.parent).pending


def test_the_registry_before_adoption_is_no_edit(model: Path) -> None:
    """What it said was taken then; notes that are written later are not measured by it."""
    old_tool.registry(model, {"versions": {"v1.0": {"notes": "one", "x": 1}}})
    adopt(model.parent)
    note(model.parent)
    assert not plan_adopt(model.parent).pending


def test_a_missing_version_is_trained_by_the_old_tool(model: Path) -> None:
    """Files and words that come for a version that was only listed belong together."""
    old_tool.registry(model, {"versions": {"v1.0": {}, "v1.2": {"notes": "planned"}}})
    adopt(model.parent)
    old_tool.version(model, "v1.2", seed=5)
    edit(model, lambda view: view["versions"]["v1.2"].update(metrics={"loss": 0.7}, by="script"))
    note(model.parent)
    assert refs(adopt(model.parent)) == ["llama_1b@v1.2"]
    said = entry(model.parent, "v1.2")
    assert (said["metrics"]["loss"], said["by"], said["notes"]) == (0.7, "script", "planned")
    assert not plan_adopt(model.parent).pending


# --- paths


@pytest.mark.parametrize(
    ("name", "said", "path"),
    [
        ("v1.2", "tuned_models/llama_1b/v1.2", "tuned_models/llama_1b/v1.2"),
        ("v1.2", "./llama_1b/v1.2", "./llama_1b/v1.2"),
        ("v1.2", "/old/v1.2", "tuned_models/llama_1b/v1.2"),
        ("v1.2", None, "tuned_models/llama_1b/v1.2"),
        ("1.2", None, "tuned_models/llama_1b/1.2"),
        ("best", "llama_1b/best", "llama_1b/best"),
    ],
)
def test_paths_keep_their_spelling_and_name_the_directory(
    model: Path, name: str, said: str | None, path: str
) -> None:
    """A path that names the directory stays as it was spelt; it always ends in the real name."""
    old_tool.version(model, name, seed=9)
    values = {} if said is None else {"path": said}
    old_tool.registry(model, {"versions": {"v1.2": values}})
    adopt(model.parent)
    assert entry(model.parent, "v1.2")["path"] == path


# --- content that is lost


def test_content_comes_back_from_the_directories(model: Path) -> None:
    """Without `.mstore` every version whose files are there is brought back under its own number."""
    old_tool.version(model, "1.2", seed=4)
    adopt(model.parent)
    before = {str(e.version): e.id for e in state(model.parent).entries()}
    shutil.rmtree(model.parent / ".mstore")
    assert "mstore adopt" in state(model.parent).notice
    assert (
        verify(Store(model.parent), resolve(Store(model.parent), "v1.1")).held_by == model / "v1.1"
    )
    plan = plan_adopt(model.parent)
    assert all(version.lost for version in plan.models[0].versions)
    done = adopting.adopt(model.parent, plan)
    assert [healed.ref for healed in done.healed] == [f"llama_1b@v1.{n}" for n in range(3)]
    assert (done.versions, done.failed) == ((), ())
    store = Store(model.parent)
    assert {str(e.version): e.id for e in store.state(MODEL).entries()} == before
    assert store.state(MODEL).notice == ""
    assert all(verify(store, resolve(store, name)).sound for name in before)
    assert not plan_adopt(model.parent).pending


def test_some_lost_blobs_come_back(model: Path) -> None:
    """A version is brought back although only some of its blobs, or its bases', are gone."""
    adopt(model.parent)
    store = Store(model.parent)
    resolved = resolve(store, "v1.1")
    blobs = sorted(store.manifest(MODEL, resolved.entry).blobs())
    for digest in blobs[:2]:
        store.blobs.path(digest).chmod(0o600)
        store.blobs.path(digest).unlink()
    found = verify(store, resolved)
    assert found.held_by == model / "v1.1"
    adopt(model.parent)
    assert verify(store, resolved).sound


def test_changed_files_bring_nothing_back(model: Path) -> None:
    """Only what the manifest says comes in; the rest is reported, and the others are brought back."""
    adopt(model.parent)
    (model / "v1.0" / "model.safetensors").write_bytes(b"other")
    shutil.rmtree(model.parent / ".mstore")
    done = adopt(model.parent)
    assert [failed.ref for failed in done.failed] == ["llama_1b@v1.0"]
    assert [healed.ref for healed in done.healed] == ["llama_1b@v1.1"]


def test_a_clone_without_files_has_nothing_to_bring_back(model: Path) -> None:
    """Where the directories hold the small files only, that is said and nothing is changed."""
    adopt(model.parent)
    shutil.rmtree(model.parent / ".mstore")
    for path in [*model.rglob("*.safetensors"), *model.rglob("config.json")]:
        path.unlink()
    before = tree(model.parent)
    plan = plan_adopt(model.parent)
    assert not plan.pending
    assert "neither in the store nor" in plan.models[0].remarks[0]
    adopting.adopt(model.parent, plan)
    assert tree(model.parent) == before


def test_a_line_that_never_had_content_has_lost_none(root: Path) -> None:
    """Without `.mstore` nothing is said of versions that were only registered."""
    old_tool.registry(root / MODEL, {"versions": {"v1.0": {}}})
    adopt(root)
    shutil.rmtree(root / ".mstore")
    assert state(root).notice == ""
    assert plan_adopt(root).models[0].remarks == ()


def test_a_version_that_never_had_content_cannot_be_verified(model: Path) -> None:
    """It is not damaged; asked for by name, it is not found."""
    old_tool.registry(model, {"versions": {"v1.7": {}}})
    adopt(model.parent)
    with pytest.raises(NotFoundError, match="files are missing"):
        verify(Store(model.parent), resolve(Store(model.parent), "v1.7"))
