"""Transfer: frames go to a remote, or come from one, each checked at both ends.

At a remote a frame's depth is more than that of everything it is built on, as here, and what it is
built on is always there before it. So whatever interrupts a transfer, all that is there can be
read, counts, and need not be sent again. A blob may have other frames there than here, built on
others, because both sides choose for themselves; where the depths do not fit, the header of the
frame that moves says another depth, and where that would be too deep it is encoded anew, alone.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs.frame import FIXED_SIZE, FrameHeader, claimed_depth
from modelstore.blobs.parallel import in_order
from modelstore.blobs.staging import Staging
from modelstore.blobs.transit import CheckedFrame, encode_alone
from modelstore.errors import (
    ConflictError,
    IntegrityError,
    NewerFormatError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from modelstore.hashing import Digest
from modelstore.ops.arrivals import Brought, Expected, bring
from modelstore.ops.elsewhere import (
    AT_ONCE,
    DEEPEST,
    FrameThere,
    Tally,
    check_there,
    claim,
    key_of,
    size_there,
    there,
)
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.store import Store

__all__ = [
    "Brought",
    "Expected",
    "FrameThere",
    "Sent",
    "bring",
    "check_there",
    "claim",
    "key_of",
    "send",
    "there",
]

_ROUNDS = 3
"""How often frames are looked at that a repack replaced while they were to be sent."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent.

    Attributes:
        frames: how many, without those that were there already.
        bytes: of these.
        damaged: why a blob was not sent: it, or what it is built on, is damaged or missing here.
    """

    frames: int
    bytes: int
    damaged: Mapping[Digest, str]


def send(
    store: Store,
    remote: Remote,
    digests: Iterable[Digest],
    there: Mapping[Digest, int],
    progress: Progress = silent,
    *,
    read_back: bool = False,
) -> Sent:
    """Send the frames of blobs that a remote lacks, and what they are built on.

    Args:
        digests: the blobs.
        there: what `there` returned.
        read_back: read all that was sent again, and check every byte.

    Raises:
        RemoteError: it failed; what is there stays, and counts the next time.
        ConflictError: frames were encoded anew again and again.
    """
    with _Sending(store, remote, there, progress, read_back=read_back) as sending:
        waiting = set(digests)
        for _ in range(_ROUNDS):
            waiting = sending.round(waiting)
            if not waiting:
                return Sent(sending.frames, sending.bytes, dict(sending.damaged))
    raise ConflictError(
        f"blob '{min(waiting)}' was encoded anew again and again", "run the command again"
    )


class _Sending:
    """One transfer to a remote."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        there: Mapping[Digest, int],
        progress: Progress,
        *,
        read_back: bool,
    ) -> None:
        self._store = store
        self._remote = remote
        self._there = set(there)
        self._depths: dict[Digest, int | None] = {}
        self._tally = Tally("send", progress)
        self._read_back = read_back
        self._area: Staging | None = None
        self._exit = ExitStack()
        self._entering = threading.Lock()
        self.damaged: dict[Digest, str] = {}
        self.frames = 0
        self.bytes = 0

    def __enter__(self) -> _Sending:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def round(self, digests: set[Digest]) -> set[Digest]:
        """Send what is missing; return those that were replaced meanwhile, to be sent after all."""
        levels: defaultdict[int, list[FrameHeader]] = defaultdict(list)
        for header in self._plan(digests):
            levels[header.depth].append(header)
            self._tally.total += header.stored_size
        again: set[Digest] = set()
        for depth in sorted(levels):  # so what a frame is built on is there before it
            again |= self._level(levels[depth], again)
        return again

    def _plan(self, digests: set[Digest]) -> Iterator[FrameHeader]:
        """Yield the headers of the frames that are missing there, with all they are built on."""
        seen: set[Digest] = set()
        waiting = sorted(digests)
        while waiting:
            digest = waiting.pop()
            if digest in self._there or digest in seen or digest in self.damaged:
                continue
            seen.add(digest)
            try:
                header = self._store.blobs.header(digest)
            except (IntegrityError, NotFoundError, NewerFormatError) as error:
                self.damaged[digest] = error.message
                continue
            waiting += header.built_on
            yield header

    def _level(self, headers: list[FrameHeader], again: set[Digest]) -> set[Digest]:
        """Send frames that are not built on each other; return those that must wait."""
        ready, late = [], set()
        for header in headers:
            if not again.isdisjoint(header.built_on):
                late.add(header.digest)
            elif self._is_whole(header):
                ready.append(header)
        self._learn_depths(ready)
        for header, sent in zip(ready, in_order(self._send, ready, AT_ONCE), strict=True):
            if sent is None:
                late.add(header.digest)
            elif sent >= 0:
                self.frames += sent > 0
                self.bytes += sent
                self._there.add(header.digest)
        return late

    def _is_whole(self, header: FrameHeader) -> bool:
        lost = next((base for base in header.built_on if base in self.damaged), None)
        if lost is not None:
            self.damaged[header.digest] = f"it is built on '{lost}': {self.damaged[lost]}"
        return lost is None

    def _learn_depths(self, headers: Iterable[FrameHeader]) -> None:
        """Ask how deep the frames are there that ``headers`` are to be built on."""
        bases = {base for header in headers for base in header.built_on} - self._depths.keys()
        ordered = sorted(bases)
        self._depths.update(zip(ordered, in_order(self._ask, ordered, AT_ONCE), strict=True))

    def _ask(self, digest: Digest) -> int | None:
        """Return the depth of a frame that is there; None where it cannot be built on."""
        try:
            return claimed_depth(self._remote.get_range(key_of(digest), 0, FIXED_SIZE), digest)
        except NotFoundError:
            return None

    def _send(self, header: FrameHeader) -> int | None:
        """Send one frame; return its bytes, 0 if it was there, -1 if damaged, None if replaced."""
        below = [self._depths[base] for base in header.built_on]
        needed = 1 + max((DEEPEST if depth is None else depth for depth in below), default=-1)
        path, depth = self._store.blobs.path(header.digest), max(header.depth, needed)
        try:
            if depth > DEEPEST:
                path, header = self._alone(header)
                depth = 0
        except (IntegrityError, NotFoundError) as error:
            self.damaged[header.digest] = error.message
            return -1
        return self._put(CheckedFrame(path, header, depth, self._tally.add), header.digest, depth)

    def _put(self, frame: CheckedFrame, digest: Digest, depth: int) -> int | None:
        try:
            put = self._remote.put_if_absent(key_of(digest), frame)
        except StoreError:
            if isinstance(frame.damage, ConflictError):
                return None
            if frame.damage is None:
                raise
            self.damaged[digest] = frame.damage.message
            return -1
        if not put:  # since the listing, by another pusher, or by this call and its reply was lost
            self._depths[digest] = self._ask(digest)
            return 0
        self._depths[digest] = depth
        self._check(digest, frame.size)
        return frame.size

    def _check(self, digest: Digest, size: int) -> None:
        """Check that what was put is there."""
        if size_there(self._remote, digest) != size:
            raise RemoteError(
                f"'{self._remote.shown}' holds another number of bytes for blob '{digest}' "
                "than were put there",
                "run the command again",
            )
        if self._read_back:
            check_there(self._remote, digest)

    def _alone(self, header: FrameHeader) -> tuple[Path, FrameHeader]:
        with self._entering:
            if self._area is None:
                area = Staging(self._store.meta, self._store.lock_timeout)
                self._area = self._exit.enter_context(area)
        blobs = self._store.blobs
        path = self._area.new_path(header.digest)
        alone = encode_alone(blobs.path, header.digest, path, 1, blobs.block_log2)
        return path, alone
