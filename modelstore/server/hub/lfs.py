"""Large files: where to send them, and their coming. Format: the batch API of Git LFS."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore import disk
from modelstore.names import ModelName, is_model
from modelstore.server.address import base_url
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub.ids import find_model
from modelstore.server.hub.json_body import json_body
from modelstore.server.hub.target import Target, known_files, target
from modelstore.server.permits import UPLOADS, XET, upload_of
from modelstore.server.security import require_write
from modelstore.server.taking import take_body
from modelstore.server.xet.transfer import Transfer

_MOST_FILES = 1000
_UPLOAD_SECONDS = 24 * 3600
"""How long an address for one file is good; a slow client may begin with the last one late."""

_XET_SECONDS = 180
"""How long chunks may be sent before a client asks again, which it does by itself."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LFS = "application/vnd.git-lfs+json"


async def batch(context: Context, request: Request) -> Response:
    """Answer ``POST /{id}.git/info/lfs/objects/batch``: what is known need not be sent again."""
    require_write(request, context.settings)
    model = await context.run(find_model, context, request)
    body = await json_body(request)
    rows = body.get("objects")
    if body.get("operation") != "upload":
        raise Refused(400, "files are downloaded by their paths, and not through LFS")
    if not isinstance(rows, list) or len(rows) > _MOST_FILES:
        raise Refused(400, f"the body names no files, or over {_MOST_FILES}")
    wanted = [_object(row) for row in rows]
    inbox = await context.run(context.inboxes.of, model)
    request.path_params["revision"] = _revision(body)
    goal = await context.run(target, context, request)
    known = await context.run(_known, context, goal, {oid for oid, _ in wanted})
    home = base_url(request)
    found = [
        _answer(context, home, model, oid, size, known=oid in known or bool(inbox.file(oid)))
        for oid, size in wanted
    ]
    return JSONResponse({"transfer": "basic", "objects": found}, media_type=_LFS)


def _revision(body: dict[str, Any]) -> str:
    ref = body.get("ref")
    name = ref.get("name") if isinstance(ref, dict) else None
    return name.removeprefix("refs/heads/") if isinstance(name, str) and name else "main"


def _object(row: Any) -> tuple[str, int]:
    oid, size = (row.get("oid"), row.get("size")) if isinstance(row, dict) else (None, None)
    if not isinstance(oid, str) or not _SHA256.match(oid):
        raise Refused(400, "a file has no SHA-256")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 63:
        raise Refused(400, "a file has no size")
    return oid, size


def _known(context: Context, goal: Target, wanted: set[str]) -> set[str]:
    """Return those of the SHA-256s ``wanted`` that files of the line have."""
    known: set[str] = set()
    for file in known_files(context, goal):
        if file.sha256 in wanted:
            known.add(file.sha256)
            if known == wanted:
                break
    return known


def _answer(
    context: Context, home: str, model: ModelName, oid: str, size: int, *, known: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
    if not known:
        path = f"{UPLOADS}{model}/{oid}"
        permit, _ = context.permits.issue(upload_of(path, str(size)), _UPLOAD_SECONDS)
        query = urlencode({"size": size, "permit": permit})
        found["actions"] = {"upload": {"href": f"{home}{path}?{query}"}}
    return found


async def put(context: Context, request: Request) -> Response:
    """Answer ``PUT /uploads/{model}/{sha256}``: the length and the SHA-256 must be those promised."""
    query = request.query_params
    size, permit = query.get("size", ""), query.get("permit", "")
    if not context.permits.allows(permit, upload_of(request.url.path, size)):
        raise Refused(403, "this address for an upload is no longer good; begin the upload again")
    model, oid = request.path_params["model"], request.path_params["oid"]
    if not is_model(model):
        raise Refused(404, "there is no such model")
    inbox = await context.run(context.inboxes.of, ModelName(model))
    sha256 = hashlib.sha256()

    def take(piece: bytes) -> bytes:
        sha256.update(piece)
        return piece

    path = await take_body(context, request, inbox, int(size), take)
    if path.stat().st_size != int(size) or sha256.hexdigest() != oid:
        await context.run(disk.remove, path)
        raise Refused(422, "what came is not the file that was promised; upload it again")
    await context.run(inbox.keep, oid, path)
    return Response(headers={"ETag": f'"{oid}"'})


async def xet_token(context: Context, request: Request) -> Response:
    """Answer ``GET /api/models/{id}/xet-write-token/{revision}``: where chunks are sent to."""
    require_write(request, context.settings)
    goal = await context.run(target, context, request)
    inbox = await context.run(context.inboxes.of, goal.model)
    sending = inbox.sending(lambda: Transfer(inbox))
    token, ends = context.permits.issue(XET, _XET_SECONDS)
    url = f"{base_url(request)}{XET}{goal.model}/{sending.name}"
    headers = {
        "X-Xet-Cas-Url": url,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(ends),
    }
    return JSONResponse({"casUrl": url, "accessToken": token, "exp": ends}, headers=headers)
