"""The routes of the Hub's face."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelstore.server.context import Context
from modelstore.server.hub.account import validate_yaml, whoami
from modelstore.server.hub.branches import create_branch, create_tag, delete_ref
from modelstore.server.hub.commit import commit
from modelstore.server.hub.create import create, delete, refuse
from modelstore.server.hub.info import info, listing
from modelstore.server.hub.lfs import batch, put, xet_token
from modelstore.server.hub.paths import paths_info
from modelstore.server.hub.preupload import preupload
from modelstore.server.hub.refs import commits, refs
from modelstore.server.hub.resolve import resolve
from modelstore.server.hub.tree import tree

Answer = Callable[[Context, Request], Awaitable[Response]]

REPOS = ("{model}", "{owner}/{model}")
"""How a repository is named in a path."""

_OF_A_REPO: tuple[tuple[str, str, Answer], ...] = (
    ("GET", "/api/models/{repo}/revision/{{revision}}", info),
    ("GET", "/api/models/{repo}/tree/{{revision}}", tree),
    ("GET", "/api/models/{repo}/tree/{{revision}}/{{path:path}}", tree),
    ("GET", "/api/models/{repo}/refs", refs),
    ("GET", "/api/models/{repo}/commits/{{revision}}", commits),
    ("POST", "/api/models/{repo}/paths-info/{{revision}}", paths_info),
    ("POST", "/api/models/{repo}/preupload/{{revision}}", preupload),
    ("GET", "/api/models/{repo}/xet-write-token/{{revision}}", xet_token),
    ("POST", "/{repo}.git/info/lfs/objects/batch", batch),
    ("POST", "/api/models/{repo}/commit/{{revision}}", commit),
    ("POST", "/api/models/{repo}/tag/{{revision}}", create_tag),
    ("POST", "/api/models/{repo}/branch/{{name}}", create_branch),
    ("DELETE", "/api/models/{repo}/tag/{{name}}", delete_ref),
    ("DELETE", "/api/models/{repo}/branch/{{name}}", delete_ref),
    ("PUT", "/api/models/{repo}/settings", refuse),
    ("POST", "/api/models/{repo}/discussions", refuse),
    ("POST", "/api/models/{repo}/super-squash/{{revision}}", refuse),
    ("GET", "/{repo}/resolve/{{revision}}/{{path:path}}", resolve),
    ("GET", "/{repo}/raw/{{revision}}/{{path:path}}", resolve),
    ("GET", "/api/models/{repo}", info),
)
"""Method, path and answer; ``{owner}/{model}`` alone would fit some of the others, so it is last."""

_OF_ALL: tuple[tuple[str, str, Answer], ...] = (
    ("GET", "/api/models", listing),
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("POST", "/api/repos/move", refuse),
    ("PUT", "/uploads/{model}/{oid}", put),
)


def routes(context: Context) -> list[Route]:
    """Return the routes, for every way to name a repository."""
    found = [route(context, *row) for row in _OF_ALL]
    for method, path, answer in _OF_A_REPO:
        found += [route(context, method, path.format(repo=repo), answer) for repo in REPOS]
    return found


def route(context: Context, method: str, path: str, answer: Answer) -> Route:
    """Return a route that answers from ``context``; for GET also HEAD."""

    async def endpoint(request: Request) -> Response:
        return await answer(context, request)

    return Route(path, endpoint, methods=[method])


__all__ = ["REPOS", "route", "routes"]
