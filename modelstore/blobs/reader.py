"""Decoding a frame, together with the frames it is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modelstore.blobs.frame import FrameHeader, check_frame, parse_header, read_block
from modelstore.blobs.source import FileSource, open_frame
from modelstore.codecs.base import PayloadError
from modelstore.codecs.blocks import decode_block
from modelstore.errors import IntegrityError, NewerFormatError
from modelstore.hashing import Bytes, Digest

Locate = Callable[[Digest], Path]
"""Where the frame of a blob lies, or would lie."""


class BlobReader:
    """An open frame and, where it has one, the open reader of its base.

    Several threads may read from it at once.
    """

    def __init__(self, source: FileSource, header: FrameHeader, base: BlobReader | None) -> None:
        self.header = header
        self.base = base
        self._source = source
        self._last: tuple[int, memoryview] | None = None

    def close(self) -> None:
        """Close the frame and those it is built on."""
        self._source.close()
        if self.base is not None:
            self.base.close()

    def block(self, index: int) -> memoryview:
        """Return the raw bytes of block ``index``.

        Raises:
            IntegrityError: this frame, or one it is built on, is damaged.
        """
        header = self.header
        payload = read_block(self._source, header, index)
        start, stop = header.raw_range(index)
        base = None if self.base is None else self.base.read_at_most(start, stop)
        try:
            return decode_block(header.info, payload, stop - start, header.dtype, base or None)
        except PayloadError as error:
            raise IntegrityError(
                f"blob '{header.digest}' is damaged: block {index}: {error}",
                "run: mstore verify REF",
            ) from error

    def read_at_most(self, start: int, stop: int) -> Bytes:
        """Return the raw bytes ``[start, stop)``, or those of them that the blob has."""
        stop = min(stop, self.header.raw_size)
        if start >= stop:
            return b""
        size = self.header.block_size
        first, last = start // size, (stop - 1) // size
        pieces = [self._remembered(index) for index in range(first, last + 1)]
        pieces[-1] = pieces[-1][: stop - last * size]
        pieces[0] = pieces[0][start - first * size :]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _remembered(self, index: int) -> memoryview:
        """Return a block; the last one is kept, for a sample is read before the whole."""
        last = self._last
        if last is None or last[0] != index:
            last = self._last = index, self.block(index)
        return last[1]

    def check(self) -> None:
        """Check every byte of this frame and of those it is built on, without decoding them.

        Raises:
            IntegrityError: a byte is not what was written.
        """
        check_frame(self._source, self.header.digest)
        if self.base is not None:
            self.base.check()


@contextmanager
def opened(locate: Locate, digest: Digest) -> Iterator[BlobReader]:
    """Open blob ``digest`` and those it is built on for the length of the block.

    Raises:
        NotFoundError: the blob, or one that it is built on, is not there.
        IntegrityError: one of their headers is damaged, or they do not fit together.
    """
    reader = open_reader(locate, digest)
    try:
        yield reader
    finally:
        reader.close()


def open_reader(locate: Locate, digest: Digest) -> BlobReader:
    """Open blob ``digest`` as `opened` does; the caller closes it."""
    return _open(locate, digest, None)


def _open(locate: Locate, digest: Digest, child: FrameHeader | None) -> BlobReader:
    source = open_frame(locate(digest), digest, None if child is None else child.digest)
    try:
        header = parse_header(source, digest)
        if child is not None:
            _require_fit(header, child)
        base = None if header.base is None else _open(locate, header.base, header)
    except BaseException:
        source.close()
        raise
    return BlobReader(source, header, base)


def _require_fit(base: FrameHeader, child: FrameHeader) -> None:
    if child.base_dtype is not child.dtype:
        raise NewerFormatError(
            f"blob '{child.digest}' is built on other kinds of numbers, as newer mstores do",
            "update mstore",
        )
    if base.depth >= child.depth or base.raw_size != child.base_size:
        raise IntegrityError(
            f"blob '{child.digest}' and its base '{base.digest}' do not fit together",
            "run: mstore verify REF",
        )
