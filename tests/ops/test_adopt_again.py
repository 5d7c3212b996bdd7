from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modelstore import disk
from modelstore.errors import DiskFullError
from modelstore.ops import adopt as adopting
from modelstore.ops import working
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.ops.survey import plan_adopt
from modelstore.state import Change
from modelstore.store import Store
from tests import old_tool
from tests.old_tool import MODEL, adopt, entry, refs, state, times, tree


def test_files_that_come_back_are_adopted_later(model: Path) -> None:
    """A missing version whose files are put back becomes whole, with all that was said of it."""
    old_tool.registry(
        model, {"versions": {"v1.2": {"status": "done", "metrics": {"train_loss": 2.5}, "x": 1}}}
    )
    adopt(model.parent)
    old_tool.version(model, "v1.2", seed=7)
    assert refs(adopt(model.parent)) == ["llama_1b@v1.2"]
    values = entry(model.parent, "v1.2")
    assert (values["status"], values["x"], values["metrics"]["loss"]) == ("done", 1, 2.5)
    assert values["adopted"] == {"metrics": {"train_loss": 2.5}}
    assert resolve(Store(model.parent), "v1.2").entry.parents == (
        resolve(Store(model.parent), "v1.1").id,
    )


def test_adopting_twice_changes_nothing(model: Path) -> None:
    """A second run finds nothing to do and leaves every byte as it is."""
    old_tool.registry(model, {"active": "v1.1", "versions": {"v1.0": {}, "v1.7": {}}})
    adopt(model.parent)
    before, then = tree(model.parent), times(model.parent)
    plan = plan_adopt(model.parent)
    assert not plan.pending
    assert adopting.adopt(model.parent, plan).versions == ()
    assert (tree(model.parent), times(model.parent)) == (before, then)


def test_checkouts_come_out_as_they_went_in(model: Path, tmp_path: Path) -> None:
    """Every adopted version can be written elsewhere, released, and written back, byte for byte."""
    before = {name: tree(model / name) for name in ("v1.0", "v1.1")}
    adopt(model.parent)
    store = Store(model.parent)
    for name, files in before.items():
        resolved = resolve(store, name)
        checkout(store, resolved, output=tmp_path / name)
        assert tree(tmp_path / name) == files
        known = working.checkout_at(store, model / name)
        assert known is not None
        release(store, resolved)
        assert not files.items() & tree(model / name).items()
        checkout(store, resolved)
        assert files.items() <= tree(model / name).items()


def test_release_frees_what_was_promised(model: Path) -> None:
    """The bytes that adopt says can be freed are those that release frees."""
    (model / "v1.0" / "README.md").write_bytes(b"# mine\n")
    done = adopt(model.parent)
    store = Store(model.parent)
    assert done.releasable == sum(release(store, resolve(store, v)).size for v in ("v1.0", "v1.1"))


class _PowerCutError(BaseException):
    """Ends a run like a kill does: nothing catches it."""


@pytest.mark.parametrize("cut", [-262, -100, *range(6, 50, 4)])
def test_a_crash_in_the_middle_is_continued(
    model: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Wherever a run stops, running it again ends where an uninterrupted run ends."""
    value = {"active": "v1.1", "x": 1, "versions": {"v1.0": {"y": 2}, "v1.7": {"z": 3}}}
    data = old_tool.registry(model, value)
    before = tree(model)
    done = 0

    def counted(name: str) -> Any:
        real = getattr(disk, name)

        def call(*arguments: Any) -> Any:
            nonlocal done
            done += 1
            if done > cut + 262:  # what `create` needs for the 256 directories
                raise _PowerCutError
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("create", "replace", "link", "append", "make_new_dir", "sync_dir"):
            patch.setattr(disk, name, counted(name))
        with suppress(_PowerCutError):
            adopt(model.parent)
    adopt(model.parent)
    found = state(model.parent)
    assert {str(e.version): e.id is not None for e in found.entries()} == {
        "v1.0": True,
        "v1.1": True,
        "v1.7": False,
    }
    assert (found.active, found.document["x"], entry(model.parent, "v1.0")["y"]) == ("v1.1", 1, 2)
    manifests = [Store(model.parent).manifest(MODEL, e) for e in found.entries() if e.id]
    assert [[f.path for f in m.files] for m in manifests] == [
        ["config.json", "model.safetensors"]
    ] * 2
    for version in ("v1.0", "v1.1"):
        resolved = resolve(Store(model.parent), version)
        own = Store(model.parent).blobs.read(resolved.id) if resolved.id else b""
        assert (model / version / "manifest.json").read_bytes() == own
    kept = [path.read_bytes() for path in (model.parent / ".mstore" / "adopted").iterdir()]
    assert kept == [data]
    weights = {k: v for k, v in before.items() if k != "model_registry.json"}
    assert weights.items() <= tree(model).items()
    assert not plan_adopt(model.parent).pending


def test_a_version_that_the_old_tool_adds_later(model: Path) -> None:
    """A new directory is taken with what the edited registry says of it, and nothing else is."""
    adopt(model.parent)
    old_tool.version(model, "v1.2", seed=3)
    view = json.loads((model / "model_registry.json").read_text(encoding="utf-8"))
    view["active_version"] = "v1.2"
    view["versions"]["v1.2"] = {"is_active": True, "metrics": {"loss": 0.5}, "by": "old tool"}
    view["versions"]["v1.8"] = {"notes": "without files"}
    del view["versions"]["v1.0"]
    data = old_tool.registry(model, view)
    plan = plan_adopt(model.parent)
    remarks = " ".join(plan.models[0].remarks)
    assert "v1.8" in remarks
    assert "mstore set-active llama_1b@v1.2" in remarks
    assert refs(adopting.adopt(model.parent, plan)) == ["llama_1b@v1.2"]
    found = state(model.parent)
    assert found.notice == ""
    assert set(found.document["versions"]) == {"v1.0", "v1.1", "v1.2"}
    assert found.active == "v1.0"
    assert entry(model.parent, "v1.2")["metrics"]["loss"] == 0.5
    assert entry(model.parent, "v1.2")["by"] == "old tool"
    kept = [path.read_bytes() for path in (model.parent / ".mstore" / "adopted").iterdir()]
    assert data in kept


def test_what_the_next_commit_does_after_adopting(model: Path, tmp_path: Path) -> None:
    """Adopted versions are versions: the next commit follows them, and ACTIVE moves."""
    old_tool.registry(model, {"active": "v1.1", "versions": {"v1.0": {}, "v1.4": {}}})
    adopt(model.parent)
    store = Store(model.parent)
    made = commit(
        store, old_tool.version(tmp_path, "new", seed=4), MODEL, CommitOptions(message="next")
    )
    assert (made.version, made.parent) == ("v1.5", "llama_1b@v1.1")
    assert set_active(store, resolve(store, "v1.5")).before == "v1.1"


def test_an_unchanged_adopted_directory_has_nothing_to_commit(model: Path) -> None:
    """Committing an adopted directory again finds that nothing changed."""
    adopt(model.parent)
    made = commit(Store(model.parent), model / "v1.1", MODEL, CommitOptions(message="again"))
    assert not made.created


def test_one_bad_version_does_not_keep_the_others_out(model: Path, tmp_path: Path) -> None:
    """A version whose files cannot be taken is reported and listed; the rest is adopted."""
    (tmp_path / "elsewhere.bin").write_bytes(b"x" * 99)
    (model / "v1.0" / "extra.bin").symlink_to(tmp_path / "elsewhere.bin")
    done = adopt(model.parent)
    assert [failed.ref for failed in done.failed] == ["llama_1b@v1.0"]
    assert "symlink" in done.failed[0].message
    assert refs(done) == ["llama_1b@v1.1"]
    assert entry(model.parent, "v1.0")["status"] == "missing"
    plan = plan_adopt(model.parent, follow_symlinks=True)
    assert refs(adopting.adopt(model.parent, plan)) == ["llama_1b@v1.0"]


def test_a_full_disk_is_found_before_anything_is_done(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the worst case does not fit nothing is begun, unless forced."""
    before = tree(model.parent)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "free_space", lambda _: 1000)
        plan = plan_adopt(model.parent)
    with pytest.raises(DiskFullError, match="takes up to"):
        adopting.adopt(model.parent, plan)
    assert tree(model.parent) == before
    assert len(adopting.adopt(model.parent, plan, force=True).versions) == 2


def test_a_copy_of_a_version_directory_is_a_version(model: Path) -> None:
    """A manifest that mstore made for another version is not content, and gives way to the right one."""
    adopt(model.parent)
    shutil.copytree(model / "v1.1", model / "v1.2")
    (model / "v1.2" / "extra.json").write_text("{}", encoding="utf-8")
    adopt(model.parent)
    store = Store(model.parent)
    resolved = resolve(store, "v1.2")
    manifest = store.manifest(MODEL, resolved.entry)
    assert [file.path for file in manifest.files] == [
        "config.json",
        "extra.json",
        "model.safetensors",
    ]
    info = json.loads((model / "v1.2" / "model_info.json").read_text(encoding="utf-8"))
    assert (info["version"], info["id"]) == ("v1.2", resolved.id)
    assert not commit(store, model / "v1.2", MODEL, CommitOptions(message="x")).created


def test_a_removed_version_is_not_adopted_again(model: Path) -> None:
    """The directory of a version that was removed stays out."""
    adopt(model.parent)
    store = Store(model.parent)
    store.change(MODEL, lambda _: Change("rm", versions={"v1.1": None}, removed={"v1.1": {}}))
    plan = plan_adopt(model.parent)
    assert not plan.pending
    assert "removed" in next(i.why for i in plan.ignored if i.path.name == "v1.1")
