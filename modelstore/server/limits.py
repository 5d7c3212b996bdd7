"""Bounds on what a client may take: connections, the time for a request, the size of a body.

Slow clients may be slow as long as they take or send something; one that only holds a connection
gives it up to others. uvicorn has no deadline for the head of a request, so it is set here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from modelstore.server.errors import Refused

HEAD_SECONDS = 20.0
"""What a client has for the head of a request."""

BODY_SECONDS = 30.0
"""What a client has for each piece of a body."""

BODY_RATE = 1 << 10
"""Bytes a second that a body must have on average, once it has taken a minute."""

STALL_SECONDS = 60.0
"""After so long without taking anything a client is cut off."""

HEAD_BYTES = 64 << 10
"""Of the head of a request."""

BODY_BYTES = 1 << 20
"""Of the body of a request that only asks."""


def protocol(
    most: int, head_seconds: float = HEAD_SECONDS, stall_seconds: float = STALL_SECONDS
) -> type[asyncio.Protocol]:
    """Return a protocol for uvicorn that keeps at most so many connections.

    The one that has been waiting for a request for the longest makes room for a new one; while all
    of them are being answered, the new one is turned away.

    Args:
        most: connections that are open at once.
        head_seconds: what each has for the head of a request.
        stall_seconds: how long each may leave what it is sent.
    """
    waiting: dict[_Bounded, asyncio.TimerHandle] = {}

    class Bounded(_Bounded):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.most, self.waiting = most, waiting
            self.head_seconds, self.stall_seconds = head_seconds, stall_seconds

    return Bounded


class _Bounded(H11Protocol):
    """A connection; ``waiting`` are all those from which no whole head of a request has come."""

    most: int
    head_seconds: float
    stall_seconds: float
    waiting: dict[_Bounded, asyncio.TimerHandle]
    stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            longest = next(iter(self.waiting), self)
            longest.transport.abort()
            longest.stop_waiting()
            if longest is self:
                return
        self.start_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_waiting()
        self._stop_stalling()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client leaves what it was sent."""
        self._stop_stalling()
        self.stalled = self.loop.call_later(self.stall_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._stop_stalling()
        super().resume_writing()

    def _stop_stalling(self) -> None:
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self.start_waiting()
        else:
            self.stop_waiting()

    def on_response_complete(self) -> None:
        """Let the time for the next request begin, which uvicorn's own for silence may cut short."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self.start_waiting()

    def start_waiting(self) -> None:
        """Let the time for the head of a request begin, unless it has."""
        if self not in self.waiting and not self.transport.is_closing():
            self.waiting[self] = self.loop.call_later(self.head_seconds, self.transport.abort)

    def stop_waiting(self) -> None:
        """The head is here, or the client gone."""
        timer = self.waiting.pop(self, None)
        if timer is not None:
            timer.cancel()


async def read_body(
    request: Request, most: int = BODY_BYTES, seconds: float = BODY_SECONDS
) -> bytes:
    """Return the body of a request.

    Args:
        most: bytes that it may have.
        seconds: how long any piece of it may take.

    Raises:
        Refused: it is larger, or does not come.
    """
    body = bytearray()  # a list of pieces of a byte each would take forty times as much
    async for piece in pieces(request, most, seconds):
        body += piece
    return bytes(body)


async def pieces(
    request: Request, most: int, seconds: float = BODY_SECONDS
) -> AsyncIterator[bytes]:
    """Yield the body of a request as it comes.

    Args:
        most: bytes that it may have.
        seconds: how long any piece of it may take.

    Raises:
        Refused: it is larger, or does not come.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    size = 0
    waited = 0.0
    stream = request.stream().__aiter__()
    while True:
        began = time.monotonic()
        try:
            piece = await asyncio.wait_for(stream.__anext__(), seconds)
        except StopAsyncIteration:
            return
        except (asyncio.TimeoutError, ClientDisconnect) as error:
            raise Refused(408, "the body did not come", headers=_CLOSE) from error
        size += len(piece)
        waited += time.monotonic() - began
        if size > most:
            raise _too_large(most)
        if waited > 2 * seconds + size / BODY_RATE:
            raise Refused(408, "the body comes too slowly", headers=_CLOSE)
        yield piece


_CLOSE = {"Connection": "close"}


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body has more than {most} bytes", headers=_CLOSE)
