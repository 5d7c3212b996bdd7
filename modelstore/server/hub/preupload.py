"""How each file should be sent, asked before any is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.hashing import GIT_SHA1_LIMIT
from modelstore.names import parse_path
from modelstore.ops.tree import is_ignored, rules_of
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub import git
from modelstore.server.hub.json_body import json_body, text_of
from modelstore.server.hub.target import Target, target
from modelstore.server.security import require_write

_MOST_BODY = 4 << 20
_MOST_FILES = 1000


async def preupload(context: Context, request: Request) -> Response:
    """Answer ``POST /api/models/{id}/preupload/{revision}``."""
    require_write(request, context.settings)
    goal = await context.run(target, context, request)
    body = await json_body(request, _MOST_BODY)
    files = body.get("files")
    if not isinstance(files, list) or len(files) > _MOST_FILES:
        raise Refused(400, f"the body names no files, or over {_MOST_FILES}")
    rules = rules_of(text_of(body, "gitIgnore"))
    rows = [_row(goal, file, rules) for file in files]
    inbox = await context.run(context.inboxes.of, goal.model)
    await context.run(inbox.require_room, sum(file["size"] for file in files))
    return JSONResponse({"files": rows})


def is_large(path: str, size: int) -> bool:
    """Tell whether a file is sent by itself, and not within the commit; as `git.is_lfs` tells it."""
    return size > GIT_SHA1_LIMIT or path.lower().endswith(git.WEIGHTS)


def _row(goal: Target, file: Any, rules: Sequence[str]) -> dict[str, Any]:
    """Return how a file is sent, and the digest of the one that is there, if any."""
    path, size = (file.get("path"), file.get("size")) if isinstance(file, dict) else (None, None)
    if not isinstance(path, str) or not isinstance(size, int) or not 0 <= size < 1 << 63:
        raise Refused(400, "a file has no path, or no size")
    parse_path(path)
    large = is_large(path, size)
    row: dict[str, Any] = {
        "path": path,
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": is_ignored(path, rules),
    }
    known = goal.files.get(path)
    if known is not None:
        row["oid"] = known.sha256 if large else known.git_sha1
    return row
