"""The two small files that every version directory has: README.md and model_info.json.

They are generated only where the committed directory has none, and never change after the commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelstore.hashing import Digest
from modelstore.manifest import Manifest, from_scalars
from modelstore.names import ModelName
from modelstore.sizes import human_size

README = "README.md"
MODEL_INFO = "model_info.json"


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
        "training_parameters": from_scalars(manifest.parameters),
        "metrics": from_scalars(manifest.metrics),
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
    lines += _table("Training parameters", from_scalars(manifest.parameters))
    lines += _table("Metrics", from_scalars(manifest.metrics))
    lines += ["## Files", "", "| file | size |", "|---|---:|"]
    lines += [f"| {_cell(file.path)} | {human_size(file.size)} |" for file in manifest.files]
    lines += ["", "## Load", "", *_how_to_load(model, version)]
    return ("\n".join(lines) + "\n").encode("utf-8")


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
