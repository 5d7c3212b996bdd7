"""Directories of small models, as trainers leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.builders import Values, safetensors_bytes

SHAPES = {
    "model.embed_tokens.weight": (96, 16),
    "model.layers.0.mlp.weight": (32, 16),
    "model.layers.0.norm.weight": (16,),
}


def weights(seed: int, *, step: float = 0.0, dtype: str = "F32") -> dict[str, Values]:
    """Return the tensors of a small model.

    Args:
        seed: equal seeds give equal models.
        step: how far training moved every value.
        dtype: F32 or BF16.
    """
    random = np.random.default_rng(seed)
    move = np.random.default_rng(seed + 1)
    tensors = {}
    for name, shape in SHAPES.items():
        values = random.normal(0, 0.02, shape).astype(np.float32)
        values += np.float32(step) * move.normal(0, 1, shape).astype(np.float32)
        data = values.tobytes()
        if dtype == "BF16":
            data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        tensors[name] = Values(dtype, shape, data)
    return tensors


def write_model(
    directory: Path,
    *,
    seed: int = 1,
    step: float = 0.0,
    files: Mapping[str, bytes | str] | None = None,
) -> Path:
    """Write a model directory; ``files`` are added or replace what it would have."""
    directory.mkdir(parents=True, exist_ok=True)
    content: dict[str, bytes | str] = {
        "model.safetensors": safetensors_bytes(weights(seed, step=step)),
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}),
        "tokenizer.json": json.dumps({"model": {"vocab": {"a": 0}}}),
        **(files or {}),
    }
    for name, data in content.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return directory


def files_of(directory: Path) -> dict[str, bytes]:
    """Return all files of a directory by path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
