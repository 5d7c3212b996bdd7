"""A network that fails: an HTTP proxy between a client and a real server, which breaks things."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_OWN_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Fault:
    """What is done to one request; the fields that are set are done.

    Attributes:
        delay: seconds before the request is passed on.
        reset_request_at: bytes of the body after which the client is reset; the server gets nothing.
        status: answered in the server's place.
        lose_reply: the server does what was asked, and the client is reset.
        twice: the server gets the request twice; the client gets the second answer.
        reset_reply_at: bytes of the answer's body after which the client is reset.
        cut_reply_at: bytes of the answer's body that are passed on as if they were all of it.
    """

    delay: float = 0
    reset_request_at: int | None = None
    status: int = 0
    lose_reply: bool = False
    twice: bool = False
    reset_reply_at: int | None = None
    cut_reply_at: int | None = None


@dataclass(frozen=True)
class Request:
    """A request that came, in the order of their coming."""

    method: str
    path: str
    sent: int


Plan = Callable[[int, Request], Fault | None]


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        url: where it listens.
        upstream: host and port of the server.
        plan: tells what to do to a request, from its number since `begin` and itself.
        requests: those since `begin`.
    """

    url: str
    upstream: str
    plan: Plan = lambda number, request: None
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, plan: Plan = lambda number, request: None) -> None:
        """Count anew from 0, and follow ``plan``."""
        with self.lock:
            self.requests.clear()
            self.plan = plan

    def take(self, request: Request) -> Fault:
        """Note ``request``; return what is to be done to it."""
        with self.lock:
            self.requests.append(request)
            return self.plan(len(self.requests) - 1, request) or Fault()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        fault = self.proxy.take(Request(self.command, self.path, size))
        time.sleep(fault.delay)
        if fault.reset_request_at is not None:
            self.rfile.read(min(size, fault.reset_request_at))
            return self._reset()
        body = self.rfile.read(size)
        if fault.status:
            return self._answer(fault.status, [("Retry-After", "0")], b"<Error/>")
        if fault.twice:
            self._ask(body)
        try:
            status, headers, content = self._ask(body)
        except OSError:
            return self._reset()
        if fault.lose_reply:
            return self._reset()
        if fault.cut_reply_at is not None:
            content = content[: fault.cut_reply_at]
        return self._answer(status, headers, content, fault.reset_reply_at)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except http.client.HTTPException as error:
            raise OSError("the server broke off") from error
        finally:
            connection.close()

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        reset_at: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        announced = {name.lower(): value for name, value in headers}.get("content-length")
        length = announced if self.command == "HEAD" and announced else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content[:reset_at])
            if reset_at is not None:
                time.sleep(0.02)  # or the reset would overtake what was written
                self._reset()

    def _reset(self) -> None:
        """Break the connection so that the client sees an error, not an end."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  (names of the library)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients break connections here all the time."""


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of the server at the URL ``upstream``."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}", urlsplit(upstream).netloc)
    handler.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
