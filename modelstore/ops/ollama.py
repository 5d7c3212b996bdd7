"""Models that Ollama has on this machine: names as ``llama3.2:1b``, weights as GGUF files.

Ollama's store holds ``manifests/<host>/<namespace>/<model>/<tag>``, a JSON list of layers as in an
OCI image, and ``blobs/sha256-<digest>``. The layer of the weights is a GGUF file.
Source of the layout: github.com/ollama/ollama, server/manifest.go and types/model/name.go.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore.canonical import parse_mapping
from modelstore.disk import explained
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.reading import read_file

_IMAGE = "application/vnd.ollama.image."
_MODEL = "model"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})\Z")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_MOST_MANIFEST = 4 << 20
_MOST_LAYERS = 1000
_MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a model of Ollama's.

    Attributes:
        kind: "model", "template", "license", ...; the end of its media type, or all of it where
            that is not of Ollama's.
        digest: its SHA-256, 64 hex digits.
        size: in bytes.
    """

    kind: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that a store of Ollama's lists.

    Attributes:
        name: as Ollama shows it.
        place: the directory that holds ``manifests/`` and ``blobs/``.
        manifest: the file that lists its layers.
    """

    name: str
    place: Path
    manifest: Path

    def blob(self, digest: str) -> Path:
        """Return where the layer with a SHA-256 lies."""
        return self.place / "blobs" / f"sha256-{digest}"


def usual_places(environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return where Ollama keeps models: as a user runs it, and as its Linux service does."""
    said = environment.get("OLLAMA_MODELS", "")
    usual = (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))
    return (Path(said),) if said else usual


def is_name(text: str) -> bool:
    """Tell whether ``text`` is what only Ollama names a model by: no Hub id has a colon."""
    name, colon, tag = text.rpartition(":")
    return bool(colon) and bool(_PART.match(tag)) and all(map(_PART.match, name.split("/")))


def listed(name: str, places: Sequence[Path]) -> Listed | None:
    """Return the model ``name`` in the first of Ollama's stores that lists it.

    Args:
        name: ``model[:tag]``, with a namespace or a host and a namespace before it if need be.
        places: directories that hold ``manifests/`` and ``blobs/``.
    """
    for place in places:
        manifest = place.joinpath("manifests", *_parts(name))
        if manifest.is_file():
            return Listed(name, place, manifest)
    return None


def listed_at(manifest: Path) -> Listed | None:
    """Return the model whose manifest lies at a path; None where that is in no store of Ollama's."""
    *above, host, namespace, model, tag = manifest.absolute().parts
    if len(above) < 2 or above[-1] != "manifests" or not manifest.is_file():
        return None
    return Listed(_name([host, namespace, model, tag]), Path(*above[:-1]), manifest)


def names(place: Path) -> list[str]:
    """Return the names of the models that a store of Ollama's lists, sorted; not all of thousands."""
    found = (path for path in place.glob("manifests/*/*/*/*") if path.is_file())
    some = [path.parts[-4:] for path, _ in zip(found, range(_MOST_LISTED), strict=False)]
    return sorted(_name(parts) for parts in some)


def find(name: str, places: Sequence[Path]) -> Path | None:
    """Return the GGUF file of the model ``name`` in the first of Ollama's stores that has it.

    Args:
        name, places: as for `listed`.

    Raises:
        IntegrityError: the model's manifest is not what Ollama writes.
        NotFoundError: the manifest is there and the weights are not.
    """
    model = listed(name, places)
    return None if model is None else _weights(model)


def layers(model: Listed) -> tuple[str, list[Layer]]:
    """Return the SHA-256 of a model's manifest, and its layers in their order.

    Raises:
        IntegrityError: it is not what Ollama writes.
    """
    data, rows = _read(model.manifest)
    if not isinstance(rows, list) or len(rows) > _MOST_LAYERS:
        raise _malformed(model, "it lists no layers, or too many")
    return hashlib.sha256(data).hexdigest(), [_layer(model, row) for row in rows]


def _layer(model: Listed, row: object) -> Layer:
    if not isinstance(row, dict):
        raise _malformed(model, "a layer is no object")
    kind, digest, size = (row.get(key) for key in ("mediaType", "digest", "size"))
    found = _DIGEST.match(digest) if isinstance(digest, str) else None
    if found is None:
        raise _malformed(model, f"{str(digest)[:80]!r} is no SHA-256")
    if not isinstance(kind, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _malformed(model, "a layer has no media type, or no size")
    return Layer(kind.removeprefix(_IMAGE), found[1], size)


def _malformed(model: Listed, reason: str) -> IntegrityError:
    return IntegrityError(
        f"'{model.manifest}' is no manifest of Ollama's: {reason}", f"ollama pull {model.name}"
    )


def _name(parts: Sequence[str]) -> str:
    """Return how Ollama shows the model whose manifest lies at ``host/namespace/model/tag``."""
    host, namespace, model, tag = parts
    above = [namespace] if (host, namespace) != (_HOST, _NAMESPACE) else []
    return "/".join([*([host] if host != _HOST else []), *above, f"{model}:{tag}"])


def _parts(name: str) -> tuple[str, ...]:
    """Return the directories and the file of a name's manifest."""
    path, _, tag = name.partition(":") if "/" not in name else _split_last(name)
    words = path.split("/")
    whole = (*[_HOST, _NAMESPACE][: max(0, 3 - len(words))], *words, tag or _TAG)
    fits = len(whole) == 4 and all(map(_PART.match, whole))
    return whole if fits else ("no", "such", "name")


def _split_last(name: str) -> tuple[str, str, str]:
    before, slash, last = name.rpartition("/")
    model, colon, tag = last.partition(":")
    return f"{before}{slash}{model}", colon, tag


def _weights(model: Listed) -> Path:
    for digest in _digests_of_weights(model.manifest):
        found = _DIGEST.match(digest)
        if found is not None and model.blob(found[1]).is_file():
            return model.blob(found[1])
    raise NotFoundError(
        f"Ollama's store in '{model.place}' lists {model.name!r} and has no weights of it",
        f"ollama pull {model.name}",
    )


def _digests_of_weights(manifest: Path) -> Iterator[str]:
    _, rows = _read(manifest)
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("mediaType") == _IMAGE + _MODEL:
            yield str(row.get("digest"))


def _read(manifest: Path) -> tuple[bytes, Any]:
    """Return the bytes of a manifest, and what it says of layers."""
    with explained(manifest, "read"):
        data = read_file(manifest, _MOST_MANIFEST + 1)
    if len(data) > _MOST_MANIFEST:
        raise IntegrityError(f"'{manifest}' is too large for a manifest of Ollama's")
    return data, parse_mapping(data, f"'{manifest}'").get("layers")
