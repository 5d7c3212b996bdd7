"""The revisions of a line: ``main`` is a branch, versions and aliases are tags; and its history."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.names import ModelName
from modelstore.ops.history import log
from modelstore.server.context import Context
from modelstore.server.hub.commits import as_commit
from modelstore.server.hub.ids import MAIN, commit_id, find, find_model
from modelstore.state import Entry

_PAGE = 100
"""Commits of one answer."""


async def refs(context: Context, request: Request) -> Response:
    """Answer ``/api/models/{id}/refs``."""
    return JSONResponse(await context.run(_refs, context, request))


async def commits(context: Context, request: Request) -> Response:
    """Answer ``/api/models/{id}/commits/{revision}``: the version and what it was made from."""
    return await context.run(_commits, context, request)


def _refs(context: Context, request: Request) -> dict[str, Any]:
    state = context.store.state(find_model(context, request))
    names = {str(entry.version): entry for entry in reversed(state.entries())}
    aliases = {name: state.entry(version) for name, version in state.aliases.items()}
    active = state.entry(state.active)
    found: dict[str, Any] = {
        "branches": [_ref(f"refs/heads/{MAIN}", MAIN, active)] if _is_here(active) else [],
        "tags": [
            _ref(f"refs/tags/{name}", name, entry)
            for name, entry in {**names, **aliases}.items()
            if _is_here(entry)
        ],
        "converts": [],
    }
    if request.query_params.get("include_prs"):
        found["pullRequests"] = []
    return found


def _is_here(entry: Entry | None) -> bool:
    return entry is not None and entry.id is not None


def _ref(ref: str, name: str, entry: Entry | None) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": "" if entry is None else commit_id(entry)}


def _commits(context: Context, request: Request) -> Response:
    found = find(context, request)
    (history,) = log(context.store, str(found.resolved))
    entries = [entry for entry in history.entries if entry.id is not None]
    page = request.query_params.get("p", "0")
    begin = (int(page) if page.isdecimal() and len(page) < 9 else 0) * _PAGE
    shown = entries[begin : begin + _PAGE]
    headers = {"X-Total-Count": str(len(entries))}
    if len(entries) > begin + _PAGE:
        following = request.url.include_query_params(p=begin // _PAGE + 1)
        headers["Link"] = f'<{following}>; rel="next"'
    model = found.resolved.model
    return JSONResponse([_row(context, model, entry) for entry in shown], headers=headers)


def _row(context: Context, model: ModelName, entry: Entry) -> dict[str, Any]:
    return as_commit(entry, context.manifest(model, entry).author)
