"""The blob store: one frame a blob, named by the digest of the raw bytes.

Every read verifies: the header and block checksums always, and the digest of the raw bytes
whenever all of them are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.blobs.frame import BLOCK_LOG2, FrameHeader, check_frame, parse_header
from modelstore.blobs.parallel import default_threads, in_order
from modelstore.blobs.source import open_frame
from modelstore.blobs.transaction import Transaction
from modelstore.blobs.trash import Trash
from modelstore.errors import IntegrityError, NotFoundError, UsageError
from modelstore.hashing import Bytes, Digest, Hasher, digest_of
from modelstore.locks import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from modelstore.blobs.reader import BlobReader

_NAME = re.compile(r"[0-9a-f]{64}\Z")


class BlobStore:
    """The blobs of one store.

    Args:
        root: the store's `.mstore` directory.
        threads: how many blocks are worked on at once; None chooses by the machine.
        block_log2: log2 of the values in a block of new frames.
        lock_timeout: seconds to wait for the store's lock.
    """

    def __init__(
        self,
        root: Path,
        *,
        threads: int | None = None,
        block_log2: int = BLOCK_LOG2,
        lock_timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self.root = root
        self.threads = threads or default_threads()
        self.block_log2 = block_log2
        self.lock_timeout = lock_timeout

    def create(self) -> None:
        """Make the directories, those of frames durably; those that exist are left alone."""
        blobs = self.root / "blobs"
        disk.make_dir(blobs)
        disk.make_dirs_in(self.root, ["tmp"], sync=False)
        disk.make_dirs_in(blobs, [f"{number:02x}" for number in range(256)])

    def path(self, digest: Digest) -> Path:
        """Return where the frame of ``digest`` lies, or would lie."""
        return self.root / "blobs" / digest[:2] / digest

    def trash(self) -> Trash:
        """Return the trash, as it is now."""
        return Trash(self.root, self.path)

    def _find(self, digest: Digest) -> Path:
        """Return where to read the frame of ``digest``.

        That may be the trash: a version may be removed, and collected, while it is read.
        """
        path = self.path(digest)
        return path if path.exists() else self.trash().find(digest) or path

    def __contains__(self, digest: Digest) -> bool:
        return self.path(digest).is_file()

    def iter_digests(self) -> Iterator[Digest]:
        """Yield the name of every blob, in order.

        Raises:
            StoreError: a directory cannot be read; then nothing may be concluded.
        """
        for directory in filter(Path.is_dir, _listed(self.root / "blobs")):
            yield from (Digest(path.name) for path in _listed(directory) if self.is_name(path))

    def is_name(self, path: Path) -> bool:
        """Tell whether a file in blobs/ has the name of a frame, and lies where that belongs."""
        return bool(_NAME.match(path.name)) and path.name[:2] == path.parent.name

    def header(self, digest: Digest) -> FrameHeader:
        """Return the verified header of a frame.

        Raises:
            NotFoundError: the blob is not in the store.
            IntegrityError: its header is damaged, or of another blob.
        """
        with open_frame(self.path(digest), digest) as source:
            return parse_header(source, digest)

    def check(self, digest: Digest) -> None:
        """Check every byte of a frame, without decoding it and without its base.

        Raises:
            NotFoundError: the blob is not in the store.
            IntegrityError: a byte is not what was written.
        """
        with open_frame(self.path(digest), digest) as source:
            check_frame(source, digest)

    def is_sound(self, digest: Digest) -> bool:
        """Tell whether a blob, and all that it is built on, is here and as it was written."""
        from modelstore.blobs.reader import opened  # decoding loads numpy

        try:
            with opened(self.path, digest) as reader:
                reader.check()
        except (IntegrityError, NotFoundError):
            return False
        return True

    def read(self, digest: Digest, *, most: int | None = None) -> bytes:
        """Return the raw bytes of a blob, which match its name.

        Args:
            digest: the blob.
            most: bytes that it has at most; a frame of a few bytes may claim, and give, terabytes.

        Raises:
            NotFoundError: the blob, or one that it is built on, is not in the store.
            IntegrityError: one of them is damaged, or it has more than ``most`` bytes.
        """
        if most is not None:
            with open_frame(self._find(digest), digest) as source:
                size = parse_header(source, digest).raw_size
            if size > most:
                raise IntegrityError(
                    f"blob '{digest}' has {size} bytes where {most} are the most",
                    "run: mstore fsck --full",
                )
        return b"".join(self.blocks(digest))

    def blocks(self, digest: Digest) -> Iterator[Bytes]:
        """Yield the raw bytes of a blob in order, decoded ahead on threads.

        Whoever takes all of them has the blob, or an error; the errors are those of `read`, and
        that the whole does not match its name is known, and raised, after the last piece.
        """
        from modelstore.blobs.reader import opened  # decoding loads numpy

        hasher = Hasher()
        with opened(self._find, digest) as reader:
            count = reader.header.block_count
            threads = min(self.threads, count)
            with closing(in_order(reader.block, range(count), threads)) as decoded:
                for block in decoded:
                    hasher.update(block)
                    yield block
        _require_name(hasher.digest(), digest)

    def read_into(self, digest: Digest, buffer: memoryview) -> None:
        """Fill ``buffer`` with the raw bytes of a blob, decoded in parallel.

        Args:
            digest: the blob.
            buffer: writable, contiguous, of exactly the blob's size in bytes; its content is
                undefined when an error is raised.

        Raises:
            UsageError: the buffer has another size.
            NotFoundError: the blob, or one that it is built on, is not in the store.
            IntegrityError: one of them is damaged.
        """
        from modelstore.blobs.reader import opened  # decoding loads numpy

        target = buffer.cast("B")
        with opened(self._find, digest) as reader:
            header = reader.header
            if len(target) != header.raw_size:
                raise UsageError(f"blob '{digest}' has {header.raw_size} bytes, not {len(target)}")

            def fill(index: int) -> None:
                start, stop = header.raw_range(index)
                target[start:stop] = reader.block(index)

            threads = min(self.threads, header.block_count)
            for _ in in_order(fill, range(header.block_count), threads):
                pass
        _require_name(digest_of(target), digest)

    def read_range(self, digest: Digest, start: int, stop: int) -> bytes:
        """Return the raw bytes ``[start, stop)`` of a blob, decoding only the blocks they lie in.

        Raises:
            UsageError: the blob does not have all these bytes.
            NotFoundError: the blob, or one that it is built on, is not in the store.
            IntegrityError: one of them is damaged, as far as it was read.
        """
        from modelstore.blobs.reader import opened  # decoding loads numpy

        with opened(self._find, digest) as reader:
            if not 0 <= start <= stop <= reader.header.raw_size:
                raise UsageError(f"blob '{digest}' has no bytes {start} to {stop}")
            return bytes(reader.read_at_most(start, stop))

    def open(self, digest: Digest) -> BlobReader:
        """Open a blob, and those it is built on, to decode blocks in any order; the caller closes it.

        Raises:
            NotFoundError: the blob, or one that it is built on, is not in the store.
            IntegrityError: one of their headers is damaged.
        """
        from modelstore.blobs.reader import open_reader  # decoding loads numpy

        return open_reader(self._find, digest)

    def transaction(self) -> Transaction:
        """Return a context in which blobs are added; what is not published is removed at its end."""
        return Transaction(
            self.root,
            self.path,
            threads=self.threads,
            block_log2=self.block_log2,
            lock_timeout=self.lock_timeout,
        )


def _listed(directory: Path) -> list[Path]:
    with disk.explained(directory, "read"):
        return sorted(directory.iterdir())


def _require_name(found: Digest, digest: Digest) -> None:
    if found != digest:
        raise IntegrityError(
            f"blob '{digest}' is damaged: its bytes hash to '{found}'", "run: mstore fsck --full"
        )
