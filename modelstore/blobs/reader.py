"""Decoding a frame, together with the frames it is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modelstore.blobs.frame import FrameHeader, check_frame, parse_header, read_block
from modelstore.blobs.open_factors import OpenFactors
from modelstore.blobs.source import FileSource, open_frame
from modelstore.codecs.base import PayloadError
from modelstore.codecs.blocks import decode_block
from modelstore.codecs.convert import convert, is_convertible
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Bytes, Digest
from modelstore.numeric import DType, as_bits

MOST_OF_A_FACTOR = 1 << 26
"""Bytes of a factor: it is held in memory as a whole, and as float64."""

_MOST_OF_A_CHILD = 4  # times what it is a factor of
_SMALL = 1 << 16  # bytes

_MOST_OPEN = 256
"""Frames that one may be built on. Each may name three, so that fifteen levels would be millions."""

Locate = Callable[[Digest], Path]
"""Where the frame of a blob lies, or would lie."""


class BlobReader:
    """An open frame and, where it has one, the open reader of its base.

    Several threads may read from it at once.
    """

    def __init__(
        self,
        source: FileSource,
        header: FrameHeader,
        base: BlobReader | None,
        factors: OpenFactors[BlobReader] | None,
    ) -> None:
        self.header = header
        self.base = base
        self._factors = factors
        self._source = source
        self._last: tuple[int, memoryview] | None = None

    def close(self) -> None:
        """Close the frame and those it is built on."""
        self._source.close()
        for reader in self._built_on():
            reader.close()

    def _built_on(self) -> Iterator[BlobReader]:
        if self.base is not None:
            yield self.base
        if self._factors is not None:
            yield from self._factors.blobs

    def block(self, index: int) -> memoryview:
        """Return the raw bytes of block ``index``.

        Raises:
            IntegrityError: this frame, or one it is built on, is damaged.
        """
        header = self.header
        payload = read_block(self._source, header, index)
        start, stop = header.raw_range(index)
        width = header.dtype.width
        try:
            base = self._base_values(start // width, stop // width)
            return decode_block(header.info, payload, stop - start, header.dtype, base or None)
        except PayloadError as error:
            raise IntegrityError(
                f"blob '{header.digest}' is damaged: block {index}: {error}",
                "run: mstore fsck --full",
            ) from error

    def _base_values(self, start: int, stop: int) -> Bytes | None:
        """Return the values that a block is built on, or those of them that there are."""
        if self.base is None:
            return None
        header = self.header
        base = self.base.values_at_most(start, stop, header.base_dtype, header.dtype)
        if self._factors is None or not base:
            return base
        return self._factors.predict(base, header.dtype, start)

    def read_at_most(self, start: int, stop: int) -> Bytes:
        """Return the raw bytes ``[start, stop)``, or those of them that the blob has."""
        stop = min(stop, self.header.raw_size)
        if start >= stop:
            return b""
        size = self.header.block_size
        first, last = start // size, (stop - 1) // size
        pieces = [self.block_kept(index) for index in range(first, last + 1)]
        pieces[-1] = pieces[-1][: stop - last * size]
        pieces[0] = pieces[0][start - first * size :]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def values_at_most(self, start: int, stop: int, held: DType, wanted: DType) -> Bytes:
        """Return the values ``[start, stop)``, or those of them that the blob has.

        Args:
            held: how the blob's bytes are read as numbers.
            wanted: the kind of numbers to return; one that ``held`` can be converted to.
        """
        raw = self.read_at_most(start * held.width, stop * held.width)
        if held is wanted:
            return raw
        return convert(as_bits(raw, held), held, wanted).view("u1").data

    def block_kept(self, index: int) -> memoryview:
        """Return a block; the last one is kept, for a sample is read before the whole."""
        last = self._last
        if last is None or last[0] != index:
            last = self._last = index, self.block(index)
        return last[1]

    def chain(self) -> Iterator[BlobReader]:
        """Yield this one and those it is built on, the nearest first."""
        reader: BlobReader | None = self
        while reader is not None:
            yield reader
            reader = reader.base

    def check(self) -> None:
        """Check every byte of this frame and of those it is built on, without decoding them.

        Raises:
            IntegrityError: a byte is not what was written.
        """
        check_frame(self._source, self.header.digest)
        for reader in self._built_on():
            reader.check()


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
    return _open(locate, digest, None, iter(range(_MOST_OPEN)))


def _open(
    locate: Locate, digest: Digest, child: FrameHeader | None, budget: Iterator[int]
) -> BlobReader:
    """Open a frame for ``child``, and what it is built on; each takes one of ``budget``."""
    if next(budget, None) is None:
        raise IntegrityError(
            f"blob '{digest}' is under more than {_MOST_OPEN} frames", "run: mstore fsck --full"
        )
    with ExitStack() as stack:
        source = _open_source(locate, digest, None if child is None else child.digest)
        stack.callback(source.close)
        header = parse_header(source, digest)
        if child is not None:
            _require_fit(header, child)

        def open_below(name: Digest) -> BlobReader:
            reader = _open(locate, name, header, budget)
            stack.callback(reader.close)
            return reader

        base = None if header.base is None else open_below(header.base)
        factors = None
        if header.factors is not None:
            left, right = open_below(header.factors.left), open_below(header.factors.right)
            factors = OpenFactors(header.factors, left, right)
        stack.pop_all()
        return BlobReader(source, header, base, factors)


def _open_source(locate: Locate, digest: Digest, child: Digest | None) -> FileSource:
    try:
        return open_frame(locate(digest), digest, child)
    except NotFoundError:  # a gc, or an undelete, may have moved it since it was located
        return open_frame(locate(digest), digest, child)


def _require_fit(base: FrameHeader, child: FrameHeader) -> None:
    """Raise unless a frame, which may be a factor of another, can be what that is built on."""
    kinds = child.base_dtype, child.dtype
    if kinds[0] is not kinds[1] and not is_convertible(*kinds):
        raise NewerFormatError(
            f"blob '{child.digest}' is built on kinds of numbers that newer mstores convert",
            "update mstore",
        )
    fits = base.digest != child.base or base.raw_size == child.base_size
    if child.factors is not None and base.digest in (child.factors.left, child.factors.right):
        most = min(_MOST_OF_A_CHILD * max(child.raw_size, _SMALL), MOST_OF_A_FACTOR)
        fits = fits and base.raw_size <= most
    if base.depth >= child.depth or not fits:
        raise IntegrityError(
            f"blob '{child.digest}' and its base '{base.digest}' do not fit together",
            "run: mstore fsck --full",
        )
