"""The pages of one version: its card, files, tensors, and how to use it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from modelstore.errors import StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest, from_scalars
from modelstore.names import ModelName
from modelstore.ops.card import README, generated
from modelstore.ops.loss_chart import LOSS_CHART
from modelstore.ops.resolve import Resolved
from modelstore.reading import read_file
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub.ids import OWNER, commit_id
from modelstore.server.hub.resolve import PICKLES
from modelstore.server.pages import charting
from modelstore.server.pages.finding import Found, find, model_url, version_url
from modelstore.server.pages.markdown import MOST, as_html
from modelstore.server.pages.paging import paging
from modelstore.server.pages.rendering import render, segment
from modelstore.server.pages.rows import Rows
from modelstore.server.pages.snippets import snippets

_IMAGES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
_MOST_IMAGE = 8 << 20
_IMAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""For a picture, should it be opened by itself: SVG may bring scripts, and they do not run."""

_TENSORS = 1000
"""Of a page."""


async def card(context: Context, request: Request) -> Response:
    """Answer ``/models/{model}/versions/{version}``: its card, and where it comes from."""
    values = await context.run(_card, context, request)
    return render(context, request, "version_card.html", **values)


async def files(context: Context, request: Request) -> Response:
    """Answer ``…/files``."""
    values = await context.run(_files, context, request)
    return render(context, request, "version_files.html", **values)


async def tensors(context: Context, request: Request) -> Response:
    """Answer ``…/tensors``."""
    values = await context.run(_tensors, context, request)
    return render(context, request, "version_tensors.html", **values)


async def use(context: Context, request: Request) -> Response:
    """Answer ``…/use``: lines to copy."""
    values = await context.run(_use, context, request)
    return render(context, request, "version_use.html", **values)


async def image(context: Context, request: Request) -> Response:
    """Answer ``…/image/{path}``: a picture of the version, for its card."""
    data, kind = await context.run(_picture, context, request)
    headers = {"Content-Type": kind, "Content-Security-Policy": _IMAGE_POLICY}
    return Response(data, headers=headers)


def _head(context: Context, request: Request) -> tuple[Found, dict[str, Any]]:
    """Return the version, and what the head of each of its pages says."""
    found = find(context, request.path_params["model"], request.path_params["version"])
    resolved = found.resolved
    manifest, problem = None, ""
    try:
        manifest = found.manifest(context)
    except StoreError as error:
        problem = f"{error.message} — {error.hint}" if error.hint else error.message
    return found, {
        "model": resolved.model,
        "model_base": model_url(resolved.model),
        "base": version_url(resolved),
        "entry": resolved.entry,
        "row": Rows(resolved.model, found.state).row(resolved.entry),
        "active": found.state.active,
        "manifest": manifest,
        "problem": problem,
        "commit": commit_id(resolved.entry),
        "parent": _compared_with(found),
    }


def _compared_with(found: Found) -> str:
    """Return what a version is best compared with: what it was made from, or the one before it."""
    for digest in found.resolved.entry.parents:
        parent = found.state.with_id(digest)
        if parent is not None:
            return f"{found.resolved.model}@{parent.version}"
    return ""


# --- card


def _card(context: Context, request: Request) -> dict[str, Any]:
    found, values = _head(context, request)
    manifest: Manifest | None = values["manifest"]
    if manifest is None:
        return {**values, "readme": "", "parents": (), "sections": {}, "data": (), "curve": ""}
    sections = {
        "Metrics": from_scalars(dict(sorted(manifest.metrics.items()))),
        "Training parameters": from_scalars(dict(sorted(manifest.parameters.items()))),
        "Environment": from_scalars(dict(sorted(manifest.environment.items()))),
    }
    readme = _readme(context, found, manifest, values["base"])
    drawn = manifest.curve and f"/image/{LOSS_CHART}" not in readme
    return {
        **values,
        "readme": readme,
        "parents": list(_parents(context, found.resolved, manifest.parents)),
        "sections": {title: rows for title, rows in sections.items() if rows},
        "data": [dict(row) for row in manifest.data],
        "curve": charting.curves({values["row"].version: manifest.curve}) if drawn else "",
    }


def _readme(context: Context, found: Found, manifest: Manifest, base: str) -> Markup:
    """Return the card as HTML; "" where there is none."""
    try:
        data = _readme_bytes(context, found, manifest)
    except StoreError as error:
        return Markup('<p class="note bad">{}</p>').format(error.message)
    hub = (
        f"/{OWNER}/{segment(found.resolved.model)}/resolve/{segment(found.resolved.entry.version)}"
    )

    def link(address: str) -> str:
        path = _path_of(address)
        return f"{hub}/{_quoted(path)}" if manifest.file(path) is not None else ""

    def image(address: str) -> str:
        path = _path_of(address)
        known = manifest.file(path) is not None and path.lower().endswith(tuple(_IMAGES))
        return f"{base}/image/{_quoted(path)}" if known else ""

    return as_html(data.decode("utf-8", "replace"), link, image)


def _readme_bytes(context: Context, found: Found, manifest: Manifest) -> bytes:
    file = manifest.file(README)
    if file is None:
        return _made_readme(context, found, manifest)
    if file.size > MOST:
        return b"*The card is too long to be shown; download README.md to read it.*\n"
    return context.small_file(file)


def _made_readme(context: Context, found: Found, manifest: Manifest) -> bytes:
    """Return the card that was made at the commit: the file, if it still is that, or made again."""
    entry = found.resolved.entry
    path = context.store.version_dir(found.resolved.model, entry.version) / README
    try:
        data = read_file(path, MOST)
    except OSError:
        data = b""
    if data and digest_of(data) == entry.mapping("generated").get(README):
        return data
    return generated(context.store, found.resolved, manifest).get(README, b"")


def _path_of(address: str) -> str:
    return posixpath.normpath(unquote(urlsplit(address).path)).lstrip("/")


def _quoted(path: str) -> str:
    return "/".join(map(segment, path.split("/")))


@dataclass(frozen=True, slots=True)
class Parent:
    """What a version was made from: its name, and its address where it is still a version."""

    name: str
    url: str = ""


def _parents(context: Context, resolved: Resolved, digests: Iterable[Digest]) -> Iterator[Parent]:
    models = [resolved.model, *(m for m in context.store.models() if m != resolved.model)]
    for digest in digests:
        yield next(_known_as(context, models, digest), Parent(digest[:12]))


def _known_as(context: Context, models: Iterable[ModelName], digest: Digest) -> Iterator[Parent]:
    for model in models:
        try:
            entry = context.store.state(model).with_id(digest)
        except StoreError:
            continue
        if entry is not None:
            known = Resolved(model, entry)
            yield Parent(str(known), version_url(known))


# --- files, tensors


def _files(context: Context, request: Request) -> dict[str, Any]:
    found, values = _head(context, request)
    hub = (
        f"/{OWNER}/{segment(found.resolved.model)}/resolve/{segment(found.resolved.entry.version)}"
    )
    manifest: Manifest | None = values["manifest"]
    rows = [
        {
            "path": file.path,
            "size": file.size,
            "sha256": file.sha256,
            "format": file.format,
            "tensors": sum(len(span.tensors) for span in file.spans),
            "url": "" if _is_refused(context, file.path) else f"{hub}/{_quoted(file.path)}",
            "pickle": _is_refused(context, file.path),
        }
        for file in (manifest.files if manifest is not None else ())
    ]
    part = paging(request, len(rows), _TENSORS)
    return {**values, "rows": rows[part.start : part.stop], "part": part}


def _is_refused(context: Context, path: str) -> bool:
    return path.lower().endswith(PICKLES) and not context.settings.allow_pickle


def _tensors(context: Context, request: Request) -> dict[str, Any]:
    _, values = _head(context, request)
    manifest: Manifest | None = values["manifest"]
    wanted = request.query_params.get("q", "")[:200]
    everything = list(manifest.tensors()) if manifest is not None else []
    fitting = [one for one in everything if wanted.lower() in one[2].name.lower()]
    part = paging(request, len(fitting), _TENSORS)
    rows = [
        {
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": " × ".join(map(str, tensor.shape)) or "scalar",
            "size": span.size if tensor.view is None else None,
            "file": file.path,
            "tied": span.tensors[0].name
            if tensor.view is None and tensor is not span.tensors[0]
            else "",
        }
        for file, span, tensor in fitting[part.start : part.stop]
    ]
    several = len({file.path for file, _, _ in everything}) > 1
    return {
        **values,
        "rows": rows,
        "part": part,
        "q": wanted,
        "total": len(everything),
        "several": several,
        "count": manifest.parameter_count if manifest is not None else 0,
    }


def _use(context: Context, request: Request) -> dict[str, Any]:
    found, values = _head(context, request)
    manifest: Manifest | None = values["manifest"]
    url = f"{request.url.scheme}://{request.headers.get('host', '')}"
    shown = snippets(url, str(context.store.root), found.resolved, manifest) if manifest else []
    return {**values, "snippets": shown, "needs_token": not context.settings.is_local}


def _picture(context: Context, request: Request) -> tuple[bytes, str]:
    found = find(context, request.path_params["model"], request.path_params["version"])
    path = request.path_params["path"]
    file = found.manifest(context).file(path)
    kind = _IMAGES.get(posixpath.splitext(path)[1].lower())
    if file is None or kind is None or file.size > _MOST_IMAGE:
        raise Refused(404, f"{found.resolved} has no such picture")
    return context.small_file(file), kind
