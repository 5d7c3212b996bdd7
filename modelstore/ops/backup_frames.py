"""Frames as they lie at a remote, read where they are: for checking, pruning and choosing.

What a frame is built on may differ from what the store's frame of the same blob is built on, so it
is looked up there. Headers are had by ranged requests, several at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from modelstore import manifest as manifests
from modelstore.blobs import BytesSource, FrameHeader, check_frame, parse_header
from modelstore.blobs.alone import read_alone
from modelstore.blobs.parallel import in_order
from modelstore.canonical import MAX_SIZE
from modelstore.errors import (
    BadNameError,
    IntegrityError,
    NewerFormatError,
    NotFoundError,
    StoreError,
)
from modelstore.hashing import Digest, parse_digest
from modelstore.manifest import Manifest
from modelstore.ops.elsewhere import BLOBS, key_of
from modelstore.remotes.base import Remote

AT_ONCE = 16
"""Requests that are made at once; a remote answers each after some 20 ms."""

_HEAD = 4 << 10
"""Bytes that are asked for first: the header of a frame of up to 190 blocks."""

_WINDOW = 8 << 20
"""Bytes that are asked for at a time where a frame is read whole."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A frame as a listing of the remote tells it."""

    size: int
    modified: datetime | None


def frames_at(remote: Remote) -> dict[Digest, Stored]:
    """Return every frame at a remote, by one listing; what lies among them and is none is left out."""
    found = {}
    for one in remote.list(BLOBS):
        with suppress(BadNameError):
            digest = parse_digest(one.key.rpartition("/")[2])
            if key_of(digest) == one.key:
                found[digest] = Stored(one.size, one.modified)
    return found


class RemoteSource:
    """A frame at a remote as bytes to read from; what is read next to each other is asked for once.

    Args:
        size: the frame's, in bytes.
        ahead: bytes that are asked for at least, as far as there are so many.
    """

    def __init__(self, remote: Remote, digest: Digest, size: int, ahead: int = _HEAD) -> None:
        self.size = size
        self._remote = remote
        self._key = key_of(digest)
        self._ahead = ahead
        self._start = 0
        self._held = b""

    def read(self, start: int, stop: int) -> bytes:
        """Return exactly the bytes ``[start, stop)``."""
        if start == stop:
            return b""
        if not self._start <= start <= stop <= self._start + len(self._held):
            end = min(max(stop, start + self._ahead), self.size)
            self._held = self._remote.get_range(self._key, start, end)
            self._start = start
        return self._held[start - self._start : stop - self._start]


class RemoteFrames:
    """The frames of one remote, with what is known of each; asked again, it asks for nothing twice.

    Attributes:
        listed: what was listed, by name.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._sizes_are_true = False  # a listing of a sealed remote tells what frames take there
        self.listed: Mapping[Digest, Stored] = frames_at(remote)
        self._built_on: dict[Digest, tuple[Digest, ...]] = {}
        self._depths: dict[Digest, int] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self.wrong: dict[Digest, str] = {}
        """What is wrong with frames that were looked at, one sentence each."""

    def __contains__(self, digest: Digest) -> bool:
        return digest in self.listed

    def depth(self, digest: Digest) -> int:
        """Return the depth of a frame whose header was looked at."""
        return self._depths.get(digest, 0)

    def look_at(self, digests: Iterable[Digest]) -> None:
        """Read the headers of frames; what is wrong with them is noted in `wrong`."""
        wanted = [d for d in digests if d in self.listed and not self._is_known(d)]
        for digest, header in zip(wanted, in_order(self._header, wanted, AT_ONCE), strict=True):
            if isinstance(header, StoreError):
                self.wrong[digest] = header.message
            else:
                self._built_on[digest] = header.built_on
                self._depths[digest] = header.depth

    def _is_known(self, digest: Digest) -> bool:
        return digest in self._built_on or digest in self.wrong

    def _header(self, digest: Digest) -> FrameHeader | StoreError:
        try:
            return parse_header(self._source(digest, _HEAD), digest)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            return error

    def _source(self, digest: Digest, ahead: int) -> RemoteSource:
        size = self.listed[digest].size
        if not self._sizes_are_true:
            found = self._remote.head(key_of(digest))
            if found is None:
                raise NotFoundError(f"blob '{digest}' is not at '{self._remote.shown}'")
            self._sizes_are_true = found.size == size
            size = found.size
        return RemoteSource(self._remote, digest, size, ahead)

    def closure(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return ``digests`` and all that their frames here are built on, whether it is here or not."""
        found: set[Digest] = set()
        waiting = set(digests)
        while waiting:
            self.look_at(sorted(waiting))
            found |= waiting
            waiting = {base for d in waiting for base in self._built_on.get(d, ())} - found
        return found

    def touched(self, causes: Mapping[Digest, str]) -> dict[Digest, str]:
        """Return ``causes`` and, for every frame that was looked at and is built on one, the same."""
        above: defaultdict[Digest, list[Digest]] = defaultdict(list)
        for digest, bases in self._built_on.items():
            for base in bases:
                above[base].append(digest)
        found: dict[Digest, str] = {}
        waiting = list(causes.items())
        while waiting:
            digest, what = waiting.pop()
            if digest not in found:
                found[digest] = what
                waiting += [(child, what) for child in above[digest]]
        return found

    def manifest(self, digest: Digest) -> Manifest:
        """Return the manifest ``digest``.

        Raises:
            NotFoundError: it is not here.
            IntegrityError: it is damaged, or is no manifest.
        """
        if digest not in self._manifests:
            data = self.read(digest, MAX_SIZE)
            self._manifests[digest] = manifests.decode(data, f"manifest {digest[:12]}")
        return self._manifests[digest]

    def read(self, digest: Digest, most: int) -> bytes:
        """Return the raw bytes of a small blob, of ``most`` at most; see `read_alone`."""
        return read_blob(self._remote, digest, most)

    def check(self, digests: Iterable[Digest], progress: Callable[[int], None]) -> int:
        """Compare every byte of frames with their checksums; return how many bytes were read."""
        wanted = sorted(digest for digest in digests if digest in self.listed)
        read = 0
        for digest, error in zip(wanted, in_order(self._check, wanted, AT_ONCE // 4), strict=True):
            read += self.listed[digest].size
            progress(self.listed[digest].size)
            if error is not None:
                self.wrong[digest] = error.message
        return read

    def _check(self, digest: Digest) -> StoreError | None:
        try:
            check_frame(self._source(digest, _WINDOW), digest)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            return error
        return None


def read_blob(remote: Remote, digest: Digest, most: int) -> bytes:
    """Return the raw bytes of a manifest or small file at a remote; they match its name.

    Raises:
        NotFoundError: it is not there.
        IntegrityError: it is damaged, or has more than ``most`` bytes.
    """
    frame = remote.get(key_of(digest), limit=2 * most + (1 << 20))
    return read_alone(BytesSource(frame), digest, most)
