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
from modelstore.server.pages import routing as pages
from modelstore.server.pages.failures import as_page, wants_page
from modelstore.server.remote import routing as remote
from modelstore.server.security import Guard
from modelstore.server.settings import ServeSettings
from modelstore.server.xet import routing as xet
from modelstore.store import Store


def create_app(
    store: Store,
    settings: ServeSettings,
    report: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Starlette:
    """Return what answers requests for a store.

    Args:
        store: what is served.
        settings: how.
        report: is given lines that the person at the terminal should see: what went wrong.
        note: is given what was done.
    """
    context = Context(store, settings, report, note)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            context.close()

    def refuse(request: Request, error: Refused) -> Response:
        return as_page(context, request, error) if wants_page(request) else answer(error)

    async def unrouted(request: Request, error: Exception) -> Response:
        return refuse(request, _as_refused(error))

    return Starlette(
        routes=_routes(context),
        middleware=[
            Middleware(
                Guard,
                settings=settings,
                report=context.report,
                sessions=context.sessions,
                permits=context.permits,
                refuse=refuse,
            )
        ],
        exception_handlers={HTTPException: unrouted},
        lifespan=lifespan,
    )


def _routes(context: Context) -> list[BaseRoute]:
    """Return the routes of every face; the first that fits answers."""
    return [
        *remote.routes(context),
        *xet.routes(context),
        *routing.routes(context),
        *pages.routes(context),
    ]


def _as_refused(error: Exception) -> Refused:
    """Return the refusal of what no face knows, or not with this method."""
    if not isinstance(error, HTTPException):
        raise error
    return Refused(error.status_code, error.detail, headers=dict(error.headers or {}))
