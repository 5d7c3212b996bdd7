"""Frames that go to another place, or come from one.

A frame is made of blocks that never change and a header, which says how deep it is. Elsewhere the
blob that it is built on may have a deeper frame than here; then its header says a greater depth,
under a checksum of its own, and its blocks stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.blobs.frame import (
    FrameHeader,
    claimed_size,
    pack_header,
    parse_header,
    read_block,
)
from modelstore.blobs.source import RawSource, open_frame
from modelstore.errors import ConflictError, IntegrityError, StoreError
from modelstore.hashing import Bytes, Digest, Hasher

if TYPE_CHECKING:
    from modelstore.blobs.reader import BlobReader

_READ_ONLY = 0o444

Locate = Callable[[Digest], Path]
"""Where the frame of a blob lies, or would lie."""


class CheckedFrame:
    """A frame of the store as it is sent: every byte is checked when it is read.

    It is a `modelstore.remotes.content.Content`.

    Attributes:
        size: its bytes.
        damage: why it could not be read, once that was tried; None if it could.

    Args:
        path: where it lies.
        header: what it said when its sending was planned.
        depth: what the header that is sent says.
        told: called with the bytes that were read, piece by piece.
    """

    def __init__(
        self, path: Path, header: FrameHeader, depth: int, told: Callable[[int], None]
    ) -> None:
        self._path = path
        self._header = header
        self._depth = depth
        self._told = told
        self.size = header.stored_size
        self.damage: StoreError | None = None

    def pieces(self) -> Iterator[bytes]:
        """Yield the header, and then block by block.

        Raises:
            IntegrityError: a byte is not what was written.
            ConflictError: another frame took its place meanwhile.
        """
        try:
            yield from self._pieces()
        except StoreError as error:
            self.damage = error
            raise

    def _pieces(self) -> Iterator[bytes]:
        with open_frame(self._path, self._header.digest) as source:
            header = parse_header(source, self._header.digest)
            if header != self._header:
                raise ConflictError(
                    f"blob '{header.digest}' was encoded anew while it was sent",
                    "run the command again",
                )
            packed = pack_header(replace(header, depth=self._depth))
            self._told(len(packed))
            yield packed
            for index in range(len(header.offsets) - 1):
                payload = read_block(source, header, index)
                self._told(len(payload))
                yield payload


class RawBlob:
    """The raw bytes of a blob that is open, as a `RawSource`."""

    def __init__(self, read: Callable[[int, int], Bytes], size: int) -> None:
        self._read = read
        self.size = size

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``."""
        return bytes(self._read(start, stop))


def encode_alone(
    locate: Locate, digest: Digest, path: Path, threads: int, block_log2: int
) -> FrameHeader:
    """Write a frame of a blob to ``path`` that is built on nothing; return its header.

    Args:
        locate: where the blob's present frame is, and those that it is built on.
        digest: the blob.
        path: a new file; not yet durable.
        threads: how many blocks are encoded at once.
        block_log2: log2 of the values in a block.

    Raises:
        IntegrityError: the present frame is damaged.
        NotFoundError: it, or one that it is built on, is not there.
    """
    from modelstore.blobs.choice import choose  # these load numpy
    from modelstore.blobs.encode import Encoding
    from modelstore.blobs.reader import opened

    with opened(locate, digest) as reader:
        dtype = reader.header.dtype
        source: RawSource = RawBlob(reader.read_at_most, reader.header.raw_size)
        choice = choose(source, dtype, ())
        try:
            return Encoding(digest, source, dtype, choice, block_log2).write(path, threads)
        except ConflictError as error:
            raise _not_its_bytes(digest) from error


def write_deeper(source: Path, header: FrameHeader, depth: int, path: Path) -> FrameHeader:
    """Write the frame at ``source`` to the new file ``path``, as one of another ``depth``."""
    frame = CheckedFrame(source, header, depth, lambda _: None)
    with disk.NewFile(path) as file:
        for piece in frame.pieces():
            file.write(piece)
        file.set_mode(_READ_ONLY)
        file.close(sync=False)
    return replace(header, depth=depth)


def write_arrived(
    pieces: Iterator[bytes], digest: Digest, path: Path, told: Callable[[int], None]
) -> None:
    """Write a frame that comes in ``pieces`` to the new file ``path``; not checked, not durable.

    Raises:
        IntegrityError: it is longer than its own header says.
    """
    with disk.NewFile(path) as file:
        start = b""
        most: int | None = None
        for piece in pieces:
            file.write(piece)
            told(len(piece))
            if most is None:
                start += piece
                most = claimed_size(start)
            if most is not None and file.size > most:
                raise IntegrityError(f"blob '{digest}' comes with more bytes than its header says")
        if most is None:
            raise IntegrityError(f"blob '{digest}' comes as something that is no frame")
        file.set_mode(_READ_ONLY)
        file.close(sync=False)


Took = Callable[[Digest, int, Bytes], None]
"""Is given a blob, where in it some bytes begin, and those, before the whole is proved."""


def prove(locate: Locate, digest: Digest, took: Took | None = None) -> set[Digest]:
    """Decode every block of a blob, and check that together they are what its name says.

    Args:
        locate: where the frames are.
        digest: the blob.
        took: is given every block that is hashed.

    Returns:
        the blobs that are proved by that: what it is built on was decoded, too, and is hashed along
        where its blocks lie beside each other.

    Raises:
        IntegrityError: they are not, or a frame is damaged.
        NotFoundError: a frame is missing.
    """
    from modelstore.blobs.reader import opened  # decoding loads numpy

    with opened(locate, digest) as reader:
        chain = list(_beside_each_other(reader))[::-1]  # a block's base first: it is decoded once
        hashers = {one.header.digest: Hasher() for one in chain}
        for index in range(reader.header.block_count):
            for one in chain:
                block = one.block_kept(index)
                hashers[one.header.digest].update(block)
                if took is not None:
                    took(one.header.digest, one.header.raw_range(index)[0], block)
    for name, hasher in hashers.items():
        if hasher.digest() != name:
            raise _not_its_bytes(name)
    return set(hashers)


def _beside_each_other(reader: BlobReader) -> Iterator[BlobReader]:
    """Yield a blob and those it is built on, as far down as their blocks hold the same values."""
    first = reader.header
    for one in reader.chain():
        header = one.header
        if (header.raw_size, header.block_size) != (first.raw_size, first.block_size):
            return
        yield one
        if header.base_dtype is not header.dtype:
            return


def _not_its_bytes(digest: Digest) -> IntegrityError:
    return IntegrityError(f"blob '{digest}' is damaged: its bytes are not those of its name")
