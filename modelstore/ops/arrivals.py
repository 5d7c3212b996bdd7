"""Arrivals: frames that come from a remote, which may be anybody's and say anything.

They are staged in batches that are whole: a frame comes together with what it is built on, as far
as that is not here. Every byte is checked, every blob decoded and hashed, and only then the batch
gets its names. What is here already keeps its frames, so no chain can lead back to its beginning.
While the bases of one blob are still coming, others that have all of theirs are decoded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelstore import disk
from modelstore.blobs import FrameHeader, Transaction, parse_header
from modelstore.blobs.closure import Closure
from modelstore.blobs.frame import MAX_DEPTH
from modelstore.blobs.parallel import in_order
from modelstore.blobs.source import open_frame
from modelstore.blobs.transit import Took, encode_alone, prove, write_arrived, write_deeper
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest
from modelstore.ops.elsewhere import AT_ONCE, DEEPEST, Tally, key_of
from modelstore.ops.once import Once
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.store import Store

_BATCH = 256 << 20
"""Bytes of frames that are published together: so much is lost at most where a transfer breaks off."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What came.

    Attributes:
        frames: how many that were not here.
        bytes: of these, as they came.
    """

    frames: int = 0
    bytes: int = 0

    def plus(self, other: Brought) -> Brought:
        """Return the sum of both."""
        return Brought(self.frames + other.frames, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of blobs before they come; a frame that claims something else is refused.

    Attributes:
        sizes: the raw bytes of blobs, as manifests say them.
        most: raw bytes that a blob without such a size may have, if it was asked for; None for any.
        total: about how many bytes will come, for the progress.
        at_once: how many come at a time; 1 for those that are here already, and few.
    """

    sizes: Mapping[Digest, int] = field(default_factory=dict)
    most: int | None = None
    total: int = 0
    at_once: int = AT_ONCE


UNKNOWN = Expected()


def bring(
    store: Store,
    remote: Remote,
    digests: Iterable[Digest],
    progress: Progress = silent,
    *,
    expected: Expected = UNKNOWN,
    took: Took | None = None,
) -> Brought:
    """Bring the frames of blobs that are not here, and what they are built on.

    Args:
        digests: the blobs.
        expected: what is known of them.
        took: is given their raw bytes, and those of what they are built on, as they are decoded.

    Raises:
        IntegrityError: the remote lacks a blob, or gives something else, or something damaged.
        RemoteError: it failed; what was published stays, and counts the next time.
        DiskFullError: no room for them.
    """
    store.prepare()
    closure = Closure(store.blobs)
    wanted = closure.absent(closure.of(digests))
    if not wanted:
        return Brought()
    most = {} if expected.most is None else dict.fromkeys(wanted, expected.most)
    with store.blobs.transaction() as transaction:
        tally = Tally("receive", progress, expected.total)
        arrivals = _Arrivals(store, remote, transaction, closure, tally, took)
        return arrivals.take(wanted, expected, most)


@dataclass(frozen=True, slots=True)
class _Arrival:
    path: Path
    header: FrameHeader


class _Arrivals:
    """One transfer from a remote."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        transaction: Transaction,
        closure: Closure,
        tally: Tally,
        took: Took | None,
    ) -> None:
        self._took = took
        self._at_once = AT_ONCE
        self._store = store
        self._remote = remote
        self._transaction = transaction
        self._closure = closure
        self._sizes: Mapping[Digest, int] = {}
        self._most: Mapping[Digest, int] = {}
        self._tally = tally
        self._counting = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        """Begin a batch."""
        self._come = Once(self._receive)
        self._batch: dict[Digest, _Arrival] = {}
        self._size = 0

    def take(
        self, wanted: Iterable[Digest], expected: Expected, most: Mapping[Digest, int]
    ) -> Brought:
        """Bring everything that is ``wanted``, batch by batch; see `Expected`."""
        self._sizes, self._most, self._at_once = expected.sizes, most, expected.at_once
        done = Brought()
        waiting = deque(wanted)
        while waiting:
            self._begin()
            asked = [
                one.header for one in in_order(self._come, self._until_full(waiting), self._at_once)
            ]
            self._prove_all(_ordered(asked))
            done = done.plus(Brought(len(self._batch), self._size))
            self._transaction.publish()
            self._closure.refresh()
        return done

    def _until_full(self, waiting: deque[Digest]) -> Iterator[Digest]:
        while waiting and self._size < _BATCH:
            digest = waiting.popleft()
            if not self._is_whole(digest):
                yield digest

    def _is_whole(self, digest: Digest) -> bool:
        """Tell whether a blob is here with everything it is built on."""
        return not self._closure.absent(self._closure.of([digest]))

    # --- receiving, several at once

    def _receive(self, digest: Digest) -> _Arrival:
        path = self._transaction.new_path(digest)
        try:
            write_arrived(self._remote.stream(key_of(digest)), digest, path, self._tally.add)
            with open_frame(path, digest) as source:
                header = parse_header(source, digest)
        except NotFoundError as error:
            raise IntegrityError(
                f"'{self._remote.shown}' has no blob '{digest}', though something there needs it",
                "push it again from a store that has it: mstore push",
            ) from error
        except IntegrityError as error:
            raise self._wrong(digest, error.message) from error
        size = header.raw_size
        if self._sizes.get(digest, size) != size or size > self._most.get(digest, size):
            raise self._wrong(digest, f"it claims {header.raw_size} bytes")
        with self._counting:
            self._size += header.stored_size
        return _Arrival(path, header)

    def _come_whole(self, digest: Digest) -> dict[Digest, _Arrival]:
        """Receive a frame and all that it is built on and that is not here; return all of them."""
        found = {digest: self._come(digest)}
        latest = [digest]
        for _ in range(MAX_DEPTH + 1):
            built_on = {base for one in latest for base in found[one].header.built_on}
            latest = [one for one in sorted(built_on - found.keys()) if not self._is_whole(one)]
            if not latest:
                return found
            found.update((one, self._come(one)) for one in latest)
        raise self._wrong(latest[0], f"it is under more than {MAX_DEPTH} frames")

    def _wrong(self, digest: Digest, how: str) -> IntegrityError:
        return IntegrityError(
            f"what '{self._remote.shown}' gives as blob '{digest}' is not that: {how}",
            "push it again from a store that has it whole: mstore push",
        )

    # --- making them fit

    def _stage(self, whole: Mapping[Digest, _Arrival]) -> None:
        """Stage frames, each deeper than what it is built on, unless they are."""
        fresh = {digest: one for digest, one in whole.items() if digest not in self._batch}
        for digest in _bases_first(fresh):
            self._batch[digest] = fresh[digest]
            self._fit(digest)

    def _fit(self, digest: Digest) -> None:
        arrival = self._batch[digest]
        needed = 1 + max(map(self._depth, arrival.header.built_on), default=-1)
        if needed > MAX_DEPTH:
            raise self._wrong(digest, "it would be too deep here")
        if needed > arrival.header.depth:
            arrival = self._deeper(arrival, needed)
        self._keep(arrival)
        # what is built on a frame that is here, though not whole, bears a less deep one
        if arrival.header.depth > DEEPEST or (arrival.header.depth and digest in self._store.blobs):
            self._keep(self._alone(digest))

    def _deeper(self, arrival: _Arrival, depth: int) -> _Arrival:
        path = self._transaction.new_path(arrival.header.digest)
        header = write_deeper(arrival.path, arrival.header, depth, path)
        disk.remove(arrival.path)
        return _Arrival(path, header)

    def _alone(self, digest: Digest) -> _Arrival:
        blobs = self._store.blobs
        path = self._transaction.new_path(digest)
        locate = self._transaction.locate
        try:
            header = encode_alone(locate, digest, path, blobs.threads, blobs.block_log2)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            raise self._wrong(digest, error.message) from error
        return _Arrival(path, header)

    def _keep(self, arrival: _Arrival) -> None:
        self._batch[arrival.header.digest] = arrival
        self._transaction.take(arrival.path, arrival.header)

    def _depth(self, digest: Digest) -> int:
        arrival = self._batch.get(digest)
        return (arrival.header if arrival else self._store.blobs.header(digest)).depth

    # --- proving

    def _prove_all(self, digests: Sequence[Digest]) -> None:
        """Stage and prove blobs, and everything that they are built on and that came for them."""
        threads = min(self._store.blobs.threads, self._at_once)
        proved: set[Digest] = set()
        for found in in_order(self._prove, self._staged(digests, proved), threads):
            proved |= found
        rest = _ordered(self._batch[one].header for one in self._batch.keys() - proved)
        for found in in_order(self._prove, (one for one in rest if one not in proved), threads):
            proved |= found

    def _staged(self, digests: Sequence[Digest], proved: set[Digest]) -> Iterator[Digest]:
        """Yield each blob once it is staged with all that it is built on, unless it is proved."""
        for digest, whole in zip(
            digests, in_order(self._come_whole, digests, self._at_once), strict=True
        ):
            self._stage(whole)
            if digest not in proved:
                yield digest

    def _prove(self, digest: Digest) -> set[Digest]:
        try:
            return prove(self._transaction.locate, digest, self._took)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            raise self._wrong(digest, error.message) from error


def _ordered(headers: Iterable[FrameHeader]) -> list[Digest]:
    """Return the names of frames, the deepest and of these the largest first.

    To prove a blob mostly proves its bases along; and no thread is left alone with a large one.
    """
    ranked = sorted(headers, key=lambda one: (-one.depth, -one.raw_size, one.digest))
    return [one.digest for one in ranked]


def _bases_first(batch: Mapping[Digest, _Arrival]) -> Sequence[Digest]:
    """Return the blobs of a batch in an order in which each follows what it is built on.

    Raises:
        IntegrityError: there is no such order.
    """
    ordered: dict[Digest, None] = {}
    waiting = dict.fromkeys(sorted(batch, key=lambda digest: batch[digest].header.depth))
    while waiting:
        ready = [
            digest
            for digest in waiting
            if all(b in ordered or b not in batch for b in batch[digest].header.built_on)
        ]
        if not ready:
            raise IntegrityError(
                f"blob '{min(waiting)}' comes as something that is built on itself",
                "push it again from a store that has it whole: mstore push",
            )
        for digest in ready:
            ordered[digest] = None
            del waiting[digest]
    return list(ordered)
