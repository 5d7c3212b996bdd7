"""Models that Ollama has on this machine: names as ``llama3.2:1b``, weights as GGUF files.

Ollama's store holds ``manifests/<host>/<namespace>/<model>/<tag>``, a JSON list of layers as in an
OCI image, and ``blobs/sha256-<digest>``. The layer of the weights is a GGUF file.
Source of the layout: github.com/ollama/ollama, server/manifest.go and types/model/name.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelstore.canonical import parse_mapping
from modelstore.disk import explained
from modelstore.errors import NotFoundError

HUB_IDS = {
    "llama3.2": "meta-llama/Llama-3.2-3B-Instruct",
    "llama3.2:1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama3.2:3b": "meta-llama/Llama-3.2-3B-Instruct",
    "llama3.1:8b": "meta-llama/Llama-3.1-8B-Instruct",
    "qwen3": "Qwen/Qwen3-8B",
    "qwen3:0.6b": "Qwen/Qwen3-0.6B",
    "qwen3:1.7b": "Qwen/Qwen3-1.7B",
    "qwen3:4b": "Qwen/Qwen3-4B",
    "qwen3:8b": "Qwen/Qwen3-8B",
    "qwen3:14b": "Qwen/Qwen3-14B",
    "smollm2:135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2:360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
}
"""Where the Hugging Face Hub has what Ollama calls so, unquantised."""

_WEIGHTS = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})\Z")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")


def is_name(text: str) -> bool:
    """Tell whether ``text`` is what only Ollama names a model by: no Hub id has a colon."""
    name, colon, tag = text.rpartition(":")
    return bool(colon) and bool(_PART.match(tag)) and all(map(_PART.match, name.split("/")))


def find(name: str, places: Sequence[Path]) -> Path | None:
    """Return the GGUF file of the model ``name`` in the first of Ollama's stores that has it.

    Args:
        name: ``model[:tag]``, with a namespace or a host and a namespace before it if need be.
        places: directories that hold ``manifests/`` and ``blobs/``.

    Raises:
        IntegrityError: the model's manifest is not what Ollama writes.
        NotFoundError: the manifest is there and the weights are not.
    """
    for place in places:
        manifest = place.joinpath("manifests", *_parts(name))
        if manifest.is_file():
            return _weights(name, place, manifest)
    return None


def _parts(name: str) -> tuple[str, ...]:
    """Return the directories and the file of a name's manifest."""
    path, _, tag = name.partition(":") if "/" not in name else _split_last(name)
    words = path.split("/")
    defaults = ["registry.ollama.ai", "library"]
    whole = (*defaults[: max(0, 3 - len(words))], *words, tag or "latest")
    return whole if all(map(_PART.match, whole)) else ("no", "such", "name")


def _split_last(name: str) -> tuple[str, str, str]:
    before, slash, last = name.rpartition("/")
    model, colon, tag = last.partition(":")
    return f"{before}{slash}{model}", colon, tag


def _weights(name: str, place: Path, manifest: Path) -> Path:
    for digest in _layers(manifest):
        found = _DIGEST.match(digest)
        blob = place / "blobs" / f"sha256-{found[1]}" if found else None
        if blob is not None and blob.is_file():
            return blob
    raise NotFoundError(
        f"Ollama's store in '{place}' lists {name!r} and has no weights of it",
        f"ollama pull {name}",
    )


def _layers(manifest: Path) -> Iterator[str]:
    with explained(manifest, "read"):
        layers = parse_mapping(manifest.read_bytes(), f"'{manifest}'").get("layers")
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and layer.get("mediaType") == _WEIGHTS:
            yield str(layer.get("digest"))
