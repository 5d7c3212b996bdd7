"""The routes of the face that is a remote."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelstore.ops.offered import Offered
from modelstore.remotes.served import LISTING
from modelstore.server.context import Context
from modelstore.server.remote.taking import Taking
from modelstore.server.remote.values import listing, value

Answer = Callable[[Request], Awaitable[Response]]

_KEYS = (
    "/mstore.json",
    "/models.json",
    "/models/{model}/registry.json",
    "/models/{model}/records/{record}",
    "/blobs/{directory}/{digest}",
)
"""Where values are; no others of a store can be asked for."""


def routes(context: Context) -> list[Route]:
    """Return the routes: every key, and the listing."""
    offered, taking = Offered(context.store), Taking(context)
    methods: dict[str, Answer] = {
        "GET": partial(value, context, offered),
        "PUT": taking.take,
        "DELETE": taking.refuse,
        "POST": taking.refuse,
    }
    list_keys = _route(f"/{LISTING}", {"GET": partial(listing, context, offered)})
    return [list_keys, *(_route(path, methods) for path in _KEYS)]


def _route(path: str, answers: Mapping[str, Answer]) -> Route:
    async def endpoint(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=list(answers))
