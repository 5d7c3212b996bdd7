"""What was uploaded and not committed yet: files of a line, below the store's `tmp/`.

It is staging as any other: a lock that dies with the server tells others that it is alive, and what
a killed server leaves is removed by the next commit or gc. Nothing in it is durable, nor need be:
whoever uploaded a file has it until it was committed.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from modelstore import disk
from modelstore.blobs import remove_abandoned
from modelstore.blobs.staging import Staging
from modelstore.errors import DiskFullError, StoreError
from modelstore.names import ModelName
from modelstore.ops.room import require_writable
from modelstore.sizes import human_size
from modelstore.store import Store

KEPT_SECONDS = 3600.0
"""How long an upload is kept of which nothing more comes."""

LINGER_SECONDS = 240.0
"""How long parts are kept after a commit; a client may send further ones for what it began."""

_SWEEP_SECONDS = 60.0
_RESERVE = 64 << 20
"""Bytes of the disk that uploads leave to others."""


class Sending:
    """A way by which files come in parts.

    Attributes:
        name: what its address ends in.
        ended: nothing new should come by it.
        busy: how many parts are coming.
        used: when something came last, of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.name = secrets.token_hex(16)
        self.ended = False
        self.busy = 0
        self.used = time.monotonic()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Keep what came while something more comes; only the thread of the loop asks for this."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self.used = time.monotonic()

    def parts(self) -> list[Path]:
        """Return the files that came."""
        raise NotImplementedError


class Inbox:
    """What was uploaded for one line; several threads may use it at once.

    Attributes:
        committing: held by whoever makes a version of what is here.
        sendings: ways by which files come in parts, by their names.
        used: when something came last, of `time.monotonic`.

    Args:
        directory: where it lies; exists.
    """

    def __init__(self, directory: Path) -> None:
        self.committing = threading.Lock()
        self.sendings: dict[str, Sending] = {}
        self._directory = directory
        self._numbers = itertools.count()
        self._files: dict[str, Path] = {}
        self._lock = threading.Lock()
        self.used = time.monotonic()

    def note_use(self) -> None:
        """Note that something is still coming."""
        self.used = time.monotonic()

    def new_path(self) -> Path:
        """Return where the next file may be written."""
        self.note_use()
        return self._directory / f"{next(self._numbers)}"

    def require_room(self, size: int) -> None:
        """Raise unless ``size`` more bytes fit.

        Raises:
            DiskFullError: they do not.
        """
        free = disk.free_space(self._directory) - _RESERVE
        if size > free:
            raise DiskFullError(
                f"{human_size(size)} are being uploaded, and {human_size(max(0, free))} are free",
                "free some space, as with: mstore gc",
            )

    def keep(self, sha256: str, path: Path) -> None:
        """Note that the file at ``path`` has come whole; one that was there already stays."""
        with self._lock:
            known = self._files.setdefault(sha256, path)
        if known != path:
            disk.remove(path)
        self.note_use()

    def file(self, sha256: str) -> Path | None:
        """Return where a file lies that has come whole; None where it has not."""
        self.note_use()
        return self._files.get(sha256)

    def sending(self, make: Callable[[], Sending]) -> Sending:
        """Return the way by which what comes next should come."""
        self.note_use()
        with self._lock:
            for known in self.sendings.values():
                if not known.ended:
                    return known
            made = make()
            self.sendings[made.name] = made
            return made

    def committed(self, used: list[Path]) -> None:
        """Remove files that are in a version now, and end what they came by."""
        with self._lock:
            self._files = {key: path for key, path in self._files.items() if path not in used}
            for sending in self.sendings.values():
                sending.ended = True
        remove_files(used)

    def sweep(self, now: float) -> bool:
        """Remove what nothing more comes of; return whether anything is left.

        Args:
            now: of `time.monotonic`.
        """
        with self._lock:
            if now - self.used > KEPT_SECONDS:
                return False
            for sending in list(self.sendings.values()):
                over = sending.ended and not sending.busy
                if over and now - sending.used > LINGER_SECONDS:
                    del self.sendings[sending.name]
                    remove_files(sending.parts())
            lasts = self._files or self.sendings or now - self.used <= LINGER_SECONDS
        return bool(lasts)

    def remove(self) -> None:
        """Remove all that is here."""
        disk.remove_tree(self._directory)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files; what cannot be removed goes with the directory that it lies in."""
    for path in paths:
        with suppress(StoreError):
            disk.remove(path)


class Inboxes:
    """What was uploaded to one server.

    Args:
        store: where it lies, and what it is for.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._inboxes: dict[ModelName, Inbox] = {}
        self._area: Staging | None = None
        self._timer: threading.Timer | None = None
        # a lock is let go by the thread that took it
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="mstore-inbox")

    def of(self, model: ModelName) -> Inbox:
        """Return what was uploaded for ``model``.

        Raises:
            StoreError: the store cannot be written to.
        """
        return self._keeper.submit(self._open, model).result()

    def known(self, model: ModelName) -> Inbox | None:
        """Return what was uploaded for ``model``, None where nothing was."""
        return self._inboxes.get(model)

    def _open(self, model: ModelName) -> Inbox:
        with self._lock:
            found = self._inboxes.get(model)
            if found is None:
                if self._area is None:
                    self._area = self._begin()
                directory = self._area.directory / str(model)
                disk.make_new_dir(directory)
                found = self._inboxes[model] = Inbox(directory)
            found.note_use()
            return found

    def _begin(self) -> Staging:
        require_writable(self._store)
        self._store.prepare()
        remove_abandoned(self._store.meta)
        area = Staging(self._store.meta, self._store.lock_timeout)
        area.__enter__()
        self._wait()
        return area

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_SWEEP_SECONDS, self._sweep_later)
        self._timer.daemon = True
        self._timer.start()

    def _sweep_later(self) -> None:
        with suppress(RuntimeError):  # the server is being stopped
            self._keeper.submit(self._sweep, time.monotonic())

    def sweep(self, now: float) -> None:
        """Remove what nothing more comes of.

        Args:
            now: of `time.monotonic`.
        """
        self._keeper.submit(self._sweep, now).result()

    def _sweep(self, now: float) -> None:
        with self._lock:
            for model, inbox in list(self._inboxes.items()):
                if not inbox.committing.locked() and not inbox.sweep(now):
                    with suppress(StoreError):
                        inbox.remove()
                        del self._inboxes[model]
            if self._inboxes:
                self._wait()
            else:
                self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        area, self._area = self._area, None
        if area is not None:
            area.__exit__(None, None, None)

    def close(self) -> None:
        """Remove everything."""
        self._keeper.submit(self._end).result()
        self._keeper.shutdown(wait=True)
