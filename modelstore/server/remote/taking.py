"""What is put: frames, records, the list of models, and registries; each checked before it counts.

A frame goes through memory a piece at a time, and is decoded by a thread of its own, of which there
are a few: those who push wait for each other, and never for those who read, nor these for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from modelstore import disk
from modelstore.blobs.closure import Closure
from modelstore.errors import (
    BadNameError,
    ConflictError,
    DiskFullError,
    IntegrityError,
    NewerFormatError,
    StoreError,
)
from modelstore.hashing import Digest
from modelstore.ops.elsewhere import IDENTITY
from modelstore.ops.offered import (
    RECORD_LIMIT,
    FrameKey,
    RecordKey,
    RegistryKey,
    kind_of,
)
from modelstore.ops.receive import (
    OutdatedError,
    check_record,
    take_frames,
    take_models,
    take_records,
    take_registry,
)
from modelstore.remotes.base import SWAP_LIMIT, Tag
from modelstore.server import limits
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.remote.grouped import Grouped
from modelstore.server.remote.values import key_in
from modelstore.server.security import require_write
from modelstore.sizes import human_size
from modelstore.store import Store

_GATHERED = 1 << 20
"""Bytes that are handed from the connection to a thread at once, about."""

_DRAINED = 64 << 20
_DRAIN_SECONDS = 5.0
"""Up to how many bytes a body that is not taken is read to its end, and for how long."""


class Taking:
    """Answers those who put something.

    Args:
        context: the server's.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self._coming: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()
        self._small = Grouped(self._context.take, self._take_small)
        self._records = Grouped(self._context.take, self._take_records)

    async def take(self, request: Request) -> Response:
        """Answer PUT of a key."""
        require_write(request, self._context.settings)
        key = key_in(request)
        kind = _kind(key)
        if isinstance(kind, FrameKey):
            return await self._frame(key, kind.digest, request)
        if isinstance(kind, RecordKey):
            return await self._record(key, kind, request)
        if kind == IDENTITY:
            raise Refused(412, f"'{IDENTITY}' is here, and stays")
        return await self._swap(kind, request)

    async def refuse(self, request: Request) -> Response:
        """Answer DELETE and POST of a key: what is here stays."""
        headers = {"Allow": "GET, HEAD, PUT"}
        raise Refused(405, "a server removes nothing for others", headers=headers)

    async def _record(self, key: str, kind: RecordKey, request: Request) -> Response:
        _require_new(request)
        payload = await limits.read_body(request, RECORD_LIMIT)
        with _refusals():
            check_record(kind, payload)
            new = await self._records.take((kind, payload))
        return _created() if new else _there(key)

    def _take_records(self, records: Sequence[tuple[RecordKey, bytes]]) -> Sequence[bool]:
        wanted = dict(records)  # two may push the same one at once
        taken = dict(zip(wanted, take_records(self._store, wanted), strict=True))
        return [taken[key] for key, _ in records]

    async def _swap(self, kind: RegistryKey | str, request: Request) -> Response:
        expected = _expected(request)
        data = await limits.read_body(request, SWAP_LIMIT)
        if isinstance(kind, str):
            with _refusals():
                tag = await self._context.take(lambda: take_models(self._store, data, expected))
            return Response(status_code=204, headers={"ETag": tag})
        model = kind.model
        with _refusals():
            tag, pulled = await self._context.take(
                lambda: take_registry(self._store, model, data, expected)
            )
        if pulled is not None:
            versions = ", ".join(pulled.versions)
            self._context.note(f"{model} was pushed" + (f": {versions}" if versions else ""))
        return Response(status_code=204, headers={"ETag": tag})

    async def _frame(self, key: str, digest: Digest, request: Request) -> Response:
        _require_new(request)
        size = request.headers.get("content-length", "")
        if not size.isdecimal() or len(size) > 18:
            raise Refused(411, "say how long it is: Content-Length")
        # of two that come at once the second would be encoded anew, as if its chain did not fit
        async with self._coming.setdefault(digest, asyncio.Lock()):
            try:
                await self._context.run(_require_room, self._store, digest, int(size))
            except (Refused, DiskFullError):
                if int(size) <= _DRAINED:
                    await _drain(request)
                raise
            new = await self._come(digest, request, int(size))
        return _created() if new else _there(key)

    async def _come(self, digest: Digest, request: Request, size: int) -> bool:
        """Take a frame whose body was not touched yet; return whether it was not here."""
        if size <= _GATHERED:
            data = await limits.read_body(request, _GATHERED)
            with _refusals(again=True):
                return await self._small.take((digest, data))
        body = _Body(request, size, asyncio.get_running_loop())
        try:
            with _refusals(again=True):
                return await self._context.take(
                    lambda: take_frames(self._store, {digest: body.pieces()})[0]
                )
        finally:
            body.end()

    def _take_small(self, frames: Sequence[tuple[Digest, bytes]]) -> Sequence[bool]:
        return take_frames(self._store, {digest: iter((data,)) for digest, data in frames})


@contextmanager
def _refusals(*, again: bool = False) -> Iterator[None]:
    """Turn what is wrong with something that was put into refusals.

    Args:
        again: what conflicts is only in the way of another that comes at the same moment.
    """
    try:
        yield
    except OutdatedError as error:
        raise Refused(412, error.message) from error
    except (IntegrityError, NewerFormatError) as error:
        raise Refused(422, error.message) from error
    except ConflictError as error:
        if again and error.__cause__ is None:
            raise Refused(503, error.message, headers={"Retry-After": "0"}) from error
        raise


def _kind(key: str) -> FrameKey | RecordKey | RegistryKey | str:
    try:
        kind = kind_of(key)
    except BadNameError as error:
        raise Refused(404, "there is no such key") from error
    if kind is None:
        raise Refused(404, "there is no such key")
    return kind


def _expected(request: Request) -> Tag | None:
    """Return the tag of the value that is to be replaced; None where there is to be none."""
    match, none_match = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if match is not None and none_match is None:
        return Tag(match.strip())
    if match is None and none_match == "*":
        return None
    raise Refused(428, "say what it replaces: If-Match with its ETag, or If-None-Match: *")


# --- frames


def _require_room(store: Store, digest: Digest, size: int) -> None:
    """Raise where a frame is here, or cannot fit."""
    closure = Closure(store.blobs)
    with suppress(StoreError):  # damage is said when it is taken
        if not closure.absent(closure.of([digest])):
            raise Refused(412, f"blob '{digest}' is here already")
    free = disk.free_space(store.meta)
    if size > free:
        raise DiskFullError(f"the frame has {human_size(size)}, and {human_size(free)} are free")


async def _drain(request: Request) -> None:
    """Read what a client still sends: only then it looks at an answer."""

    async def drain() -> None:
        async for _ in request.stream():
            pass

    with suppress(ClientDisconnect, asyncio.TimeoutError):
        await asyncio.wait_for(drain(), _DRAIN_SECONDS)


class _Body:
    """The body of a request for a thread that takes it as fast as it can, and no faster.

    Args:
        request: its body was not touched yet.
        size: the bytes that it has.
        loop: the one that the request came by.
    """

    def __init__(self, request: Request, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = limits.pieces(request, size)
        self._loop = loop
        self._next: Future[bytes] | None = None
        self._ended = False

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, in a thread.

        Raises:
            Refused: it does not come to its end.
        """
        while piece := self._ask():
            yield piece

    def _ask(self) -> bytes:
        if self._ended:
            raise _broken_off()
        self._next = asyncio.run_coroutine_threadsafe(self._gather(), self._loop)
        try:
            return self._next.result()
        except CancelledError as error:
            raise _broken_off() from error

    async def _gather(self) -> bytes:
        gathered = bytearray()
        async for piece in self._stream:
            gathered += piece
            if len(gathered) >= _GATHERED:
                break
        return bytes(gathered)

    def end(self) -> None:
        """Let no thread wait for more of it."""
        self._ended = True
        if self._next is not None:
            self._next.cancel()


def _broken_off() -> Refused:
    return Refused(408, "the body did not come", headers={"Connection": "close"})


def _require_new(request: Request) -> None:
    if request.headers.get("if-none-match") != "*":
        raise Refused(428, "what is here is never replaced: say If-None-Match: *")


def _created() -> Response:
    return Response(status_code=201)


def _there(key: str) -> Response:
    raise Refused(412, f"'{key}' is here already")
