"""From the addresses that the Hub has for pages to ours: its clients print them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from modelstore.names import ACTIVE
from modelstore.server.context import Context
from modelstore.server.hub.ids import MAIN
from modelstore.server.pages.finding import find, find_model, model_url, version_url


async def of_model(context: Context, request: Request) -> Response:
    """Answer ``/{owner}/{model}``."""
    model = await context.run(find_model, context, request.path_params["model"])
    return RedirectResponse(model_url(model), 302)


async def of_version(context: Context, request: Request) -> Response:
    """Answer ``/{owner}/{model}/tree/{revision}`` and what is like it."""
    version = request.path_params["version"]
    version = ACTIVE if version == MAIN else version
    found = await context.run(find, context, request.path_params["model"], version)
    return RedirectResponse(f"{version_url(found.resolved)}/files", 302)
