"""The bytes of a file as an answer: decoded as the client takes them, and no faster.

For a client that pauses nothing is kept but one chunk: what was decoded ahead is let go, and decoded
again once it goes on. One that has gone is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.responses import Response

from modelstore.hashing import Bytes
from modelstore.manifest import FileEntry
from modelstore.server.context import Context
from modelstore.server.ranges import Window
from modelstore.server.security import Receive, Send

CHUNK = 1 << 20
"""Bytes that are given to a connection at once."""

PAUSE_SECONDS = 1.0
"""After so long without taking a chunk a client is slow, and nothing is kept decoded for it."""


class Content(Response):
    """A window of a file, as an answer with the length and the range that it has.

    Raises, before anything was sent, whatever `Streams.read` does for the first piece. An error
    later on ends the connection before all bytes are there, which every client notices.

    Args:
        context: the server's.
        file: of a version.
        part: what of it.
        headers: those that say which file it is.
    """

    def __init__(
        self, context: Context, file: FileEntry, part: Window, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status_code=206 if part.partial else 200, headers=dict(headers))
        self.headers["Content-Length"] = str(part.length)
        if part.partial:
            self.headers["Content-Range"] = part.content_range
        self._feed = _Feed(context, file, part.stop)
        self._part = part

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Send the answer; return early where the client has gone."""
        position, stop = self._part.start, self._part.stop
        listener = asyncio.get_running_loop().create_task(_disconnection(receive))
        try:
            chunk = await self._feed.chunk(position)
            status = self.status_code
            await send(
                {"type": "http.response.start", "status": status, "headers": self.raw_headers}
            )
            while chunk and not listener.done():
                position += len(chunk)
                await self._send(send, chunk, more=position < stop)
                chunk = await self._feed.chunk(position)
            if not self._part.length:
                await self._send(send, b"", more=False)
        finally:
            listener.cancel()
            self._feed.let_go()

    async def _send(self, send: Send, chunk: bytes, *, more: bool) -> None:
        pause = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._feed.let_go)
        try:
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        finally:
            pause.cancel()


class _Feed:
    """Chunks of a file up to some position; what is decoded can be let go between two of them.

    While one piece is sent the next is made ready.
    """

    def __init__(self, context: Context, file: FileEntry, stop: int) -> None:
        self._context = context
        self._file = file
        self._stop = stop
        self._pieces: Generator[Bytes, None, None] | None = None
        self._coming: asyncio.Task[Bytes] | None = None
        self._rest = memoryview(b"")

    async def chunk(self, position: int) -> bytes:
        """Return the next bytes, from ``position`` on; none at the end."""
        if position >= self._stop:
            return b""
        if not self._rest:
            self._rest = memoryview(await self._next(position))
        chunk = bytes(self._rest[:CHUNK])
        self._rest = self._rest[CHUNK:]
        return chunk

    async def _next(self, position: int) -> Bytes:
        """Return the piece that begins at ``position``, and have the one after it made."""
        if self._pieces is None:
            self._pieces = self._context.streams.read(self._file, position, self._stop)
        coming, self._coming = self._coming or self._ask(self._pieces), None
        piece = await coming
        if position + len(piece) < self._stop:
            self._coming = self._ask(self._pieces)
        return piece

    def _ask(self, pieces: Generator[Bytes, None, None]) -> asyncio.Task[Bytes]:
        return asyncio.get_running_loop().create_task(self._context.run(next, pieces))

    def let_go(self) -> None:
        """Forget what is decoded, and what is being."""
        pieces, coming = self._pieces, self._coming
        self._pieces = self._coming = None
        self._rest = memoryview(b"")
        if coming is not None and not coming.done():
            coming.add_done_callback(lambda done: _close(pieces, done))
        else:
            _close(pieces, coming)


def _close(pieces: Generator[Bytes, None, None] | None, last: asyncio.Task[Bytes] | None) -> None:
    """End a stream whose ``last`` piece, or error, nobody wants any more."""
    if last is not None and not last.cancelled():
        last.exception()  # looked at, so that asyncio does not report it as overlooked
    if pieces is not None:
        with suppress(ValueError):  # a thread is in it still, as when the server is stopped
            pieces.close()


async def _disconnection(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
