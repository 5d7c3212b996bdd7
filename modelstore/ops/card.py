"""The small files that every version directory has: manifest.json, README.md, model_info.json.

The last two are generated only where the committed directory has none, and never change after the
commit: made again from the registry they have the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelstore import disk
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest, Scalar, encode, from_scalars
from modelstore.names import ModelName
from modelstore.ops.adapter import CONFIG as ADAPTER_CONFIG
from modelstore.ops.adapter import without_adapter
from modelstore.ops.loss_chart import LOSS_CHART
from modelstore.ops.resolve import Resolved
from modelstore.sizes import human_size
from modelstore.store import MANIFEST, Store

README = "README.md"
MODEL_INFO = "model_info.json"
SMALL = (MANIFEST, MODEL_INFO, README)

_TASK = "text-generation"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


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
    lines = [*_front_matter(model, manifest), f"# {model} {version}", ""]
    lines += [text for text in (manifest.message, description) if text]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| base model | {_cell(manifest.base_model or 'not recorded')} |"]
    lines += [f"| parent | {_cell(parent)} |", f"| created | {manifest.created_at} |"]
    lines += [f"| size | {human_size(manifest.size)} in {len(manifest.files)} files |"]
    lines += [f"| values | {without_adapter(manifest).parameter_count:,} |", ""]
    lines += _table("Training parameters", _sorted(manifest.parameters))
    lines += _table("Metrics", _sorted(manifest.metrics))
    if manifest.file(LOSS_CHART) is not None:
        lines += ["## Loss", "", f"![The loss by optimizer steps]({LOSS_CHART})", ""]
    lines += _data(manifest.data)
    lines += _table("Environment", _sorted(manifest.environment))
    lines += ["## Files", "", "| file | size |", "|---|---:|"]
    lines += [f"| {_cell(file.path)} | {human_size(file.size)} |" for file in manifest.files]
    lines += ["", "## Load", "", *_how_to_load(f"{model}@{version}", manifest)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _sorted(values: Mapping[str, Scalar]) -> dict[str, int | float | str]:
    """Return ``values`` for showing, in the order that they have in a manifest that was read."""
    return from_scalars(dict(sorted(values.items())))


# --- what Hugging Face reads (https://huggingface.co/docs/hub/model-cards)


def _front_matter(model: ModelName, manifest: Manifest) -> list[str]:
    """Return the block that hubs read, [] where there is nothing to say to them.

    JSON's way of writing a text is one of YAML's.
    """
    lines = []
    if _HUB_ID.fullmatch(manifest.base_model):
        lines += [f"base_model: {_yaml(manifest.base_model)}", "base_model_relation: finetune"]
    if "transformers" in manifest.environment:  # we trained it, so it is what we train
        lines += ["library_name: transformers", f"pipeline_tag: {_TASK}", "tags:", "- mstore"]
        lines += _measured(model, manifest)
    return ["---", *lines, "---", ""] if lines else []


def _measured(model: ModelName, manifest: Manifest) -> list[str]:
    """Return the loss on the evaluation rows as the entry of a model index."""
    loss = _sorted(manifest.metrics).get("eval_loss")
    if not isinstance(loss, int | float):
        return []
    files = [str(row.get("name")) for row in manifest.data if row.get("use")]
    return [
        "model-index:",
        f"- name: {_yaml(model)}",
        "  results:",
        f"  - task: {{type: {_TASK}}}",
        f"    dataset: {{type: local, name: {_yaml(', '.join(files) or 'rows set aside')}}}",
        f"    metrics: [{{type: loss, name: evaluation loss, value: {loss!r}}}]",
    ]


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# --- parts of the text


def _data(rows: Sequence[Mapping[str, Scalar]]) -> list[str]:
    if not rows:
        return []
    lines = ["## Data", "", "| file | rows | size | BLAKE3 | for |", "|---|---:|---:|---|---|"]
    for row in rows:
        name, count = _cell(str(row.get("name", ""))), row.get("rows", "")
        size, digest = row.get("size"), str(row.get("blake3", ""))[:12]
        written = human_size(size) if isinstance(size, int) else ""
        use = _cell(str(row.get("use", "training")))
        lines.append(f"| {name} | {count} | {written} | `{digest}` | {use} |")
    return [*lines, ""]


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    rows = [f"| {_cell(key)} | {_cell(str(value))} |" for key, value in values.items()]
    return [f"## {title}", "", "| name | value |", "|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _how_to_load(ref: str, manifest: Manifest) -> list[str]:
    lines = [
        "The files are in the store; write them here, or elsewhere with `-o DIR`:",
        "",
        *_code("bash", f"mstore checkout {ref}"),
        "Or load the weights without writing files:",
        "",
        *_code(
            "python",
            "import modelstore",
            "",
            'store = modelstore.open("tuned_models")',
            f'tensors = store.load("{ref}")',
            f'model = store.from_pretrained("{ref}")',
            f'tokenizer = store.tokenizer("{ref}")',
        ),
    ]
    if manifest.file(ADAPTER_CONFIG) is not None:
        lines += [
            "The adapter that was merged into these weights, for PEFT:",
            "",
            *_code("bash", f"mstore checkout {ref} --adapter -o DIR"),
        ]
    return lines[:-1]


def _code(language: str, *lines: str) -> list[str]:
    return [f"```{language}", *lines, "```", ""]
