"""Beginning a line, which is what creating a repository is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.errors import ConflictError
from modelstore.names import ModelName, parse_model
from modelstore.ops.init import begin_line
from modelstore.server.address import base_url
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub.ids import OWNER
from modelstore.server.hub.json_body import json_body, text_of
from modelstore.server.security import require_write


async def create(context: Context, request: Request) -> Response:
    """Answer ``POST /api/repos/create``; that there is one already is answered by 409."""
    require_write(request, context.settings)
    body = await json_body(request)
    kind, owner = text_of(body, "type") or "model", text_of(body, "organization")
    name = text_of(body, "name")
    if "/" in name:
        owner, _, name = name.partition("/")
    if kind != "model":
        raise Refused(400, f"a store holds models, and no {kind}s")
    if owner not in ("", OWNER):
        raise Refused(403, f"every model here is {OWNER}/NAME; use {OWNER}/{name}")
    model = parse_model(name)
    repo = f"{OWNER}/{model}"
    url = f"{base_url(request)}/{repo}"
    told = {"url": url, "name": repo, "id": repo}
    if context.store.registry(model).exists():
        said = f"{repo} exists already"  # clients that do not mind go on with the url
        return JSONResponse({**told, "error": said}, 409, {"X-Error-Message": said})
    await context.run(_begin, context, model)
    return JSONResponse(told)


def _begin(context: Context, model: ModelName) -> None:
    try:
        begin_line(context.store, model)
    except ConflictError as error:  # 409 would say that this very one exists
        raise Refused(400, error.message) from error


async def delete(context: Context, request: Request) -> Response:
    """Answer ``DELETE /api/repos/delete``: nothing is deleted from afar."""
    require_write(request, context.settings)
    raise Refused(403, "models are not removed from afar; where the store lies, run: mstore rm")


async def refuse(context: Context, request: Request) -> Response:
    """Answer what a repository of the Hub has and a line of versions does not."""
    require_write(request, context.settings)
    raise Refused(
        403,
        "a line of versions has no settings, discussions, pull requests or other names, and its "
        "versions never change",
    )
