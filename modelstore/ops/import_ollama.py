"""Import of a model that Ollama has on this machine: its weights, and what it says to them.

What Ollama keeps as layers becomes files, under names that say what they are, and a Modelfile that
makes the same model of them again. Every layer is held against its SHA-256.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelstore.canonical import parse
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.ops import modelfile, ollama
from modelstore.ops.import_source import Source, suggest
from modelstore.reading import read_file

_WEIGHTS = {"model": "model.gguf", "projector": "mmproj.gguf", "adapter": "adapter.gguf"}
_TEXTS = {"template": "template.txt", "system": "system.txt", "license": "LICENSE"}
_WORDS = {"template": "TEMPLATE", "system": "SYSTEM", "LICENSE": "LICENSE"}
"""How a Modelfile says a text, by the beginning of the name that its file gets."""

_VALUES = {"params": "params.json", "messages": "messages.json"}
_MOST_TEXT = 4 << 20
"""Bytes of a layer that is no weights."""

_UNPACKED = "tensor"
"""The kind of the layers of a model that Ollama keeps otherwise than as GGUF."""


def source(name: str, places: Sequence[Path]) -> Source:
    """Return the model ``name`` of Ollama's.

    Args:
        name: as Ollama shows it, as in "llama3.2:1b".
        places: Ollama's stores.

    Raises:
        NotFoundError: none of them has it.
        IntegrityError: it is damaged.
        UsageError: it is of a kind without GGUF files.
    """
    model = ollama.listed(name, places)
    if model is None:
        known = [one for place in places for one in ollama.names(place)]
        has = f"it has {', '.join(known[:10])}" if known else "it has no models"
        where = " or ".join(f"'{place}'" for place in places)
        raise NotFoundError(
            f"Ollama has no model {name!r} in {where}: {has}", f"ollama pull {name}"
        )
    return source_at(model)


def source_at(model: ollama.Listed) -> Source:
    """Return the model that a manifest of Ollama's lists; raises as `source` does."""
    digest, layers = ollama.layers(model)
    scattered: dict[str, Path | bytes] = {}
    expected: dict[str, str] = {}
    warnings = []
    for layer in layers:
        path = _free(_path_of(layer), scattered)
        if not path:
            warnings.append(f"left out a layer of the kind {layer.kind[:80]!r}")
            continue
        blob = _blob(model, layer)
        scattered[path] = blob if layer.kind in _WEIGHTS else _small(model, layer, blob)
        expected[path] = layer.digest
    if _WEIGHTS["model"] not in scattered:
        raise _without_weights(model, layers)
    scattered[modelfile.NAME] = _modelfile(model, scattered).encode("utf-8")
    sizes = [
        len(one) if isinstance(one, bytes) else one.stat().st_size for one in scattered.values()
    ]
    return Source(
        origin=f"ollama:{model.name}",
        revision=digest,
        scattered=scattered,
        expected=expected,
        base_model=model.name,
        suggested=suggest(model.name.rsplit("/", 1)[-1].removesuffix(":latest").replace(":", "-")),
        size=sum(sizes),
        files=len(sizes),
        warnings=tuple(warnings),
    )


def _path_of(layer: ollama.Layer) -> str:
    return {**_WEIGHTS, **_TEXTS, **_VALUES}.get(layer.kind, "")


def _free(path: str, taken: object) -> str:
    """Return a path that no layer has yet: a model may have several licences."""
    if not path or not isinstance(taken, dict) or path not in taken:
        return path
    stem, dot, ending = path.partition(".")
    number = next(n for n in range(2, len(taken) + 3) if f"{stem}-{n}{dot}{ending}" not in taken)
    return f"{stem}-{number}{dot}{ending}"


def _blob(model: ollama.Listed, layer: ollama.Layer) -> Path:
    """Return where a layer lies, which is there and as large as the manifest says."""
    blob = model.blob(layer.digest)
    try:
        status = blob.stat()
    except OSError as error:
        raise NotFoundError(
            f"Ollama's store in '{model.place}' lacks a part of {model.name!r}: '{blob}'",
            f"ollama pull {model.name}",
        ) from error
    if not stat.S_ISREG(status.st_mode) or status.st_size != layer.size:
        raise IntegrityError(
            f"'{blob}' is not the file of {layer.size} bytes that {model.name!r} consists of",
            f"ollama pull {model.name}",
        )
    return blob


def _small(model: ollama.Listed, layer: ollama.Layer, blob: Path) -> bytes:
    if layer.size > _MOST_TEXT:
        raise IntegrityError(f"'{blob}' is too large for a {layer.kind}")
    data = read_file(blob)
    if hashlib.sha256(data).hexdigest() != layer.digest:
        raise IntegrityError(
            f"'{blob}' is damaged: its SHA-256 is not its name", f"ollama pull {model.name}"
        )
    return data


def _without_weights(model: ollama.Listed, layers: Sequence[ollama.Layer]) -> Exception:
    if any(layer.kind == _UNPACKED for layer in layers):
        return UsageError(
            f"Ollama keeps {model.name!r} as single tensors and not as a GGUF file, which only it "
            "can read",
            "import the model that it was made from, from the Hugging Face cache: "
            "mstore import hf:OWNER/NAME",
        )
    return NotFoundError(
        f"Ollama's store in '{model.place}' lists {model.name!r} and has no weights of it",
        f"ollama pull {model.name}",
    )


def _modelfile(model: ollama.Listed, files: dict[str, Path | bytes]) -> str:
    texts = [
        (word, data.decode("utf-8", "replace"))
        for path, data in files.items()
        for beginning, word in _WORDS.items()
        if isinstance(data, bytes) and path.startswith(beginning)
    ]
    parameters = _value(model, files, "params.json")
    messages = _value(model, files, "messages.json")
    rows = messages if isinstance(messages, list) else []
    weights = [name for name in ("model.gguf", "mmproj.gguf") if name in files]
    return modelfile.modelfile(
        weights,
        adapter="adapter.gguf" if "adapter.gguf" in files else "",
        texts=texts,
        parameters=parameters if isinstance(parameters, dict) else {},
        messages=[(str(r.get("role")), str(r.get("content"))) for r in rows if isinstance(r, dict)],
    )


def _value(model: ollama.Listed, files: dict[str, Path | bytes], path: str) -> Any:
    data = files.get(path)
    if not isinstance(data, bytes):
        return None
    return parse(data, f"'{path}' of {model.name!r}")
