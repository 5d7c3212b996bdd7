"""The files themselves: HEAD, GET, and parts of them."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from modelstore.ops import present
from modelstore.server.content import Content
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub import git
from modelstore.server.hub.ids import Found, find
from modelstore.server.ranges import unchanged, window

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that may run code in whoever loads them."""


async def resolve(context: Context, request: Request) -> Response:
    """Answer ``/{id}/resolve/{revision}/{path}``."""
    found = await context.run(find, context, request)
    file = found.file(request.path_params["path"])
    _check_kind(context, found, file.path)
    etag = git.etag(file)
    headers = {
        "ETag": etag,
        "X-Repo-Commit": found.commit,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.split('/')[-1])}",
    }
    if unchanged(request.headers, etag):
        return Response(status_code=304, headers=headers)
    part = window(request.headers, file.size, etag)
    if part is None:
        headers["Content-Range"] = f"bytes */{file.size}"
        raise Refused(416, f"{file.path!r} has {file.size} bytes", headers=headers)
    content = Content(context, file, part, headers)
    if request.method == "HEAD":
        return Response(status_code=content.status_code, headers=dict(content.headers))
    await context.run(present.require, context.store, found.resolved)
    return content


def _check_kind(context: Context, found: Found, path: str) -> None:
    """Raise where a file is of a kind that this server does not hand out."""
    if path.lower().endswith(PICKLES) and not context.settings.allow_pickle:
        raise Refused(
            403,
            f"{path!r} of {found.resolved} may run code in whoever loads it, so it is served only "
            "by: mstore serve --allow-pickle",
            "GatedRepo",  # the one kind of 403 whose sentence clients show
            headers={"X-Repo-Commit": found.commit},
        )
