"""The small files that every version directory has: manifest.json, README.md, model_info.json.

The last two are generated only where the committed directory has none, and never change after the
commit: made again from the registry they have the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelstore import disk
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest, Scalar, encode, from_scalars
from modelstore.names import ModelName
from modelstore.ops.resolve import Resolved
from modelstore.sizes import human_size
from modelstore.store import MANIFEST, Store

README = "README.md"
MODEL_INFO = "model_info.json"
SMALL = (MANIFEST, MODEL_INFO, README)


def small_files(
    store: Store,
    model: ModelName,
    version: str,
    manifest: Manifest,
    parents: Sequence[Resolved],
    description: str,
) -> dict[str, bytes]:
    """Return the small files of a version by name; content goes before generated text."""
    encoded = encode(manifest)
    named = {str(p.id): str(p.entry.version) if p.model == model else str(p) for p in parents}
    small = {
        README: readme(model, version, manifest, named, description),
        MODEL_INFO: model_info(model, version, manifest, digest_of(encoded), description),
    }
    for name in small:
        file = manifest.file(name)
        if file is not None:
            small[name] = b"".join(
                store.blobs.read(span.blob, most=span.size) for span in file.spans
            )
    return {**small, MANIFEST: encoded}


def restore(store: Store, resolved: Resolved, manifest: Manifest, *, force: bool) -> None:
    """Write the small files that a version's directory lacks, byte for byte what was there.

    One that was generated, and would be generated otherwise today, stays away.

    Args:
        force: also put right a manifest that is not the version's.
    """
    home = store.version_dir(resolved.model, resolved.entry.version)
    if all((home / name).exists() for name in SMALL) and not force:
        return
    for name, data in generated(store, resolved, manifest).items():
        path = home / name
        if not path.exists():
            disk.make_dir(home)
            disk.replace(path, data)
        elif force and name == MANIFEST and path.read_bytes() != data:
            disk.replace(path, data)


def generated(store: Store, resolved: Resolved, manifest: Manifest) -> dict[str, bytes]:
    """Return the small files of a version that are generated today as they were then, by name."""
    expected = {**resolved.entry.mapping("generated"), MANIFEST: resolved.id}
    small = small_files(
        store,
        resolved.model,
        str(resolved.entry.version),
        manifest,
        list(_parents(store, resolved, manifest)),
        resolved.entry.text("description"),
    )
    return {name: small[name] for name in SMALL if digest_of(small[name]) == expected.get(name, "")}


def _parents(store: Store, resolved: Resolved, manifest: Manifest) -> Iterator[Resolved]:
    """Yield those parents that are still versions, of this model or of another."""
    models = [resolved.model, *(m for m in store.models() if m != resolved.model)]
    for digest in manifest.parents:
        found = ((model, store.state(model).with_id(digest)) for model in models)
        yield from [Resolved(model, entry) for model, entry in found if entry][:1]


def model_info(
    model: ModelName, version: str, manifest: Manifest, digest: Digest, description: str
) -> bytes:
    """Return the text of `model_info.json`: the keys of the seed first, then ours."""
    value = {
        "model_name": model,
        "version": version,
        "base_model": manifest.base_model,
        "created_at": manifest.created_at,
        "description": description,
        "training_parameters": _sorted(manifest.parameters),
        "metrics": _sorted(manifest.metrics),
        "id": digest,
        "parents": list(manifest.parents),
        "message": manifest.message,
    }
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def readme(
    model: ModelName,
    version: str,
    manifest: Manifest,
    parents: Mapping[str, str],
    description: str,
) -> bytes:
    """Return the text of `README.md`.

    Args:
        parents: what each parent is called, by its digest.
    """
    parent = ", ".join(parents.get(digest, digest[:12]) for digest in manifest.parents) or "none"
    lines = [*_front_matter(manifest.base_model), f"# {model} {version}", ""]
    lines += [text for text in (manifest.message, description) if text]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| base model | {_cell(manifest.base_model or 'not recorded')} |"]
    lines += [f"| parent | {_cell(parent)} |", f"| created | {manifest.created_at} |"]
    lines += [f"| size | {human_size(manifest.size)} in {len(manifest.files)} files |"]
    lines += [f"| values | {manifest.parameter_count:,} |", ""]
    lines += _table("Training parameters", _sorted(manifest.parameters))
    lines += _table("Metrics", _sorted(manifest.metrics))
    lines += ["## Files", "", "| file | size |", "|---|---:|"]
    lines += [f"| {_cell(file.path)} | {human_size(file.size)} |" for file in manifest.files]
    lines += ["", "## Load", "", *_how_to_load(model, version)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _sorted(values: Mapping[str, Scalar]) -> dict[str, int | float | str]:
    """Return ``values`` for showing, in the order that they have in a manifest that was read."""
    return from_scalars(dict(sorted(values.items())))


def _front_matter(base_model: str) -> list[str]:
    if "/" not in base_model or any(c.isspace() or c in "\"'#:" for c in base_model):
        return []
    return ["---", f"base_model: {base_model}", "base_model_relation: finetune", "---", ""]


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    rows = [f"| {_cell(key)} | {_cell(str(value))} |" for key, value in values.items()]
    return [f"## {title}", "", "| name | value |", "|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _how_to_load(model: ModelName, version: str) -> list[str]:
    return [
        "The files are in the store; write them here, or elsewhere with `-o DIR`:",
        "",
        "```bash",
        f"mstore checkout {model}@{version}",
        "```",
        "",
        "Or load the weights without writing files:",
        "",
        "```python",
        "import modelstore",
        "",
        'store = modelstore.open("tuned_models")',
        f'tensors = store.load("{model}@{version}")',
        f'model = store.from_pretrained("{model}@{version}")',
        "```",
    ]
