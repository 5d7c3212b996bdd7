"""Small models with a LoRA merged into them, beside the adapter, as PEFT leaves both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.builders import Values, safetensors_bytes
from tests.models import write_model

ROWS, COLUMNS, RANK, ALPHA = 256, 192, 8, 12
LAYERS = tuple(f"model.layers.{number}.mlp.up_proj" for number in range(3))


def rounded(values: np.ndarray) -> np.ndarray:
    """Return the bf16 bits nearest to float32 values, as PyTorch rounds them."""
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def widened(bits: np.ndarray) -> np.ndarray:
    """Return bf16 bits as float32 values."""
    return (bits.astype("<u4") << 16).view("<f4")


@dataclass(frozen=True)
class Layer:
    """One weight: the base, A and B, and what merging makes of them."""

    base: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @staticmethod
    def made(seed: int, *, strength: float = 0.02) -> Layer:
        """Return a layer; ``strength`` is that of B."""
        random = np.random.default_rng(seed)
        base = rounded(random.standard_normal((ROWS, COLUMNS)) * 0.02)
        a = (random.standard_normal((RANK, COLUMNS)) * 0.05).astype("<f4")
        b = (random.standard_normal((ROWS, RANK)) * strength).astype("<f4")
        return Layer(base, a, b)

    @property
    def merged(self) -> np.ndarray:
        """Return the bf16 bits of base + alpha / rank * B @ A, each step in float32."""
        update = (self.b @ self.a) * np.float32(ALPHA / RANK)
        return rounded(widened(self.base) + update)


def layers(strength: float = 0.02) -> dict[str, Layer]:
    """Return the layers of a model."""
    return {name: Layer.made(seed, strength=strength) for seed, name in enumerate(LAYERS)}


def write_merge(root: Path, strength: float = 0.02) -> Path:
    """Write ``base``, ``merged`` and ``adapter`` below ``root``; return ``root``."""
    made = layers(strength)
    write_weights(root / "base", {name: layer.base for name, layer in made.items()})
    write_weights(root / "merged", {name: layer.merged for name, layer in made.items()})
    write_adapter(root / "adapter", made)
    return root


def write_weights(directory: Path, matrices: dict[str, np.ndarray]) -> Path:
    """Write a model of bf16 matrices."""
    tensors = {
        f"{name}.weight": Values("BF16", bits.shape, bits.tobytes())
        for name, bits in matrices.items()
    }
    return write_model(directory, files={"model.safetensors": safetensors_bytes(tensors)})


def write_adapter(directory: Path, made: dict[str, Layer], **settings: object) -> Path:
    """Write the adapter of layers, as `peft.PeftModel.save_pretrained` does."""
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_dora": False, **settings}
    tensors = {}
    for name, layer in made.items():
        for factor, values in (("A", layer.a), ("B", layer.b)):
            full = f"base_model.model.{name}.lora_{factor}.weight"
            tensors[full] = Values("F32", values.shape, values.tobytes())
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    (directory / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    return directory
