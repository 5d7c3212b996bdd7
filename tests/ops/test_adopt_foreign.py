from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from modelstore.ops import adopt as adopting
from modelstore.ops.survey import plan_adopt
from tests import old_tool
from tests.old_tool import MODEL, adopt, entry, refs, state

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
