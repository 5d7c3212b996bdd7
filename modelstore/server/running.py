"""Runs the app on a socket until somebody stops it."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from modelstore.errors import ConflictError, StoreError, UsageError
from modelstore.server import limits
from modelstore.server.settings import ServeSettings

_BACKLOG = 256
_STOP_SECONDS = 3
"""What answers have to end once the server is to stop."""


def bind(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens where the settings say.

    Raises:
        ConflictError: another program listens there.
        UsageError: the host is none of this machine.
        StoreError: the system does not allow it.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # asyncio sets it only on sockets that name their protocol, which these do not; without it
        # a head and its small body come 40 ms apart (Nagle's algorithm against delayed ACKs)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"another program listens on port {port} of {host}",
                "choose another port: mstore serve --port 0 takes any that is free",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise StoreError(
                f"the system does not let you listen on port {port}",
                "choose one above 1023: mstore serve --port 7878",
            ) from error
        raise UsageError(
            f"cannot listen on {host!r}: {os.strerror(error.errno or 0)}",
            "give an address of this machine: mstore serve --host 127.0.0.1",
        ) from error


def url_of(listening: socket.socket, settings: ServeSettings) -> str:
    """Return the URL for clients on this machine."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host  # noqa: S104
    port = int(listening.getsockname()[1])
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server(app: Starlette, settings: ServeSettings) -> uvicorn.Server:
    """Return what serves ``app`` once its ``run`` is given the sockets that listen."""
    # It says nothing itself: what a person should know goes through the app's `report`.
    logging.getLogger("uvicorn.error").disabled = True
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=limits.protocol(settings.connections),
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=limits.HEAD_BYTES,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
    )


def run(
    app: Starlette,
    settings: ServeSettings,
    listening: socket.socket,
    started: Callable[[str], None],
) -> None:
    """Serve until a signal or Ctrl-C ends it; answers that take too long then are cut short.

    Args:
        started: is given the URL, just before the first request can be answered.
    """
    try:
        started(url_of(listening, settings))
        server(app, settings).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn has stopped in order, and passes on what stopped it
        pass
    finally:
        listening.close()
