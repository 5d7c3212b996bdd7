"""What changes the store: a page says what will happen, and a form does it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from modelstore.errors import ConflictError, NotFoundError
from modelstore.names import ModelName
from modelstore.ops import pointer
from modelstore.ops.resolve import Resolved, resolve
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.pages.finding import Found, find, find_model, model_url, version_url
from modelstore.server.pages.rendering import render
from modelstore.server.pages.rows import Rows
from modelstore.server.pages.signing import read_form, require_seal

_MOST_WHY = 500
_BEFORE = "ACTIVE@{1}"


async def confirm_active(context: Context, request: Request) -> Response:
    """Say what making a version ACTIVE will change."""
    found = await context.run(_found, context, request)
    return _confirm(context, request, found, "activate")


async def confirm_rollback(context: Context, request: Request) -> Response:
    """Say what a rollback will change."""
    model = request.path_params["model"]
    found = await context.run(_previous, context, model)
    return _confirm(context, request, found, "rollback")


async def set_active(context: Context, request: Request) -> Response:
    """Make a version ACTIVE, if that still is what the page said."""
    fields = await read_form(request)
    require_seal(context, request, fields)
    found = await context.run(_found, context, request)
    return await context.run(_move, context, found, fields, "set-active")


async def rollback(context: Context, request: Request) -> Response:
    """Make ACTIVE what it was before, if that still is what the page said."""
    fields = await read_form(request)
    require_seal(context, request, fields)
    found = await context.run(_previous, context, request.path_params["model"])
    if str(found.resolved.entry.version) != fields.get("version"):
        raise _moved(found.resolved.model)
    return await context.run(_move, context, found, fields, "rollback")


def _found(context: Context, request: Request) -> Found:
    return find(context, request.path_params["model"], request.path_params["version"])


def _previous(context: Context, text: str) -> Found:
    model = find_model(context, text)
    return Found(resolve(context.store, f"{model}@{_BEFORE}"), context.store.state(model))


def _confirm(context: Context, request: Request, found: Found, verb: str) -> Response:
    if not context.settings.may_write:
        raise Refused(403, "This server takes no changes. Start it with: mstore serve --token")
    if not context.sessions.of(request.headers):
        return RedirectResponse(f"/sign-in?{urlencode({'next': request.url.path})}", 302)
    return render(context, request, "confirm.html", **_plan(found, verb))


def _plan(found: Found, verb: str) -> dict[str, Any]:
    resolved, state = found.resolved, found.state
    rows = Rows(resolved.model, state)
    now = state.entry(state.active) if state.active else None
    home = version_url(resolved) if verb == "activate" else model_url(resolved.model)
    return {
        "verb": verb,
        "model": resolved.model,
        "base": model_url(resolved.model),
        "home": home,
        "action": f"{home}/{verb}",
        "after": rows.row(resolved.entry),
        "before": rows.row(now) if now is not None else None,
        "missing": resolved.id is None,
        "aliases": state.aliases,
    }


def _move(context: Context, found: Found, fields: dict[str, str], op: str) -> Response:
    model = found.resolved.model
    expected = fields.get("expected", "")
    if expected != found.state.active:
        raise _moved(model)
    try:
        pointer.set_active(
            context.store,
            Resolved(model, found.resolved.entry),
            expect=f"{model}@{expected}" if expected else "",
            why=fields.get("why", "").strip()[:_MOST_WHY],
            op=op,
        )
    except (ConflictError, NotFoundError) as error:
        if "as expected" in error.message:
            raise _moved(model) from error
        raise
    return RedirectResponse(model_url(model), 303)


def _moved(model: ModelName) -> ConflictError:
    return ConflictError(
        f"ACTIVE of {model} is no longer what the page showed; nothing was changed.",
        f"look again, then decide: mstore active {model} --history",
    )
