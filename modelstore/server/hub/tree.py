"""The files and directories of a version, with their sizes and digests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.manifest import FileEntry
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub import git
from modelstore.server.hub.commits import as_last_commit
from modelstore.server.hub.ids import MAIN, Found, find, find_model, is_empty

PAGE = 1000
"""Rows of one answer; the header Link says where the next ones are."""

_YES = {"true", "1", "yes"}


async def tree(context: Context, request: Request) -> Response:
    """Answer ``/api/models/{id}/tree/{revision}[/{path}]``."""
    return await context.run(_tree, context, request)


def _tree(context: Context, request: Request) -> Response:
    query = request.query_params
    path = request.path_params.get("path", "").strip("/")
    if not path and _is_unborn(context, request):
        return JSONResponse([])
    found = find(context, request)
    rows = entries(
        found, path, recursive=is_yes(query.get("recursive")), expand=is_yes(query.get("expand"))
    )
    begin = int(query.get("cursor", "0")) if query.get("cursor", "0").isdecimal() else 0
    headers = {}
    if len(rows) > begin + PAGE:
        following = urlencode({**query, "cursor": begin + PAGE})
        headers["Link"] = f'<{request.url.replace(query=following)}>; rel="next"'
    return JSONResponse(rows[begin : begin + PAGE], headers=headers)


def _is_unborn(context: Context, request: Request) -> bool:
    """Tell whether a request is about the main branch of a line that has no version yet."""
    revision = request.path_params["revision"]
    return bool(revision == MAIN) and is_empty(context, find_model(context, request))


def is_yes(text: str | None) -> bool:
    """Tell whether a flag of a query is set."""
    return (text or "").lower() in _YES


def entries(found: Found, path: str, *, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    """Return what is below a directory of a version, sorted by path.

    Args:
        path: "" is the version's own directory.
        recursive: with what is below the directories in it.
        expand: with the commit of each.

    Raises:
        Refused: there is no such directory.
    """
    directories = git.directories(found.manifest.files)
    if path not in {directory.path for directory in directories}:
        found.file(path)  # raises unless it is one
        raise Refused(404, f"{path!r} is a file", "EntryNotFound", {"X-Repo-Commit": found.commit})
    begin = f"{path}/" if path else ""
    everything: Sequence[FileEntry | git.Directory] = [*found.manifest.files, *directories[1:]]
    below = (
        one
        for one in everything
        if one.path.startswith(begin) and (recursive or "/" not in one.path[len(begin) :])
    )
    return rows(found, below, expand=expand)


def rows(
    found: Found, entries: Iterable[FileEntry | git.Directory], *, expand: bool
) -> list[dict[str, Any]]:
    """Return files and directories as clients read them, sorted by path."""
    last = as_last_commit(found.resolved.entry) if expand else None
    listed = [_row(entry) for entry in sorted(entries, key=lambda entry: entry.path)]
    return [{**row, "lastCommit": last} for row in listed] if last else listed


def _row(entry: FileEntry | git.Directory) -> dict[str, Any]:
    if isinstance(entry, git.Directory):
        return {"type": "directory", "path": entry.path, "size": 0, "oid": entry.oid}
    row: dict[str, Any] = {"type": "file", "path": entry.path, "size": entry.size}
    row["oid"] = git.oid(entry)
    if git.is_lfs(entry):
        size = len(git.pointer(entry))
        row["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
    return row
