"""What a repository is: its commit, its files, and what is told of the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.errors import StoreError
from modelstore.manifest import FileEntry, Manifest
from modelstore.server.context import Context
from modelstore.server.hub import git
from modelstore.server.hub.commits import made_at
from modelstore.server.hub.ids import MAIN, NO_COMMIT, OWNER, Found, find, find_model, repo_of

_MOST_CONFIG = 1 << 20  # bytes of a config.json that is looked into

_TASKS = {
    "ForCausalLM": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForImageClassification": "image-classification",
}
"""What a model is for, by how the name of its architecture ends."""


async def info(context: Context, request: Request) -> Response:
    """Answer ``/api/models/{id}`` and ``/api/models/{id}/revision/{revision}``."""
    return JSONResponse(await context.run(_info, context, request))


async def listing(context: Context, request: Request) -> Response:
    """Answer ``/api/models``: every line that has versions; ``search`` is a part of its name."""
    return JSONResponse(await context.run(_listing, context, request.query_params.get("search")))


def _info(context: Context, request: Request) -> dict[str, Any]:
    state = context.store.state(find_model(context, request))
    if not state.document["versions"] and _of_main(request):
        return _described(repo_of(request), NO_COMMIT)
    found = find(context, request)
    return {
        **_described(found.repo, found.commit),
        **_content(context, found),
        "lastModified": made_at(found.resolved.entry),
        "createdAt": made_at(state.entries()[0]),
    }


def _of_main(request: Request) -> bool:
    return bool(request.path_params.get("revision", MAIN) == MAIN)


def _listing(context: Context, search: str | None) -> list[dict[str, Any]]:
    models = [model for model in context.store.models() if (search or "") in model]
    return [_described(f"{OWNER}/{model}", None) for model in models]


def _described(repo: str, commit: str | None) -> dict[str, Any]:
    """Return what clients expect of any repository."""
    described: dict[str, Any] = {
        "_id": repo,
        "id": repo,
        "modelId": repo,
        "author": OWNER,
        "sha": commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [],
    }
    return {key: value for key, value in described.items() if value is not None}


def _content(context: Context, found: Found) -> dict[str, Any]:
    manifest = found.manifest
    config = _config(context, manifest)
    library = _library(manifest, config)
    task = _task(config)
    formats = sorted({file.format for file in manifest.files} & {"safetensors", "gguf"})
    content: dict[str, Any] = {
        "siblings": [_sibling(file) for file in manifest.files],
        "tags": [word for word in (library, task, *formats) if word],
        "usedStorage": manifest.size,
    }
    if library:
        content["library_name"] = library
    if task:
        content["pipeline_tag"] = task
    if "safetensors" in formats:
        content["safetensors"] = _counted(manifest)
    return content


def _sibling(file: FileEntry) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": file.path, "size": file.size, "blobId": git.oid(file)}
    if git.is_lfs(file):
        size = len(git.pointer(file))
        row["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": size}
    return row


def _config(context: Context, manifest: Manifest) -> Mapping[str, Any]:
    """Return what `config.json` says; {} where there is none that can be read."""
    file = manifest.file("config.json")
    if file is None or file.size > _MOST_CONFIG:
        return {}
    try:
        value = json.loads(context.small_file(file))
    except (StoreError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _library(manifest: Manifest, config: Mapping[str, Any]) -> str:
    if manifest.file("modules.json") is not None:
        return "sentence-transformers"
    return "transformers" if "architectures" in config or "model_type" in config else ""


def _task(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else ""
    if not isinstance(name, str):
        return ""
    return next((task for end, task in _TASKS.items() if name.endswith(end)), "")


def _counted(manifest: Manifest) -> dict[str, Any]:
    """Return how many values of each dtype the safetensors files have; equal tensors count once."""
    counted = {
        (span.blob, tensor.name): (tensor.dtype, math.prod(tensor.shape))
        for file, span, tensor in manifest.tensors()
        if file.format == "safetensors"
    }
    parameters: dict[str, int] = {}
    for dtype, count in counted.values():
        parameters[dtype] = parameters.get(dtype, 0) + count
    return {"parameters": parameters, "total": sum(parameters.values())}
