"""Takes the body of a request as it comes, onto the disk and never into memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request

from modelstore import disk
from modelstore.hashing import Bytes
from modelstore.server.context import Context
from modelstore.server.inbox import Inbox
from modelstore.server.limits import pieces

_PIECE = 1 << 20
"""Bytes that are written at once."""


async def take_body(
    context: Context,
    request: Request,
    inbox: Inbox,
    most: int,
    take: Callable[[bytes], Bytes] = bytes,
) -> Path:
    """Write the body of a request to a new file of ``inbox`` and return that.

    Args:
        most: bytes that the body may have.
        take: is given the body piece by piece; what it returns is written.

    Raises:
        Refused: the body is larger, or does not come.
        DiskFullError: there is no room; nothing is left of it.
    """
    declared = request.headers.get("content-length", "")
    path = inbox.new_path()
    await context.run(inbox.require_room, int(declared) if declared.isdecimal() else 0)
    file = await context.run(disk.NewFile, path)
    try:
        waiting = bytearray()
        async for piece in pieces(request, most):
            waiting += piece
            if len(waiting) >= _PIECE:
                await context.run(_write, file, take, bytes(waiting))
                inbox.note_use()
                waiting.clear()
        await context.run(_write, file, take, bytes(waiting))
        await context.run(file.close, sync=False)
    except BaseException:
        file.discard()
        raise
    return path


def _write(file: disk.NewFile, take: Callable[[bytes], Bytes], piece: bytes) -> None:
    file.write(take(piece))
