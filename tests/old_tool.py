"""Makes `tuned_models/` directories as they were before mstore, and compares directory trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelstore.names import ModelName
from modelstore.ops import adopt as adopting
from modelstore.ops.adopt import Adopted
from modelstore.ops.survey import plan_adopt
from modelstore.state import State
from modelstore.store import Store
from tests.builders import safetensors_bytes, values

MODEL = ModelName("llama_1b")


def weights(seed: int = 1) -> bytes:
    """Return a safetensors file of two tensors, one of which depends on ``seed``."""
    return safetensors_bytes(
        {"head": values("BF16", 16, 16, seed=seed), "body": values("BF16", 64, 64)}
    )


def version(model: Path, name: str, seed: int = 1, file: str = "model.safetensors") -> Path:
    """Make the directory of a version with weights and a config; return it."""
    directory = model / name
    directory.mkdir(parents=True)
    (directory / file).write_bytes(weights(seed))
    (directory / "config.json").write_text('{"hidden_size": 64}', encoding="utf-8")
    return directory


def registry(model: Path, value: object) -> bytes:
    """Write the registry of a model as the old tool did; return its bytes."""
    data = json.dumps(value, indent=2).encode()
    model.mkdir(parents=True, exist_ok=True)
    (model / "model_registry.json").write_bytes(data)
    return data


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below ``root`` with its bytes; directories end in a slash."""
    return {
        path.relative_to(root).as_posix() + ("/" if path.is_dir() else ""): (
            b"" if path.is_dir() else path.read_bytes()
        )
        for path in sorted(root.rglob("*"))
    }


def times(root: Path) -> dict[Path, int]:
    """Return when ``root`` and everything below it was last changed, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


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
