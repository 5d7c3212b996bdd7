"""Signing in: the token becomes a cookie, so that a browser need not say it again."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.limits import read_body
from modelstore.server.pages.rendering import render
from modelstore.server.security import is_token
from modelstore.server.sessions import KEPT_SECONDS

_MOST_FORM = 16 << 10
_MOST_FIELDS = 20
_WRONG_SECONDS = 0.5
"""What a wrong token costs."""


async def form(context: Context, request: Request) -> Response:
    """Answer ``/sign-in``: the form; or, with the token in the address, what the form would do."""
    said = request.query_params.get("token", "")
    if said:
        return await _sign_in(context, request, said, request.query_params.get("next", ""))
    return _form(context, request, request.query_params.get("next", ""))


async def sign_in(context: Context, request: Request) -> Response:
    """Take the form."""
    fields = await read_form(request)
    return await _sign_in(context, request, fields.get("token", ""), fields.get("next", ""))


async def sign_out(context: Context, request: Request) -> Response:
    """Forget the sign-in of whoever asks."""
    fields = await read_form(request)
    said = context.sessions.of(request.headers)
    if context.sessions.is_sealed(said, fields.get("seal", "")):
        context.sessions.end(said)
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(context.sessions.cookie, path="/", httponly=True, samesite="strict")
    return answer


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form, the first of each name.

    Raises:
        Refused: it is too large, or is none.
    """
    body = await read_body(request, _MOST_FORM)
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Refused(400, "that is no form") from error
    return {name: values[0] for name, values in fields.items()}


def require_seal(context: Context, request: Request, fields: dict[str, str]) -> None:
    """Check that a form that changes the store was given to whoever sends it, who has signed in.

    Raises:
        Refused: it was not, or the store is not changed here at all.
    """
    if not context.settings.may_write:
        raise Refused(403, "This server takes no changes. Start it with: mstore serve --token")
    said = context.sessions.of(request.headers)
    if not said:
        raise Refused(403, "You are not signed in, or no longer. Sign in and try again.")
    if not context.sessions.is_sealed(said, fields.get("seal", "")):
        raise Refused(403, "The form is out of date. Go back, load the page again, and retry.")


async def _sign_in(context: Context, request: Request, token: str, then: str) -> Response:
    if not is_token(token.strip(), context.settings):
        await asyncio.sleep(_WRONG_SECONDS)
        return _form(context, request, then, "That is not the token.")
    answer = RedirectResponse(then if _is_ours(then) else "/", 303)
    answer.set_cookie(
        context.sessions.cookie,
        context.sessions.begin(),
        max_age=KEPT_SECONDS,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


def _form(context: Context, request: Request, then: str, problem: str = "") -> Response:
    values = {
        "then": then if _is_ours(then) else "",
        "problem": problem,
        "takes": bool(context.settings.token),
        "store_name": "",
        "store_root": "",
    }
    return render(context, request, "sign_in.html", 403 if problem else 200, **values)


def _is_ours(address: str) -> bool:
    """Tell whether an address is a path of this server."""
    if not address.startswith("/") or address.startswith("//") or not address.isprintable():
        return False
    return "\\" not in address and not address.startswith("/sign-in")
