"""Values: one, a part of it, or what is known of it; and which there are."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import closing
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.errors import BadNameError
from modelstore.ops.elsewhere import IDENTITY
from modelstore.ops.offered import Offered, Opened
from modelstore.remotes.served import ACCESS, KNOWN_BY, Access
from modelstore.server.content import CHUNK
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.ranges import Window, unchanged, window
from modelstore.server.security import Receive, Send, is_token, token_of

PAGE = 10_000
"""Keys of one answer."""


async def value(context: Context, offered: Offered, request: Request) -> Response:
    """Answer GET and HEAD of a key."""
    return await context.run(_value, context, offered, request)


def _value(context: Context, offered: Offered, request: Request) -> Response:
    key = key_in(request)
    try:
        opened = offered.open(key)
    except BadNameError as error:
        raise Refused(404, "there is no such key") from error
    headers = {"ETag": opened.tag, "Accept-Ranges": "bytes", **_told(context, request, key)}
    headers["Content-Type"] = "application/octet-stream"
    part = window(request.headers, opened.size, opened.tag)
    if part is not None and part.length > CHUNK and not unchanged(request.headers, opened.tag):
        return _Large(context, opened, part, headers, body=request.method != "HEAD")
    with closing(opened):
        if unchanged(request.headers, opened.tag):
            return Response(status_code=304, headers=headers)
        if part is None:
            headers["Content-Range"] = f"bytes */{opened.size}"
            raise Refused(416, f"'{key}' has {opened.size} bytes", headers=headers)
        headers["Content-Length"] = str(part.length)
        if part.partial:
            headers["Content-Range"] = part.content_range
        data = b"" if request.method == "HEAD" else opened.source.read(part.start, part.stop)
        return Response(data, 206 if part.partial else 200, headers)


async def listing(context: Context, offered: Offered, request: Request) -> Response:
    """Answer which keys there are, and how large their values are; a page at a time."""
    return JSONResponse(await context.run(_page, offered, request))


def key_in(request: Request) -> str:
    """Return the key that the path of a request is, percent-decoded."""
    return str(request.scope["path"]).lstrip("/")


def _page(offered: Offered, request: Request) -> dict[str, Any]:
    query = request.query_params
    rows = offered.list(query.get("prefix", ""), query.get("after", ""))
    found = [[one.key, one.size] for one in islice(rows, PAGE)]
    return {"keys": found, **({"next": found[-1][0]} if len(found) == PAGE else {})}


def _told(context: Context, request: Request, key: str) -> dict[str, str]:
    """Return the headers by which a client knows that this is a server, and what it may do."""
    if key != IDENTITY:
        return {}
    settings = context.settings
    access = Access.READ
    if settings.may_write:
        mine = is_token(token_of(request.headers) or "", settings)
        access = Access.WRITE if mine else Access.TOKEN
    return {KNOWN_BY: "1", ACCESS: access.value}


class _Large(Response):
    """Bytes of an open value, as an answer; it is closed at the end, whatever that is."""

    def __init__(
        self, context: Context, opened: Opened, part: Window, headers: dict[str, str], *, body: bool
    ) -> None:
        super().__init__(status_code=206 if part.partial else 200, headers=headers)
        self.headers["Content-Length"] = str(part.length)
        if part.partial:
            self.headers["Content-Range"] = part.content_range
        self._context = context
        self._opened = opened
        self._part = part
        self._body = body

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Send the answer; return early where the client has gone."""
        gone = asyncio.get_running_loop().create_task(_disconnection(receive))
        try:
            status = self.status_code
            await send(
                {"type": "http.response.start", "status": status, "headers": self.raw_headers}
            )
            start, stop = self._part.start, self._part.stop if self._body else self._part.start
            while start < stop and not gone.done():
                end = min(start + CHUNK, stop)
                piece = await self._context.run(self._opened.source.read, start, end)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                start = end
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await self._context.run(self._opened.close)


async def _disconnection(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
