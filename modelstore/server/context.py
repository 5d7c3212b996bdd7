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
from modelstore.server.kept import Kept
from modelstore.server.settings import ServeSettings
from modelstore.state import Entry
from modelstore.store import Store

Args = ParamSpec("Args")
Result = TypeVar("Result")

_THREADS = 16
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
        report: is given a line that the person at the terminal should see.

    Args:
        store: what is served.
        settings: how.
        report: where lines go.
    """

    def __init__(
        self, store: Store, settings: ServeSettings, report: Callable[[str], None] | None = None
    ) -> None:
        self.store = store
        self.settings = settings
        self.streams = Streams(store.blobs)
        self.report = report or _unheard
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mstore-serve")
        self._manifests: Kept[Manifest] = Kept(_MOST_SPANS, _spans)
        self._small: Kept[bytes] = Kept(_MOST_SMALL, len)

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Return what a function that reads or computes returns; it runs in a thread of ours."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))

    def manifest(self, model: ModelName, entry: Entry) -> Manifest:
        """Return the manifest of a version; see `Store.manifest`."""
        key = str(entry.id)
        return self._manifests.get(key, lambda: self.store.manifest(model, entry))

    def small_file(self, file: FileEntry) -> bytes:
        """Return the bytes of a file; for small ones only, they are kept."""
        return self._small.get(file.blake3, lambda: b"".join(self.streams.read(file)))

    def close(self) -> None:
        """End the threads and close the frames."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.streams.close()


def _unheard(_: str) -> None:
    """Do nothing."""


def _spans(manifest: Manifest) -> int:
    return 1 + sum(1 + len(file.spans) for file in manifest.files)
