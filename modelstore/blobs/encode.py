"""Writing a frame: blocks in parallel, the header last."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from modelstore import disk
from modelstore.blobs.choice import Choice
from modelstore.blobs.frame import (
    CHECKSUM_SIZE,
    FrameHeader,
    count_blocks,
    header_size,
    pack_header,
)
from modelstore.blobs.parallel import in_order
from modelstore.blobs.source import RawSource
from modelstore.codecs.base import Grid, PayloadError
from modelstore.codecs.blocks import encode_block
from modelstore.errors import ConflictError, StoreError
from modelstore.hashing import Bytes, Digest, Hasher, checksum
from modelstore.numeric import BYTES, DType

_READ_ONLY = 0o444


class Encoding:
    """One blob on its way into a frame.

    Args:
        digest: the blob's name.
        source: its raw bytes, a whole number of values; read once, in order.
        dtype: how they are read as numbers.
        choice: the codec, and an open base or none.
        block_log2: log2 of the values in a block.
        columns: values in a row of the tensor, 0 where that is unknown.
    """

    def __init__(
        self,
        digest: Digest,
        source: RawSource,
        dtype: DType,
        choice: Choice,
        block_log2: int,
        columns: int = 0,
    ) -> None:
        self._digest = digest
        self._source = source
        self._dtype = dtype
        self._choice = choice
        self._block_log2 = block_log2
        self._grid = Grid(columns, 0)
        self._hasher = Hasher()

    def write(self, path: Path, threads: int) -> FrameHeader:
        """Write the frame to the new file ``path``, read-only and not yet durable.

        Raises:
            ConflictError: the source's bytes are not those that ``digest`` names.
            StoreError: a codec did not give back what it was given.
        """
        count = count_blocks(self._source.size, self._dtype.width, self._block_log2)
        names = None if self._choice.factors is None else self._choice.factors.names
        last = () if names is None else (names.to_bytes(),)
        offsets, checksums = array("Q", (header_size(count + len(last)),)), bytearray()
        with disk.NewFile(path) as file:
            workers = min(threads, count)
            for payload in chain(in_order(self._encode, self._blocks(), workers), last):
                file.write_at(payload, offsets[-1])
                offsets.append(offsets[-1] + len(payload))
                checksums += checksum(payload, CHECKSUM_SIZE)
            if self._hasher.digest() != self._digest:
                raise self._changed()
            header = self._header(offsets, bytes(checksums))
            file.write_at(pack_header(header), 0)
            file.set_mode(_READ_ONLY)
            file.close(sync=False)
        return header

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        size = self._dtype.width << self._block_log2
        for start in range(0, self._source.size, size):
            stop = min(start + size, self._source.size)
            raw = self._source.read(start, stop)
            if len(raw) != stop - start:
                raise self._changed()
            self._hasher.update(raw)
            yield start, raw

    def _encode(self, block: tuple[int, bytes]) -> Bytes:
        start, raw = block
        first, count = start // self._dtype.width, len(raw) // self._dtype.width
        try:
            base = self._choice.base_values(first, first + count, self._dtype)
            grid = self._grid.after(first)
            return encode_block(self._choice.codec, raw, self._dtype, base, grid)
        except PayloadError as error:
            raise StoreError(
                f"blob '{self._digest}' cannot be stored: {error}", "report this as a bug in mstore"
            ) from error

    def _header(self, offsets: array[int], checksums: bytes) -> FrameHeader:
        base = None if self._choice.base is None else self._choice.base.header
        return FrameHeader(
            digest=self._digest,
            info=self._choice.codec,
            dtype=self._dtype,
            raw_size=self._source.size,
            depth=self._choice.depth,
            block_log2=self._block_log2,
            base=None if base is None else base.digest,
            base_dtype=BYTES if base is None else self._choice.base_dtype or self._dtype,
            base_size=0 if base is None else base.raw_size,
            offsets=offsets,
            checksums=checksums,
            factors=None if self._choice.factors is None else self._choice.factors.names,
        )

    def _changed(self) -> ConflictError:
        return ConflictError(
            f"the bytes of blob '{self._digest}' changed while they were being committed",
            "wait until nothing writes to the files any more, and commit again",
        )
