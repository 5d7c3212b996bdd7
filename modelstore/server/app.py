"""The app: the faces of the server, behind the checks that all of them share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from modelstore.server.context import Context
from modelstore.server.errors import Refused, answer
from modelstore.server.hub import routing
from modelstore.server.security import Guard
from modelstore.server.settings import ServeSettings
from modelstore.store import Store


def create_app(
    store: Store, settings: ServeSettings, report: Callable[[str], None] | None = None
) -> Starlette:
    """Return what answers requests for a store.

    Args:
        store: what is served.
        settings: how.
        report: is given lines that the person at the terminal should see.
    """
    context = Context(store, settings, report)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            context.close()

    return Starlette(
        routes=_routes(context),
        middleware=[Middleware(Guard, settings=settings, report=context.report)],
        exception_handlers={HTTPException: _unrouted},
        lifespan=lifespan,
    )


def _routes(context: Context) -> list[BaseRoute]:
    """Return the routes of every face; the first that fits answers."""
    return [*routing.routes(context)]


async def _unrouted(_: Request, error: Exception) -> Response:
    """Answer what no face knows, or not with this method."""
    if not isinstance(error, HTTPException):
        raise error
    return answer(Refused(error.status_code, error.detail, headers=dict(error.headers or {})))
