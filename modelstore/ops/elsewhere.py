"""Frames at a remote: where they lie, and reading them without bringing them here."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from modelstore.blobs import FrameHeader, check_frame
from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import ConflictError, NewerFormatError, NotFoundError, StoreError
from modelstore.hashing import Digest, parse_digest
from modelstore.progress import Progress
from modelstore.remotes.base import Remote

BLOBS = "blobs"
"""The prefix of frames at a remote."""

IDENTITY = "mstore.json"
"""The key of what says that a remote is mstore's."""

SCHEMA = "mstore/remote/1"

_IDENTITY_LIMIT = 64 << 10

DEEPEST = 4
"""A frame that would be deeper elsewhere is encoded anew; see `modelstore.blobs.choice.DEEPEST`."""

AT_ONCE = 8
"""Frames that move at the same time."""

_START = 64 << 10
"""Bytes that the first look at a frame elsewhere reads: the header, and the whole of most small ones."""


def key_of(digest: Digest) -> str:
    """Return the key of a blob's frame at a remote."""
    return f"{BLOBS}/{digest[:2]}/{digest}"


def there(remote: Remote) -> dict[Digest, int]:
    """Return the names of all frames at a remote, and their sizes there; one paged listing.

    Raises:
        RemoteError: it cannot be listed.
    """
    found: dict[Digest, int] = {}
    for value in remote.list(BLOBS):
        name = value.key.rpartition("/")[2]
        with suppress(StoreError):  # somebody else's
            digest = parse_digest(name)
            if key_of(digest) == value.key:
                found[digest] = value.size
    return found


class FrameThere:
    """A frame at a remote as a `RawSource`: its parts are fetched when they are read.

    Args:
        size: its bytes; None asks the remote.

    Raises:
        NotFoundError: there is none.
    """

    def __init__(self, remote: Remote, digest: Digest, size: int | None = None) -> None:
        self._remote = remote
        self._key = key_of(digest)
        self.size = size_there(remote, digest) if size is None else size
        self._start = b""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``."""
        if stop <= start:
            return b""
        if not self._start:
            self._start = self._remote.get_range(self._key, 0, min(_START, self.size))
        if stop <= len(self._start):
            return self._start[start:stop]
        return self._remote.get_range(self._key, start, stop)


def check_there(remote: Remote, digest: Digest) -> FrameHeader:
    """Read the frame of a blob at a remote, and check every byte; return its header.

    Raises:
        NotFoundError: there is none.
        IntegrityError: it is damaged, or of another blob.
    """
    return check_frame(FrameThere(remote, digest), digest)


def size_there(remote: Remote, digest: Digest) -> int:
    """Return the bytes of a frame at a remote.

    Raises:
        NotFoundError: there is none.
    """
    found = remote.head(key_of(digest))
    if found is None:
        raise NotFoundError(f"'{remote.shown}' has no blob '{digest}'")
    return found.size


class Tally:
    """Counts bytes that several threads move, and tells them to one listener, one at a time."""

    def __init__(self, stage: str, progress: Progress, total: int = 0) -> None:
        self._stage = stage
        self._progress = progress
        self._lock = threading.Lock()
        self._done = 0
        self.total = total

    def add(self, size: int) -> None:
        """Count ``size`` further bytes."""
        with self._lock:
            self._done += size
            self._progress(self._stage, self._done, max(self._done, self.total))


def claim(remote: Remote) -> str:
    """Make a remote one of mstore's, if it is none yet; return its id.

    Raises:
        NewerFormatError: it was made by a newer mstore.
        ConflictError: it holds something else under our name.
    """
    try:
        return identify(remote)
    except NotFoundError:
        value = {"schema": SCHEMA, "format": 1, "features": [], "id": os.urandom(16).hex()}
        with suppress(ConflictError):  # another was faster
            remote.swap(IDENTITY, canonical(value), None)
        return identify(remote)


def identify(remote: Remote) -> str:
    """Return the id of a remote.

    Raises:
        NotFoundError: nobody ever pushed or backed up there.
        NewerFormatError: it was made by a newer mstore.
        IntegrityError: what says so is damaged.
    """
    try:
        value = parse_mapping(remote.get(IDENTITY, _IDENTITY_LIMIT), f"'{IDENTITY}' there")
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no store at '{remote.shown}'", "push to it first: mstore push"
        ) from error
    if value.get("schema") != SCHEMA or value.get("format") != 1 or value.get("features") != []:
        raise NewerFormatError(
            f"'{remote.shown}' was made by a newer mstore", "pip install -U mstore"
        )
    return str(value.get("id", ""))
