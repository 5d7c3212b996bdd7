"""Commits: files that came before, or come now, are put on top of a version.

The body is a line of JSON for each file, read one at a time; its format is that of the Hub's API.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore import disk
from modelstore.hashing import GIT_SHA1_LIMIT
from modelstore.manifest import FileEntry
from modelstore.names import parse_path
from modelstore.ops.draft import CommitOptions
from modelstore.ops.publish import OutdatedPointerError
from modelstore.ops.resolve import Resolved
from modelstore.ops.tree import Found
from modelstore.ops.upload import Changed, upload
from modelstore.server.address import base_url
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.hub.ids import commit_id, repo_of
from modelstore.server.hub.json_body import json_object, text_of
from modelstore.server.hub.target import Target, known_files, target
from modelstore.server.inbox import Inbox, remove_files
from modelstore.server.limits import pieces
from modelstore.server.security import require_write

AUTHOR = "hub upload"
"""Who made a version that was uploaded: there is one token, and nobody's name."""

_MOST_BODY = 4 << 30
_MOST_LINE = GIT_SHA1_LIMIT * 4 // 3 + (1 << 20)
"""Bytes of a line: a file that is not large, in base64, and its path."""

_MOST_MESSAGE = 64 << 10
_MOST_STEPS = 25_000
_ATTEMPTS = 4
"""How often an upload is put on top of what somebody else was faster with."""

_DELETED = {"deletedFile": False, "deletedFolder": True, "deletedEntry": False}


@dataclass(slots=True)
class _Asked:
    """What a commit asks for.

    Attributes:
        message: why.
        parent: the commit that it must go on top of; "" for any.
        steps: what happens to which path, in order: bytes that came with the commit, the SHA-256
            of a large file, or None where it is removed; folders end in a slash.
        came: files that came with the commit.
    """

    message: str = ""
    parent: str = ""
    steps: list[tuple[str, Path | str | None]] = field(default_factory=list)
    came: list[Path] = field(default_factory=list)


async def commit(context: Context, request: Request) -> Response:
    """Answer ``POST /api/models/{id}/commit/{revision}``."""
    require_write(request, context.settings)
    goal = await context.run(target, context, request)
    inbox = await context.run(context.inboxes.of, goal.model)
    asked = _Asked()
    try:
        async for line in _lines(request):
            await context.run(_take, inbox, asked, line)
        made = await context.take(partial(_commit, context, request, inbox, asked))
    finally:
        await context.run(remove_files, asked.came)
    oid = commit_id(made.entry)
    url = f"{base_url(request)}/{repo_of(request)}/commit/{oid}"
    return JSONResponse({"success": True, "commitUrl": url, "commitOid": oid, "hookOutput": ""})


async def _lines(request: Request) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in pieces(request, _MOST_BODY):
        at = len(waiting)
        waiting += piece
        while (end := waiting.find(b"\n", at)) >= 0:
            line = bytes(waiting[:end]).strip()
            del waiting[: end + 1]
            at = 0
            if line:
                yield line
        if len(waiting) > _MOST_LINE:
            raise Refused(413, f"a line of the commit has over {_MOST_LINE} bytes")
    if waiting.strip():
        yield bytes(waiting)


# --- what is asked for


def _take(inbox: Inbox, asked: _Asked, line: bytes) -> None:
    """Add one line to what is asked for."""
    row = json_object(line)
    key, value = row.get("key"), row.get("value")
    if not isinstance(key, str) or not isinstance(value, dict):
        raise Refused(400, "a line of the commit has no key, or no value")
    if key == "header":
        _take_header(asked, value)
        return
    if len(asked.steps) == _MOST_STEPS:
        raise Refused(413, f"a commit has over {_MOST_STEPS:,} files; make several of it")
    path = text_of(value, "path")
    if key in _DELETED:
        folder = _DELETED[key] or path.endswith("/")
        path = parse_path(path.strip("/"))
        asked.steps.append((f"{path}/" if folder else path, None))
    elif key == "file":
        asked.steps.append((parse_path(path), _content(inbox, asked, value)))
    elif key == "lfsFile":
        asked.steps.append((parse_path(path), text_of(value, "oid")))
    else:
        raise Refused(400, f"a commit cannot have {key!r} here")


def _take_header(asked: _Asked, value: dict[str, Any]) -> None:
    title, more = text_of(value, "summary").strip(), text_of(value, "description").strip()
    asked.message = f"{title}\n\n{more}" if more else title
    asked.parent = text_of(value, "parentCommit").lower()
    if len(asked.message) > _MOST_MESSAGE:
        raise Refused(400, f"the message has over {_MOST_MESSAGE} characters")


def _content(inbox: Inbox, asked: _Asked, value: dict[str, Any]) -> Path:
    """Write a file that came with the commit, and return where it lies."""
    said, encoding = text_of(value, "content"), text_of(value, "encoding") or "utf-8"
    try:
        data = base64.b64decode(said, validate=True) if encoding == "base64" else said.encode()
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "the content of a file is not base64") from error
    inbox.require_room(len(data))
    path = inbox.new_path()
    asked.came.append(path)
    with disk.NewFile(path) as file:
        file.write(data)
    return path


# --- what is made of it


def _commit(context: Context, request: Request, inbox: Inbox, asked: _Asked) -> Resolved:
    """Make the version; where somebody was faster, on top of theirs, unless that was ruled out."""
    with inbox.committing:
        for attempt in range(_ATTEMPTS):
            goal = target(context, request)
            if asked.parent and not goal.commit.startswith(asked.parent):
                raise _outdated(goal, asked)
            changed = _changed(context, inbox, goal, asked)
            options = CommitOptions(message=asked.message, author=AUTHOR)
            try:
                made = upload(context.store, goal.model, changed, options)
            except OutdatedPointerError as error:
                if asked.parent:
                    raise _outdated(goal, asked) from error
                if attempt + 1 == _ATTEMPTS:
                    raise
                continue
            inbox.committed([found.source for found in changed.added])
            return made
    raise AssertionError("the last attempt returns or raises")


def _outdated(goal: Target, asked: _Asked) -> Refused:
    now = goal.commit or "nothing"
    return Refused(
        412, f"{goal.model} has changed since: it is {now}, and parent_commit is {asked.parent}"
    )


def _changed(context: Context, inbox: Inbox, goal: Target, asked: _Asked) -> Changed:
    """Return the files of the next version."""
    kept: dict[str, FileEntry] = dict(goal.files)
    added: dict[str, Path] = {}
    for path, content in asked.steps:
        if content is None:
            _delete(goal, kept, added, path)
            continue
        source = content if isinstance(content, Path) else inbox.file(content)
        if source is not None:
            kept.pop(path, None)
            added[path] = source
            continue
        entry = _known(context, goal, str(content), path)
        added.pop(path, None)
        mode = kept[path].executable if path in kept else False
        kept[path] = replace(entry, path=path, executable=mode)
    found = [_found(path, source) for path, source in sorted(added.items())]
    return Changed(goal.parent, goal.pointer, tuple(kept.values()), tuple(found))


def _delete(goal: Target, kept: dict[str, FileEntry], added: dict[str, Path], path: str) -> None:
    gone = [path] if path in kept or path in added else []
    if path.endswith("/"):
        gone = [name for name in (*kept, *added) if name.startswith(path)]
    if not gone:
        raise Refused(
            404,
            f"A file with this name doesn't exist: {path!r} is not in {goal.parent or goal.model}",
            "EntryNotFound",  # and the Hub's words: clients explain how to name a folder
        )
    for name in gone:
        kept.pop(name, None)
        added.pop(name, None)


def _known(context: Context, goal: Target, sha256: str, path: str) -> FileEntry:
    """Return a file of the line that has this SHA-256, which so need not be sent."""
    everything = known_files(context, goal, most=1 << 30)
    for entry in everything:
        if entry.sha256 == sha256:
            return entry
    raise Refused(400, f"the content of {path!r} did not come; upload it again")


def _found(path: str, source: Path) -> Found:
    return Found(path, source, source.stat().st_size, executable=False)
