from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import ConflictError, NotFoundError
from modelstore.ops import adopt as adopting
from modelstore.ops import working
from modelstore.ops.checkout import checkout
from modelstore.ops.resolve import resolve
from modelstore.ops.survey import plan_adopt
from modelstore.store import Store
from tests import old_tool
from tests.builders import safetensors_bytes, torch_bytes, values
from tests.old_tool import MODEL, adopt, entry, refs, state, times, tree


def test_files_stay_and_only_what_lacks_is_added(model: Path) -> None:
    """Every file is where it was with the bytes it had; README and model_info only where missing."""
    (model / "v1.0" / "README.md").write_bytes(b"# mine\n")
    (model / "notes").mkdir()
    (model / "notes" / "a.txt").write_bytes(b"a")
    before = tree(model)
    adopt(model.parent)
    after = tree(model)
    assert before.items() <= after.items()
    small = {f"v1.{n}/{name}" for n in (0, 1) for name in ("manifest.json", "model_info.json")}
    added = {*small, "v1.1/README.md", "model_registry.json", "journal.jsonl"}
    assert set(after) - set(before) == added


def test_parents_follow_the_numbers(model: Path) -> None:
    """Each version descends from the highest lower one, by number and not by text."""
    for name in ("v1.10", "v1.9", "v2.0"):
        old_tool.version(model, name, seed=int(name.replace("v", "").replace(".", "")))
    adopt(model.parent)
    found = state(model.parent)
    names = [str(e.version) for e in found.entries()]
    assert names == ["v1.0", "v1.1", "v1.9", "v1.10", "v2.0"]
    ids = [e.id for e in found.entries()]
    assert [list(e.parents) for e in found.entries()] == [[], *([digest] for digest in ids[:-1])]


def test_a_named_parent_is_believed(model: Path) -> None:
    """A parent that the metadata names is the parent, even if its number is higher."""
    old_tool.version(model, "v1.2", seed=3)
    listed = {"v1.1": {"parent_version": "v1.2"}, "v1.2": {"parent": "llama_1b@1.0"}}
    old_tool.registry(model, {"versions": {"v1.0": {}, **listed}})
    done = adopt(model.parent)
    assert refs(done) == ["llama_1b@v1.0", "llama_1b@v1.2", "llama_1b@v1.1"]
    found = state(model.parent)
    ids = {str(e.version): e.id for e in found.entries()}
    parents = {str(e.version): list(e.parents) for e in found.entries()}
    assert parents == {"v1.0": [], "v1.2": [ids["v1.0"]], "v1.1": [ids["v1.2"]]}


def test_missing_versions_stay_listed(model: Path) -> None:
    """Versions without directory, without weights, or with an LFS pointer only, are marked missing."""
    (model / "v1.2").mkdir()
    (model / "v1.2" / "model_info.json").write_text("{}", encoding="utf-8")
    old_tool.version(model, "v1.3", file="pytorch_model.bin")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    (model / "v1.3" / "pytorch_model.bin").write_bytes(pointer)
    listed = {f"v1.{n}": {"metrics": {"loss": n}} for n in (0, 1, 2, 3, 4)}
    old_tool.registry(model, {"active": "v1.4", "versions": listed})
    before = tree(model)
    done = adopt(model.parent)
    assert done.missing == ("llama_1b@v1.2", "llama_1b@v1.3", "llama_1b@v1.4")
    for name in ("v1.2", "v1.3", "v1.4"):
        assert entry(model.parent, name)["status"] == "missing"
        assert "id" not in entry(model.parent, name)
    assert entry(model.parent, "v1.4")["metrics"] == {"loss": 4}
    assert state(model.parent).active == "v1.4"
    assert {
        k: v for k, v in tree(model).items() if "v1.2" in k or "v1.3" in k
    }.items() <= before.items()


def test_a_directory_that_is_not_registered_is_adopted(model: Path) -> None:
    """A version directory with weights counts although no registry lists it."""
    old_tool.registry(model, {"active": "v1.0", "versions": {"v1.0": {}}})
    assert refs(adopt(model.parent)) == ["llama_1b@v1.0", "llama_1b@v1.1"]


def test_directories_that_are_no_versions_are_left_alone(model: Path) -> None:
    """What is no version, or no model, is mentioned and not touched."""
    for name in ("checkpoints", "v1.5", "backup v1.0"):
        (model / name).mkdir()
    (model.parent / "scratch").mkdir()
    old_tool.version(model.parent / "my model!", "v1.0")
    before = tree(model.parent / "my model!")
    plan = plan_adopt(model.parent)
    left = {ignored.path.name for ignored in plan.ignored}
    assert left == {"checkpoints", "v1.5", "backup v1.0", "scratch", "my model!"}
    adopting.adopt(model.parent, plan)
    assert tree(model.parent / "my model!") == before


@pytest.mark.parametrize("name", ["1.2", "V1.2", "v1.2.0", "best"])
def test_directories_of_other_spellings_are_stored_and_stay(model: Path, name: str) -> None:
    """A directory that is a version by another name, or by its path, is stored where it stays."""
    old_tool.version(model, name, seed=9)
    version = "v1.2.0" if name == "v1.2.0" else "v1.2"
    old_tool.registry(
        model, {"versions": {"v1.2": {"path": f"tuned_models/llama_1b/{name}", "x": 1}}}
    )
    before = tree(model / name)
    done = adopt(model.parent)
    assert refs(done)[-1] == f"llama_1b@{version}"
    assert before.items() <= tree(model / name).items()
    assert entry(model.parent, version)["x"] == 1
    store = Store(model.parent)
    known = working.checkout_at(store, model / name)
    assert known is not None
    assert known.version == version
    again = tree(model.parent)
    assert not plan_adopt(model.parent).pending
    assert tree(model.parent) == again


def test_two_directories_of_one_version(model: Path) -> None:
    """Of two directories that mean the same version the one spelt as versions are is taken."""
    old_tool.version(model, "1.0", seed=5)
    plan = plan_adopt(model.parent)
    assert [v.directory for v in plan.models[0].versions if v.directory] == [
        model / "v1.0",
        model / "v1.1",
    ]
    assert model / "1.0" in [ignored.path for ignored in plan.ignored]


def test_planning_changes_nothing(model: Path) -> None:
    """A plan is made without a byte, a directory or a time being changed."""
    old_tool.registry(model, {"active": "v1.1", "versions": {"v1.0": {}, "v1.7": {}}})
    before, then = tree(model.parent), times(model.parent)
    plan = plan_adopt(model.parent)
    assert plan.pending
    assert plan.need == sum(v.size for m in plan.models for v in m.versions) > 0
    assert (tree(model.parent), times(model.parent)) == (before, then)


def test_weights_of_every_kind(root: Path, tmp_path: Path) -> None:
    """Torch files, safetensors and shards of the same tensors are stored, and once only."""
    tensors = {"a": values("F32", 8, 8), "b": values("F32", 8, 8, seed=3)}
    for name in ("v1.0", "v1.1", "v1.2"):
        (root / MODEL / name).mkdir(parents=True)
    (root / MODEL / "v1.0" / "pytorch_model.bin").write_bytes(torch_bytes(tensors))
    for number, (name, tensor) in enumerate(tensors.items(), 1):
        shard = root / MODEL / "v1.1" / f"model-0000{number}-of-00002.safetensors"
        shard.write_bytes(safetensors_bytes({name: tensor}))
    (root / MODEL / "v1.2" / "model.gguf").write_bytes(b"GGUF but torn")
    before = {name: tree(root / MODEL / name) for name in ("v1.0", "v1.1", "v1.2")}
    done = adopt(root)
    assert [made.tensors for made in done.versions] == [2, 2, 0]
    store = Store(root)
    blobs = [store.manifest(MODEL, e).blobs() for e in store.state(MODEL).entries()]
    assert len(blobs[0] & blobs[1]) == 2
    for name, files in before.items():
        checkout(store, resolve(store, name), output=tmp_path / name)
        assert tree(tmp_path / name) == files


def test_a_file_that_torch_wrote(root: Path, tmp_path: Path) -> None:
    """What torch.save writes is found to be tensors, and comes out byte for byte."""
    torch = pytest.importorskip("torch")
    (root / MODEL / "v1.0").mkdir(parents=True)
    path = root / MODEL / "v1.0" / "pytorch_model.bin"
    torch.save({"w": torch.arange(64, dtype=torch.float32).reshape(8, 8)}, path)
    data = path.read_bytes()
    done = adopt(root)
    assert done.versions[0].tensors == 1
    checkout(Store(root), resolve(Store(root), "v1.0"), output=tmp_path / "out")
    assert (tmp_path / "out" / "pytorch_model.bin").read_bytes() == data


def test_what_cannot_be_adopted_is_refused(root: Path, tmp_path: Path) -> None:
    """No directory, one without models, a single model, and the inside of a store are refused."""
    with pytest.raises(NotFoundError, match="no directory"):
        plan_adopt(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="holds no models"):
        plan_adopt(root)
    old_tool.version(root / MODEL, "v1.0")
    with pytest.raises(ConflictError, match="is one model"):
        plan_adopt(root / MODEL)
    adopt(root)
    with pytest.raises(ConflictError, match="lies within the store"):
        plan_adopt(root / MODEL)


def test_what_symlinks_lead_to_is_left_where_it_is(model: Path, tmp_path: Path) -> None:
    """A model or a version that is only a symlink is mentioned, and not taken."""
    old_tool.version(tmp_path / "disk2", "v1.0")
    old_tool.version(tmp_path / "disk3", "v1.2")
    (model.parent / "far").symlink_to(tmp_path / "disk2")
    (model / "v1.2").symlink_to(tmp_path / "disk3" / "v1.2")
    plan = plan_adopt(model.parent)
    assert model.parent / "far" in [ignored.path for ignored in plan.ignored]
    done = adopting.adopt(model.parent, plan)
    assert [failed.ref for failed in done.failed] == ["llama_1b@v1.2"]
    assert refs(done) == ["llama_1b@v1.0", "llama_1b@v1.1"]
    assert sorted(path.name for path in (tmp_path / "disk3" / "v1.2").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_a_directory_that_is_reached_by_a_symlink(model: Path, tmp_path: Path) -> None:
    """The whole directory may be a symlink: its versions are adopted in place."""
    (tmp_path / "link").symlink_to(model.parent)
    assert refs(adopt(tmp_path / "link")) == ["llama_1b@v1.0", "llama_1b@v1.1"]
    assert not plan_adopt(model.parent).pending
    assert (model / "v1.1" / "manifest.json").is_file()


def test_several_models_at_once(model: Path) -> None:
    """Every model of the directory is adopted, whatever its registry is like."""
    other = model.parent / "llama_8b"
    old_tool.version(other, "v1.0", seed=8)
    old_tool.registry(other, [{"version": "v1.0", "active": True}])
    done = adopt(model.parent)
    assert done.models == (MODEL, "llama_8b")
    assert done.active == ("llama_1b@v1.0", "llama_8b@v1.0")
