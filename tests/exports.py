"""What tests of exports and imports share: a small history, and another tool's directory of models."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.export import Exported, export, plan_export
from modelstore.ops.export_plan import ExportOptions
from modelstore.ops.import_model import Imported, Places, plan_import, run_import
from modelstore.ops.resolve import Resolved, resolve
from modelstore.store import Store
from tests.models import write_model

MODEL = ModelName("llama_1b")
MEDIA = "application/vnd.ollama.image."


def two_versions(store: Store, place: Path) -> dict[str, Path]:
    """Commit v1.0 and v1.1, of which v1.0 is ACTIVE; return what they were made of."""
    files: dict[str, bytes | str] = {
        "README.md": "---\nbase_model: some/base\n---\n# A model\n",
        "extra/deep/größe.txt": "ü",
        "empty.txt": "",
    }
    directories = {}
    for number, version in enumerate(("v1.0", "v1.1")):
        path = write_model(place / version, step=0.001 * number, files=files)
        commit(store, path, MODEL, CommitOptions(f"message {version}", author="Ann"))
        directories[version] = path
    return directories


def version(store: Store, ref: str) -> Resolved:
    """Return a version."""
    return resolve(store, ref)


def exported(store: Store, ref: str, to: str, output: Path, **options: object) -> Exported:
    """Export a version."""
    chosen = ExportOptions(output, **options)  # type: ignore[arg-type]
    return export(store, plan_export(store, resolve(store, ref), to, chosen))


def imported(
    store: Store,
    text: object,
    model: str | None = None,
    *,
    place: Path | None = None,
    everything: bool = False,
) -> list[Imported]:
    """Import something; ``place`` is the cache and Ollama's store."""
    where = place or Path("/nowhere")
    name = None if model is None else ModelName(model)
    places = Places(where, (where,))
    return run_import(
        store, plan_import(store, str(text), places, model=name, everything=everything)
    )


def gguf_bytes(values: Sequence[float] = (1.0, 2.0, 3.0, 4.0), *, name: str = "w") -> bytes:
    """Return a GGUF file with one key and one tensor of 32-bit floats."""
    text = name.encode()
    key = b"general.architecture"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, 5) + b"llama"
    head += struct.pack("<Q", len(text)) + text + struct.pack("<IQIQ", 1, len(values), 0, 0)
    head += b"\0" * (-len(head) % 32)
    data = struct.pack(f"<{len(values)}f", *values)
    return head + data + b"\0" * (-len(data) % 32)


def ollama_layer(place: Path, kind: str, data: bytes) -> dict[str, object]:
    """Put a layer into a store of Ollama's; return its row in a manifest."""
    digest = hashlib.sha256(data).hexdigest()
    blob = place / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    return {"mediaType": f"{MEDIA}{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def ollama_model(
    place: Path, rows: object, *, name: str = "registry.ollama.ai/library/tiny/1b"
) -> Path:
    """Write a manifest that lists ``rows`` as layers, and return it."""
    path = place / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "layers": rows}))
    return path
