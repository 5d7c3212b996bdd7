from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from modelstore import disk
from modelstore.errors import ConflictError, DiskFullError, NotFoundError
from modelstore.names import ModelName
from modelstore.ops import adopt as adopting
from modelstore.ops import working
from modelstore.ops.adopt import Adopted
from modelstore.ops.checkout import checkout, release
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import resolve
from modelstore.ops.survey import plan_adopt
from modelstore.state import Change, State
from modelstore.store import Store
from tests import old_tool
from tests.builders import safetensors_bytes, torch_bytes, values
from tests.old_tool import tree

MODEL = ModelName("llama_1b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of models, still empty."""
    root = tmp_path / "tuned_models"
    root.mkdir()
    return root


@pytest.fixture
def model(root: Path) -> Path:
    """A model with v1.0 and v1.1, and no registry yet."""
    old_tool.version(root / MODEL, "v1.0", seed=1)
    old_tool.version(root / MODEL, "v1.1", seed=2)
    return root / MODEL


def adopt(root: Path) -> Adopted:
    """Adopt ``root``."""
    return adopting.adopt(root, plan_adopt(root))


def state(root: Path) -> State:
    """Return the state of the model."""
    return Store(root).state(MODEL)


def entry(root: Path, version: str) -> dict[str, Any]:
    """Return what the registry holds of a version."""
    values: dict[str, Any] = state(root).document["versions"][version]
    return values


def refs(done: Adopted) -> list[str]:
    """Return the versions that were stored."""
    return [f"{made.model}@{made.version}" for made in done.versions]


SHAPES: dict[str, Any] = {
    "active_version": {"active_version": "v1.1", "versions": {"v1.0": {}, "v1.1": {}}},
    "active": {"active": "v1.1", "versions": {"v1.0": {}, "v1.1": {}}},
    "current": {"current": "1.1", "versions": {"1.0": {}, "1.1": {}}},
    "flags": {"versions": {"v1.0": {"is_active": False}, "v1.1": {"is_active": True}}},
    "short flags": {"versions": {"v1.0": {}, "v1.1": {"active": True}}},
    "status": {"versions": {"v1.0": {"status": "inactive"}, "v1.1": {"status": "Active"}}},
    "list": {"active": "v1.1", "versions": [{"version": "v1.0"}, {"version": "v1.1"}]},
    "list of names": {"active": "v1.1", "versions": ["v1.0", "v1.1"]},
    "bare list": [{"name": "v1.0"}, {"name": "v1.1", "is_active": True}],
    "numbers": {"active": 1.1, "versions": [{"version": 1.0}, {"version": 1.1}]},
    "at the top": {"v1.0": {}, "v1.1": {"is_active": True}},
    "active object": {"current": {"version": "v1.1"}, "models": {"v1.0": {}, "v1.1": {}}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_registries_of_many_shapes_are_understood(model: Path, shape: str) -> None:
    """Whatever a registry calls its parts, its versions and its active one are taken over."""
    old_tool.registry(model, SHAPES[shape])
    done = adopt(model.parent)
    assert refs(done) == ["llama_1b@v1.0", "llama_1b@v1.1"]
    assert state(model.parent).active == "v1.1"
    assert [move["version"] for move in state(model.parent).history] == ["v1.1"]
    assert set(state(model.parent).document["versions"]) == {"v1.0", "v1.1"}


def test_the_seed_is_kept_in_every_detail(model: Path) -> None:
    """What the seed's registry says of a version is said by ours, with the same keys."""
    said = {
        "is_active": True,
        "created_at": "2025-03-01T08:00:00Z",
        "training_parameters": {"epochs": 3, "batch_size": 8, "learning_rate": 2e-5},
        "metrics": {"training_time": 812.5, "loss": 1.42, "model_size": 2471645608},
        "notes": "first try",
        "description": "Laptop model",
        "path": "llama_1b/v1.0",
    }
    old_tool.registry(
        model, {"model_type": MODEL, "active_version": "v1.0", "versions": {"v1.0": said}}
    )
    adopt(model.parent)
    view = json.loads((model / "model_registry.json").read_text(encoding="utf-8"))
    assert view["model_type"] == MODEL
    assert view["active_version"] == "v1.0"
    assert said.items() <= view["versions"]["v1.0"].items()
    assert "adopted" not in view["versions"]["v1.0"]


def test_unknown_keys_are_kept(model: Path) -> None:
    """Keys that mean nothing to mstore stay where they were, at the top and of each version."""
    value = {
        "owner": "me",
        "gpu": {"name": "x", "hours": 1.5},
        "empty": None,
        "versions": {"v1.0": {"dataset": ["a", {"b": 1}], "reviewed": False}, "v1.9": {"x": 1}},
    }
    old_tool.registry(model, value)
    adopt(model.parent)
    document = state(model.parent).document
    assert (document["owner"], document["gpu"]) == ("me", {"name": "x", "hours": 1.5})
    assert document["adopted"] == {"empty": None}
    assert entry(model.parent, "v1.0")["dataset"] == ["a", {"b": 1}]
    assert entry(model.parent, "v1.0")["reviewed"] is False
    assert entry(model.parent, "v1.9")["x"] == 1


def test_keys_that_collide_with_ours_are_kept_aside(model: Path) -> None:
    """A foreign key whose name means something to mstore moves under ``adopted``."""
    theirs = {"id": "run-7", "seq": 3, "parents": ["x"], "sizes": "big", "path": "/old/v1.0"}
    value = {
        "schema": "theirs/3",
        "seq": 99,
        "head": "abc",
        "checksum": "def",
        "model_type": "laptop",
        "aliases": ["no", "mapping"],
        "versions": {"v1.0": {**theirs, "status": "active"}, "final": {"loss": 1}},
    }
    old_tool.registry(model, value)
    adopt(model.parent)
    document = state(model.parent).document
    kept = {key: value[key] for key in value if key != "versions"}
    assert document["adopted"] == {**kept, "versions": {"final": {"loss": 1}}}
    assert document["seq"] == 3
    assert entry(model.parent, "v1.0")["adopted"] == {**theirs, "status": "active"}
    assert "status" not in entry(model.parent, "v1.0")


def test_the_old_registry_is_kept_byte_for_byte(model: Path) -> None:
    """The file that was there lies in `.mstore/adopted/` as it was."""
    data = old_tool.registry(model, {"active": "v1.0", "versions": {"v1.0": {}}})
    adopt(model.parent)
    kept = list((model.parent / ".mstore" / "adopted").iterdir())
    assert [path.read_bytes() for path in kept] == [data]


def test_other_spellings_of_what_training_left(model: Path) -> None:
    """Parameters, metrics and notes are found under the names that other tools use."""
    old_tool.registry(
        model,
        {
            "versions": {
                "v1.0": {
                    "hyperparameters": {"epochs": 2, "lora": {"r": 8}, "bf16": True},
                    "final_loss": 1.5,
                    "train_runtime": 12.5,
                    "comments": ["one", "two"],
                    "timestamp": "2024-01-15T10:30:00.123456",
                },
                "v1.1": {"training_metrics": {"train_loss": 1.25, "eval_loss": 1.3}, "epochs": 4},
            }
        },
    )
    adopt(model.parent)
    first, second = entry(model.parent, "v1.0"), entry(model.parent, "v1.1")
    assert first["training_parameters"] == {"epochs": 2, "lora": '{"r": 8}', "bf16": "true"}
    assert (first["metrics"]["loss"], first["metrics"]["training_time"]) == (1.5, 12.5)
    assert first["notes"] == "one\ntwo"
    assert first["created_at"] == "2024-01-15T10:30:00Z"
    assert first["hyperparameters"]["lora"] == {"r": 8}
    assert (second["metrics"]["loss"], second["metrics"]["eval_loss"]) == (1.25, 1.3)
    assert second["training_parameters"] == {"epochs": 4}


def test_the_registry_goes_before_model_info(model: Path) -> None:
    """What model_info.json says fills in what the registry leaves out."""
    info = {
        "model_name": MODEL,
        "base_model": "llama3.2:1b",
        "created_at": "2025-01-01T00:00:00Z",
        "description": "from the file",
        "training_parameters": {"epochs": 1, "device": "cpu"},
        "metrics": {"loss": 9.0, "training_time": 5},
    }
    data = json.dumps(info).encode()
    (model / "v1.0" / "model_info.json").write_bytes(data)
    old_tool.registry(model, {"versions": {"v1.0": {"metrics": {"loss": 1.5}}}})
    adopt(model.parent)
    values = entry(model.parent, "v1.0")
    assert values["metrics"] == {"loss": 1.5, "training_time": 5, "model_size": 8864}
    assert values["training_parameters"] == {"epochs": 1, "device": "cpu"}
    assert values["base_model"] == "llama3.2:1b"
    assert values["created_at"] == "2025-01-01T00:00:00Z"
    assert values["description"] == "from the file"
    assert (model / "v1.0" / "model_info.json").read_bytes() == data


def test_a_version_without_a_time_gets_that_of_its_weights(model: Path) -> None:
    """Where nobody said when, the newest weights file did."""
    os.utime(model / "v1.0" / "model.safetensors", (1_700_000_000, 1_700_000_000))
    adopt(model.parent)
    assert entry(model.parent, "v1.0")["created_at"] == "2023-11-14T22:13:20Z"


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


def test_a_corrupt_registry_is_kept_and_versions_are_found(model: Path) -> None:
    """JSON that breaks off costs the metadata only: it is said, kept, and the directories count."""
    (model / "model_registry.json").write_bytes(b'{"versions": {"v1.0": {"loss"')
    plan = plan_adopt(model.parent)
    assert plan.models[0].registry == "corrupt"
    assert "cannot be read" in plan.models[0].remarks[0]
    assert refs(adopting.adopt(model.parent, plan)) == ["llama_1b@v1.0", "llama_1b@v1.1"]
    kept = list((model.parent / ".mstore" / "adopted").iterdir())
    assert [path.read_bytes() for path in kept] == [b'{"versions": {"v1.0": {"loss"']


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe nothing",
        b"[" * 100_000,
        b"3",
        b'"v1.0"',
        b"",
    ],
)
def test_hostile_registries_are_corrupt_ones(model: Path, data: bytes) -> None:
    """Whatever cannot be a registry is treated as one that is lost."""
    (model / "model_registry.json").write_bytes(data)
    assert plan_adopt(model.parent).models[0].registry == "corrupt"
    assert len(adopt(model.parent).versions) == 2


def test_numbers_that_json_does_not_have(model: Path) -> None:
    """NaN, infinities, endless integers and half surrogates are kept as text, not refused."""
    (model / "model_registry.json").write_bytes(
        b'\xef\xbb\xbf{"a": NaN, "b": 1e999, "c": ' + b"9" * 50 + b', "d": "\\ud800", '
        b'"versions": {"v1.0": {"metrics": {"loss": NaN, "acc": -Infinity}}}}'
    )
    adopt(model.parent)
    document = state(model.parent).document
    assert [document[key] for key in "abcd"] == ["NaN", "1e999", "9" * 50, "?"]
    assert entry(model.parent, "v1.0")["metrics"]["loss"] == "NaN"


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


@pytest.mark.parametrize(
    ("value", "active"),
    [
        ({"versions": {"v1.0": {}, "v1.1": {}}}, "v1.0"),
        ({"active_version": None, "versions": {"v1.0": {}}}, "v1.0"),
        ({"active_version": "v7.7", "versions": {"v1.0": {}}}, "v1.0"),
        ({"active_version": "best", "versions": {"v1.1": {}}}, "v1.0"),
        ({"active": "v1.1", "versions": {"v1.0": {"is_active": True}}}, "v1.1"),
        ({"versions": {"v1.0": {"is_active": True}, "v1.1": {"is_active": True}}}, "v1.1"),
    ],
)
def test_active_where_it_is_not_clear(model: Path, value: object, active: str) -> None:
    """Without a recorded one the first stored version is ACTIVE; the top goes before the marks."""
    old_tool.registry(model, value)
    assert adopt(model.parent).active == (f"llama_1b@{active}",)


def test_an_active_version_that_is_unknown_is_said(model: Path) -> None:
    """A registry that calls a version active of which nothing exists is told so."""
    old_tool.registry(model, {"active_version": "v7.7", "versions": {"v1.0": {}}})
    plan = plan_adopt(model.parent)
    assert "v7.7" in plan.models[0].remarks[0]
    adopting.adopt(model.parent, plan)
    assert state(model.parent).document["adopted"] == {"active_version": "v7.7"}


def test_an_empty_registry_becomes_ours(root: Path) -> None:
    """A line without versions is adopted too, with what it says of itself."""
    old_tool.registry(root / MODEL, {"base_model": "llama3.2:1b", "versions": {}, "x": 1})
    assert adopt(root).models == (MODEL,)
    assert state(root).base_model == "llama3.2:1b"
    assert state(root).document["x"] == 1


def test_planning_changes_nothing(model: Path) -> None:
    """A plan is made without a byte, a directory or a time being changed."""
    old_tool.registry(model, {"active": "v1.1", "versions": {"v1.0": {}, "v1.7": {}}})
    before, times = tree(model.parent), _times(model.parent)
    plan = plan_adopt(model.parent)
    assert plan.pending
    assert plan.need == sum(v.size for m in plan.models for v in m.versions) > 0
    assert (tree(model.parent), _times(model.parent)) == (before, times)


def _times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


def test_adopting_twice_changes_nothing(model: Path) -> None:
    """A second run finds nothing to do and leaves every byte as it is."""
    old_tool.registry(model, {"active": "v1.1", "versions": {"v1.0": {}, "v1.7": {}}})
    adopt(model.parent)
    before, times = tree(model.parent), _times(model.parent)
    plan = plan_adopt(model.parent)
    assert not plan.pending
    assert adopting.adopt(model.parent, plan).versions == ()
    assert (tree(model.parent), _times(model.parent)) == (before, times)


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
    monkeypatch.setattr(disk, "free_space", lambda _: 1000)
    before = tree(model.parent)
    plan = plan_adopt(model.parent)
    with pytest.raises(DiskFullError, match="takes up to"):
        adopting.adopt(model.parent, plan)
    assert tree(model.parent) == before
    assert len(adopting.adopt(model.parent, plan, force=True).versions) == 2


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
    store.change(
        MODEL, lambda _: Change("rm", versions={"v1.1": None}, values={"removed": ["v1.1"]})
    )
    plan = plan_adopt(model.parent)
    assert not plan.pending
    assert "removed" in next(i.why for i in plan.ignored if i.path.name == "v1.1")


def test_several_models_at_once(model: Path) -> None:
    """Every model of the directory is adopted, whatever its registry is like."""
    other = model.parent / "llama_8b"
    old_tool.version(other, "v1.0", seed=8)
    old_tool.registry(other, [{"version": "v1.0", "active": True}])
    done = adopt(model.parent)
    assert done.models == (MODEL, "llama_8b")
    assert done.active == ("llama_1b@v1.0", "llama_8b@v1.0")
