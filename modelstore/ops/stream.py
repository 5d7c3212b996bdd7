"""Files of versions read as a stream: any range, only the blocks that it touches, nothing on disk.

For a server, which reads for many at once: blocks are decoded on a few threads that all share, a
few blocks ahead of whoever reads, and frames stay open between two reads of them.
Every block is checked as it is decoded. A blob that is read from its first byte to its last for the
first time is checked against its name as well, before its last bytes are given away: who gets the
wrong bytes of a blob never gets all of them. Once that has held, the same checked blocks give the
same bytes, and the time for it is saved.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelstore.blobs.frame import FrameHeader
from modelstore.blobs.store import BlobStore
from modelstore.errors import IntegrityError, UsageError
from modelstore.hashing import Bytes, Digest, Hasher
from modelstore.manifest import BlobSpan, FileEntry

if TYPE_CHECKING:
    from modelstore.blobs.reader import BlobReader

_MOST_KEPT = 128 << 20
"""Bytes of decoded bases that frames which stay open hold, all together."""

_MOST_OPEN = 32
"""Frames that stay open; each may have four more below it."""

_MOST_PROVEN = 1 << 16
"""Blobs that are remembered to be what their name says."""

_AT_ONCE = 1 << 20
"""Bytes that are decoded in one go, and given away in one piece, where blobs are smaller than that."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes ``[start, stop)`` of one block.

    Attributes:
        blob, index: the block.
        proof: what hashes the blob, where all of it is read for the first time.
        last: whether the blob ends here.
    """

    blob: Digest
    index: int
    start: int
    stop: int
    proof: Hasher | None
    last: bool


class Streams:
    """Reads files of one store, for any number of readers at once.

    Args:
        blobs: the store's.
        threads: how many blocks are decoded at once; None is as many as the store uses.
    """

    def __init__(self, blobs: BlobStore, *, threads: int | None = None) -> None:
        self._ahead = threads or blobs.threads
        self._open = OpenFrames(blobs)
        self._pool = ThreadPoolExecutor(self._ahead, thread_name_prefix="mstore-decode")
        self._proven: set[Digest] = set()

    def close(self) -> None:
        """End the threads and close the frames."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._open.close()

    def read(
        self, file: FileEntry, start: int = 0, stop: int | None = None
    ) -> Generator[Bytes, None, None]:
        """Yield the bytes ``[start, stop)`` of a file, in pieces of at most a block.

        A reader that stops early closes the generator; blocks that are being decoded then are lost.

        Raises:
            UsageError: the file does not have all these bytes.
            NotFoundError: a blob, or one that it is built on, is not in the store.
            IntegrityError: one of them is damaged, or not of the size that the manifest says.
        """
        stop = file.size if stop is None else stop
        if not 0 <= start <= stop <= file.size:
            raise UsageError(f"{file.path!r} has no bytes {start} to {stop}")
        return self._decoded(file, start, stop)

    def _decoded(self, file: FileEntry, start: int, stop: int) -> Generator[Bytes, None, None]:
        waiting: deque[tuple[list[_Part], Future[list[memoryview]]]] = deque()
        try:
            for parts in _batches(self._parts(file, start, stop)):
                waiting.append((parts, self._pool.submit(self._blocks, parts)))
                if len(waiting) > self._ahead:
                    yield self._proved(*waiting.popleft())
            while waiting:
                yield self._proved(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()

    def _blocks(self, parts: Sequence[_Part]) -> list[memoryview]:
        blocks = []
        for part in parts:
            with self._open.lease(part.blob) as reader:
                blocks.append(reader.block(part.index))
        return blocks

    def _parts(self, file: FileEntry, start: int, stop: int) -> Iterator[_Part]:
        """Yield the parts of blocks that make up a range; frames are opened as they are reached."""
        offset = 0
        for span in file.spans:
            first, last = max(start - offset, 0), min(stop - offset, span.size)
            offset += span.size
            if first < last:
                yield from self._parts_of_span(span, first, last)

    def _parts_of_span(self, span: BlobSpan, first: int, last: int) -> Iterator[_Part]:
        with self._open.lease(span.blob) as reader:
            header = reader.header
        if header.raw_size != span.size:
            raise IntegrityError(
                f"blob '{span.blob}' has {header.raw_size} bytes and the manifest says {span.size}",
                "run: mstore fsck --full",
            )
        fresh = (first, last) == (0, span.size) and span.blob not in self._proven
        return _parts_of_blob(header, first, last, Hasher() if fresh else None)

    def _proved(self, parts: Sequence[_Part], future: Future[list[memoryview]]) -> Bytes:
        """Return the bytes of ``parts``; the last of a blob only if all of them match its name."""
        blocks = future.result()
        for part, block in zip(parts, blocks, strict=True):
            if part.proof is not None:
                part.proof.update(block)
                if part.last:
                    self._require(part.blob, part.proof.digest())
        pieces = [block[part.start : part.stop] for part, block in zip(parts, blocks, strict=True)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _require(self, name: Digest, found: Digest) -> None:
        if found != name:
            raise IntegrityError(
                f"blob '{name}' is damaged: its bytes hash to '{found}'", "run: mstore fsck --full"
            )
        if len(self._proven) < _MOST_PROVEN:
            self._proven.add(name)


def _parts_of_blob(
    header: FrameHeader, first: int, last: int, proof: Hasher | None
) -> Iterator[_Part]:
    size = header.block_size
    for index in range(first // size, -(-last // size)):
        begin, end = header.raw_range(index)
        inner = max(first, begin) - begin, min(last, end) - begin
        yield _Part(header.digest, index, *inner, proof, end >= last)


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Put those together that are so small that handing each on would cost more than decoding it."""
    batch: list[_Part] = []
    size = 0
    for part in parts:
        length = part.stop - part.start
        if batch and size + length > _AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += length
    if batch:
        yield batch


class OpenFrames:
    """Frames that stay open for a while, because whoever read one block will read the next.

    Bounded in number and in what they hold in memory; several threads may use one frame at once.
    A frame that a repack replaces while it is open stays what it was: the same bytes, otherwise
    encoded.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._open: OrderedDict[Digest, _Opened] = OrderedDict()
        self._weight = 0

    @contextmanager
    def lease(self, digest: Digest) -> Iterator[BlobReader]:
        """Give the open reader of a blob for the length of the block."""
        opened = self._take(digest)
        try:
            yield opened.reader
        finally:
            self._give_back(opened)

    def close(self) -> None:
        """Close all that nobody is using; what is in use is closed when it is given back."""
        with self._lock:
            idle = self._evict(0, 0)
        for opened in idle:
            opened.reader.close()

    def _take(self, digest: Digest) -> _Opened:
        with self._lock:
            found = self._open.get(digest)
            if found is not None:
                found.users += 1
                self._open.move_to_end(digest)
                return found
        fresh = _Opened(self._blobs.open(digest))
        with self._lock:
            found = self._open.setdefault(digest, fresh)
            found.users += 1
            self._weight += found.weight if found is fresh else 0
            idle = self._evict(_MOST_OPEN, _MOST_KEPT)
        if found is not fresh:
            idle.append(fresh)
        for opened in idle:
            opened.reader.close()
        return found

    def _evict(self, most: int, weight: int) -> list[_Opened]:
        """Forget the frames that were used longest ago; return those that nobody uses any more."""
        idle = []
        while self._open and (len(self._open) > most or self._weight > weight):
            if most and len(self._open) == 1:
                break  # the one that is about to be read
            _, opened = self._open.popitem(last=False)
            self._weight -= opened.weight
            opened.kept = False
            if not opened.users:
                idle.append(opened)
        return idle

    def _give_back(self, opened: _Opened) -> None:
        with self._lock:
            opened.users -= 1
            done = not opened.kept and not opened.users
        if done:
            opened.reader.close()


class _Opened:
    """An open frame, how many use it, and what it holds: a block of every frame it is built on."""

    def __init__(self, reader: BlobReader) -> None:
        self.reader = reader
        self.users = 0
        self.kept = True
        below = list(reader.chain())[1:]
        self.weight = sum(min(r.header.block_size, r.header.raw_size) for r in below)
