"""What is known of some paths of a version, asked for by name."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.manifest import FileEntry
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub import git
from modelstore.server.hub.ids import find
from modelstore.server.hub.tree import is_yes, rows
from modelstore.server.limits import read_body

_MOST_PATHS = 10_000


async def paths_info(context: Context, request: Request) -> Response:
    """Answer ``POST /api/models/{id}/paths-info/{revision}``; paths that are not there are left out."""
    asked, expand = _asked(request.headers.get("content-type", ""), await read_body(request))
    return JSONResponse(await context.run(_rows, context, request, asked, expand))


def _rows(
    context: Context, request: Request, asked: set[str], expand: bool
) -> list[dict[str, Any]]:
    found = find(context, request)
    files = found.manifest.files
    everything: list[FileEntry | git.Directory] = [*files, *git.directories(files)[1:]]
    return rows(found, (one for one in everything if one.path in asked), expand=expand)


def _asked(kind: str, body: bytes) -> tuple[set[str], bool]:
    """Return the paths, and whether commits are wanted; clients send a form, some send JSON."""
    try:
        if "json" in kind:
            value = json.loads(body)
            paths, expand = value["paths"], value.get("expand") is True
        else:
            form = parse_qs(body.decode(), max_num_fields=_MOST_PATHS)
            paths, expand = form.get("paths", []), is_yes(form.get("expand", [""])[0])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(400, "the body names no paths") from error
    if not isinstance(paths, list):
        paths = [paths]
    return {path.strip("/") for path in paths if isinstance(path, str)}, expand
