"""What every answer of a server is made from: the store, the settings, and the threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from modelstore.manifest import FileEntry, Manifest
from modelstore.names import ModelName
from modelstore.ops.stream import Streams
from modelstore.server.comparing import Comparisons
from modelstore.server.inbox import Inboxes
from modelstore.server.kept import Kept
from modelstore.server.permits import Permits
from modelstore.server.sessions import Sessions
from modelstore.server.settings import ServeSettings
from modelstore.state import Entry
from modelstore.store import Store

Args = ParamSpec("Args")
Result = TypeVar("Result")

_THREADS = 16
_TAKING = 8
"""Threads for what others push, which may take long."""

_MOST_SPANS = 200_000
"""Spans of manifests that are kept; one takes some 500 bytes."""

_MOST_SMALL = 16 << 20
"""Bytes of small files that are kept."""


class Context:
    """What every answer is made from.

    Registries change under a running server, so they are read anew for every request; what goes by
    a digest is kept.

    Attributes:
        store, settings: the server's.
        streams: reads files.
        comparisons: of versions, being made or kept.
        sessions: who has signed in with a browser.
        inboxes: what was uploaded and not committed yet.
        permits: what clients may do without saying the token.
        report: is given a line that the person at the terminal should see: what went wrong.
        note: is given a line on what was done.

    Args:
        store: what is served.
        settings: how.
        report, note: where lines go.
    """

    def __init__(
        self,
        store: Store,
        settings: ServeSettings,
        report: Callable[[str], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.streams = Streams(store.blobs)
        self.comparisons = Comparisons(store)
        self.sessions = Sessions()
        self.inboxes = Inboxes(store)
        self.permits = Permits()
        self.report = report or _unheard
        self.note = note or _unheard
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mstore-serve")
        self._taking = ThreadPoolExecutor(_TAKING, thread_name_prefix="mstore-take")
        self._manifests: Kept[Manifest] = Kept(_MOST_SPANS, _spans)
        self._small: Kept[bytes] = Kept(_MOST_SMALL, len)

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Return what a function that reads or computes returns; it runs in a thread of ours."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))

    async def take(self, function: Callable[[], Result]) -> Result:
        """Return what a function that takes what was pushed returns; few run at once."""
        return await asyncio.get_running_loop().run_in_executor(self._taking, function)

    def manifest(self, model: ModelName, entry: Entry) -> Manifest:
        """Return the manifest of a version; see `Store.manifest`."""
        key = str(entry.id)
        return self._manifests.get(key, lambda: self.store.manifest(model, entry))

    def small_file(self, file: FileEntry) -> bytes:
        """Return the bytes of a file; for small ones only, they are kept."""
        return self._small.get(file.blake3, lambda: b"".join(self.streams.read(file)))

    def close(self) -> None:
        """End the threads and close the frames."""
        self._taking.shutdown(wait=True, cancel_futures=True)
        self.comparisons.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.inboxes.close()
        self.streams.close()


def _unheard(_: str) -> None:
    """Do nothing."""


def _spans(manifest: Manifest) -> int:
    return 1 + sum(1 + len(file.spans) for file in manifest.files)
