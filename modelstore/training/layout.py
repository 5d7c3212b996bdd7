"""Which tensor goes into which file: as in the base, so that versions differ by values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelstore.formats.split import split
from modelstore.ops.scan import CommittedFile
from modelstore.training.base import Base

SAFETENSORS = ".safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """A weight file of the base, and the one that takes its place in what is trained from it.

    Attributes:
        source: the base's file.
        name: of the new one, which is safetensors whatever the base's is.
        tensors: groups of names; those of one group are tied, and safetensors keeps one of them.
    """

    source: Path
    name: str
    tensors: tuple[tuple[str, ...], ...]

    @property
    def is_safetensors(self) -> bool:
        """Whether the base's file is."""
        return self.source.suffix == SAFETENSORS


def layout_of(base: Base) -> tuple[Shard, ...]:
    """Return the weight files of ``base``, in order."""
    return tuple(Shard(path, _new_name(path.name), _tensors(path)) for path in base.weights)


def index_of(weights: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, object]:
    """Return the index of several weight files, as transformers writes it.

    Args:
        weights: by tensor the file that it is in.
        sizes: bytes by tensor.
    """
    return {
        "metadata": {"total_size": sum(sizes.values())},
        "weight_map": dict(sorted(weights.items())),
    }


def _new_name(name: str) -> str:
    if not name.endswith(".bin"):
        return name
    return name.removesuffix(".bin").replace("pytorch_model", "model") + SAFETENSORS


def _tensors(path: Path) -> tuple[tuple[str, ...], ...]:
    with CommittedFile(path, path.name) as source:
        spans = split(source).spans
    return tuple(tuple(t.name for t in span.tensors) for span in spans if span.tensors)
