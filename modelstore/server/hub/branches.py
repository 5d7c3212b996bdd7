"""Branches and tags: both are aliases, and versions are tags that are there by themselves."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.names import ModelName, parse_alias
from modelstore.ops.pointer import remove_alias, set_alias
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub.ids import MAIN, find, find_model
from modelstore.server.hub.json_body import json_body, text_of
from modelstore.server.security import require_write


async def create_tag(context: Context, request: Request) -> Response:
    """Answer ``POST /api/models/{id}/tag/{revision}``."""
    require_write(request, context.settings)
    body = await json_body(request)
    why = text_of(body, "message")
    return await context.run(_create, context, request, text_of(body, "tag"), why)


async def create_branch(context: Context, request: Request) -> Response:
    """Answer ``POST /api/models/{id}/branch/{name}``."""
    require_write(request, context.settings)
    body = await json_body(request)
    request.path_params["revision"] = text_of(body, "startingPoint") or MAIN
    return await context.run(_create, context, request, request.path_params["name"], "")


async def delete_ref(context: Context, request: Request) -> Response:
    """Answer ``DELETE /api/models/{id}/tag/{name}`` and ``.../branch/{name}``."""
    require_write(request, context.settings)
    return await context.run(_delete, context, request)


def _create(context: Context, request: Request, name: str, why: str) -> Response:
    model = find_model(context, request)
    _refuse_taken(context, model, name)
    parse_alias(name)
    set_alias(context.store, name, find(context, request).resolved, why=why)
    return JSONResponse({})


def _refuse_taken(context: Context, model: ModelName, name: str) -> None:
    state = context.store.state(model)
    if name == MAIN or name in state.aliases or state.entry(name) is not None:
        raise Refused(409, f"{model} has {name!r} already")


def _delete(context: Context, request: Request) -> Response:
    model, name = find_model(context, request), request.path_params["name"]
    state = context.store.state(model)
    if name == MAIN:
        raise Refused(403, f"{MAIN!r} is the ACTIVE version of {model}, which is not removed")
    if name not in state.aliases and state.entry(name) is not None:
        raise Refused(403, f"{model}@{name} is a version; where the store lies, run: mstore rm")
    if name not in state.aliases:
        raise Refused(404, f"{model} has no {name!r}", "RevisionNotFound")
    remove_alias(context.store, name, model)
    return Response(status_code=204)
