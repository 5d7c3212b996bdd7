"""A server of our own, on a socket of its own, in a thread; and a small client that says everything."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from modelstore.server.app import create_app
from modelstore.server.running import bind, server, url_of
from modelstore.server.settings import ServeSettings
from modelstore.store import Store

TOKEN = "hf_" + "0123456789abcdef" * 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Live:
    """A server that runs; ``reports`` and ``notes`` are what its terminal would show."""

    url: str
    port: int
    reports: list[str]
    notes: list[str] = field(default_factory=list)

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send one request exactly as given and return the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            body = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)
        finally:
            connection.close()


@contextmanager
def serving(store: Store, **values: Any) -> Iterator[Live]:
    """Serve a store for the length of the block."""
    settings = ServeSettings(**{"port": 0, **values})
    reports: list[str] = []
    notes: list[str] = []
    with bind(settings) as listening:
        running = server(create_app(store, settings, reports.append, notes.append), settings)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.005)
            yield Live(url_of(listening, settings), listening.getsockname()[1], reports, notes)
        finally:
            running.should_exit = True
            thread.join()
