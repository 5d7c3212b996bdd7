"""The routes that chunks are sent to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from modelstore import disk
from modelstore.errors import DiskFullError
from modelstore.names import ModelName, is_model
from modelstore.server.context import Context
from modelstore.server.errors import Refused, refusal
from modelstore.server.hub.routing import Answer, route
from modelstore.server.inbox import Inbox
from modelstore.server.permits import XET
from modelstore.server.security import require_write, token_of
from modelstore.server.taking import take_body
from modelstore.server.xet import shard, xorb
from modelstore.server.xet.transfer import Transfer, Xorb

_HASH = re.compile(r"[0-9a-f]{64}\Z")


def routes(context: Context) -> list[BaseRoute]:
    """Return the routes; what a client tries first and may do without is not there."""
    home = XET + "{model}/{transfer}"
    rows: tuple[tuple[str, str, Answer], ...] = (
        ("POST", f"{home}/v1/xorbs/{{prefix}}/{{name}}", take_xorb),
        ("POST", f"{home}/v1/shards", take_shard),
    )
    found: list[Route] = [route(context, *row) for row in rows]
    return [*found, Route(XET + "{path:path}", _absent, methods=["GET", "HEAD", "POST"])]


async def take_xorb(context: Context, request: Request) -> Response:
    """Answer ``POST v1/xorbs/{prefix}/{hash}``."""
    inbox, transfer = await _transfer(context, request)
    name = request.path_params["name"]
    if not _HASH.match(name):
        raise Refused(400, "a xorb is named by 64 hex digits")
    decoder = xorb.XorbDecoder()
    with transfer.coming(), _full_disk_is_final(context):
        path = await take_body(context, request, inbox, xorb.MOST_BODY, decoder.feed)
        try:
            await context.run(decoder.check_name, name)
        except xorb.BadXorbError:
            await context.run(disk.remove, path)
            raise
        new = await context.run(transfer.add, name, Xorb(path, decoder.ends))
    return JSONResponse({"was_inserted": new})


async def take_shard(context: Context, request: Request) -> Response:
    """Answer ``POST v1/shards``; the files that it makes are whole when this returns."""
    inbox, transfer = await _transfer(context, request)
    with transfer.coming(), _full_disk_is_final(context):
        path = await take_body(context, request, inbox, shard.MOST_BODY)
        try:
            await context.take(partial(transfer.take_shard, path))
        finally:
            await context.run(disk.remove, path)
    return JSONResponse({"result": 1})


@contextmanager
def _full_disk_is_final(context: Context) -> Iterator[None]:
    """Say that there is no room by 413: after 507 hf_xet goes on trying for minutes.

    It shows none of what is said, so the terminal of the server does.
    """
    try:
        yield
    except DiskFullError as error:
        message = refusal(error).message
        context.report(f"an upload was refused: {message}")
        raise Refused(413, message) from error


async def _transfer(context: Context, request: Request) -> tuple[Inbox, Transfer]:
    """Return the transfer that a request belongs to.

    Raises:
        Refused: there is none, or the request has no permit.
    """
    if not context.permits.allows(token_of(request.headers) or "", XET):
        require_write(request, context.settings)
    model = request.path_params["model"]
    inbox = context.inboxes.known(ModelName(model)) if is_model(model) else None
    found = inbox.sendings.get(request.path_params["transfer"]) if inbox is not None else None
    if inbox is None or not isinstance(found, Transfer):
        raise Refused(404, "there is no such upload (any more); begin it again")
    return inbox, found


async def _absent(request: Request) -> Response:
    raise Refused(404, f"there is no {request.url.path!r}")
