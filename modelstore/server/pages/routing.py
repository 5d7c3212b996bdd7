"""The routes of the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelstore.server.context import Context
from modelstore.server.errors import Refused, refusal
from modelstore.server.pages import actions, compare, elsewhere, model, models, signing, version
from modelstore.server.pages.failures import as_page
from modelstore.server.pages.rendering import static
from modelstore.server.security import SIGN_IN

Answer = Callable[[Context, Request], Awaitable[Response]]

_MODEL = "/models/{model}"
_VERSION = "/models/{model}/versions/{version}"

_ROUTES: tuple[tuple[str, str, Answer], ...] = (
    ("GET", "/", models.models),
    ("GET", "/models", models.models),
    ("GET", "/storage", models.storage),
    ("GET", "/journal", models.journal),
    ("GET", "/compare", compare.compare),
    ("GET", SIGN_IN, signing.form),
    ("POST", SIGN_IN, signing.sign_in),
    ("POST", "/sign-out", signing.sign_out),
    ("GET", "/static/{path:path}", static),
    ("GET", _MODEL, model.versions),
    ("GET", f"{_MODEL}/metrics", model.metrics),
    ("GET", f"{_MODEL}/lineage", model.lineage),
    ("GET", f"{_MODEL}/storage", model.storage),
    ("GET", f"{_MODEL}/journal", model.journal),
    ("GET", f"{_MODEL}/compare", compare.chosen),
    ("GET", f"{_MODEL}/rollback", actions.confirm_rollback),
    ("POST", f"{_MODEL}/rollback", actions.rollback),
    ("GET", _VERSION, version.card),
    ("GET", f"{_VERSION}/files", version.files),
    ("GET", f"{_VERSION}/tensors", version.tensors),
    ("GET", f"{_VERSION}/use", version.use),
    ("GET", f"{_VERSION}/image/{{path:path}}", version.image),
    ("GET", f"{_VERSION}/activate", actions.confirm_active),
    ("POST", f"{_VERSION}/activate", actions.set_active),
    # what clients of the Hub print as links
    ("GET", "/mstore/{model}", elsewhere.of_model),
    ("GET", "/mstore/{model}/tree/{version}", elsewhere.of_version),
    ("GET", "/mstore/{model}/tree/{version}/{path:path}", elsewhere.of_version),
    ("GET", "/mstore/{model}/blob/{version}/{path:path}", elsewhere.of_version),
    ("GET", "/mstore/{model}/commit/{version}", elsewhere.of_version),
)


def routes(context: Context) -> list[Route]:
    """Return the routes."""
    return [_route(context, *row) for row in _ROUTES]


def _route(context: Context, method: str, path: str, answer: Answer) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await answer(context, request)
        except Exception as error:
            refused = refusal(error)
            if not isinstance(error, Refused) and refused.status >= 500:
                context.report(f"{method} {request.url.path}: {type(error).__name__}: {error}")
            return as_page(context, request, error)

    return Route(path, endpoint, methods=[method])
