"""Xorbs: many chunks, each with a header of eight bytes and compressed by itself.

A chunk: version (0), compressed size (24 bits), scheme, raw size (24 bits), the compressed bytes;
numbers have their low byte first. After the last chunk there may be a footer, which says nothing new.
Source: huggingface/xet-core, `spec/xorb.md`.
"""

from __future__ import annotations

from array import array

from lz4.frame import LZ4FrameDecompressor

from modelstore.errors import UsageError
from modelstore.server.xet.merkle import Leaf, chunk_hash, to_hex, xorb_hash

MOST_RAW = 64 << 20
"""Bytes of all chunks of a xorb."""

MOST_CHUNKS = 8 << 10

MOST_BODY = MOST_RAW + (2 << 20)
"""Bytes of a xorb as it is sent: chunks that do not compress, their headers, and a footer."""

_HEADER = 8
_FOOTER = b"XETBLOB"
_NONE, _LZ4, _GROUPED = range(3)


class BadXorbError(UsageError):
    """What was sent is not a xorb."""


class XorbDecoder:
    """Takes a xorb piece by piece and gives the bytes of its chunks; a chunk is all that it keeps.

    Attributes:
        ends: where each chunk ends among the bytes of all of them.
    """

    def __init__(self) -> None:
        self.ends = array("Q")
        self._leaves: list[Leaf] = []
        self._waiting = bytearray()
        self._in_footer = False

    def feed(self, piece: bytes) -> bytes:
        """Take the next bytes; return those of the chunks that are whole now.

        Raises:
            BadXorbError: no xorb goes on like this.
        """
        if self._in_footer:
            return b""
        self._waiting += piece
        chunks = []
        start = 0
        while len(self._waiting) - start >= _HEADER:
            head = self._waiting[start : start + _HEADER]
            if head.startswith(_FOOTER) and self.ends:
                self._in_footer = True
                start = len(self._waiting)
                break
            size = int.from_bytes(head[1:4], "little")
            if len(self._waiting) - start < _HEADER + size:
                self._check(head)
                break
            begin = start + _HEADER
            chunks.append(self._chunk(head, bytes(self._waiting[begin : begin + size])))
            start = begin + size
        del self._waiting[:start]
        return b"".join(chunks)

    def name(self) -> str:
        """Return the hash of the xorb, once all of it was taken.

        Raises:
            BadXorbError: it ends early, or has no chunk.
        """
        if self._waiting or not self._leaves:
            raise BadXorbError("the xorb ends in the middle of a chunk, or has none")
        return to_hex(xorb_hash(self._leaves))

    def check_name(self, name: str) -> None:
        """Raise unless the xorb has this hash.

        Raises:
            BadXorbError: it has another one, ends early, or has no chunk.
        """
        found = self.name()
        if found != name:
            raise BadXorbError(f"the xorb is not {name}, but {found}")

    def _check(self, head: bytearray) -> int:
        """Return the raw size of a chunk that has a header like this."""
        raw = int.from_bytes(head[5:8], "little")
        if head[0] != 0 or head[4] > _GROUPED or not raw:
            raise BadXorbError("a chunk of the xorb has a header that is none")
        done = self.ends[-1] if self.ends else 0
        if done + raw > MOST_RAW or len(self.ends) >= MOST_CHUNKS:
            raise BadXorbError(f"the xorb has over {MOST_RAW} bytes or {MOST_CHUNKS} chunks")
        return raw

    def _chunk(self, head: bytearray, data: bytes) -> bytes:
        size = self._check(head)
        raw = data if head[4] == _NONE else _decompress(data, size)
        if len(raw) != size:
            raise BadXorbError("a chunk of the xorb is not as long as it says")
        if head[4] == _GROUPED:
            raw = ungroup(raw)
        self._leaves.append((chunk_hash(raw), size))
        self.ends.append((self.ends[-1] if self.ends else 0) + size)
        return raw


def _decompress(data: bytes, size: int) -> bytes:
    """Return at most ``size + 1`` bytes, however many there would be."""
    decoder = LZ4FrameDecompressor()
    try:
        raw = decoder.decompress(data, max_length=size + 1)
    except (RuntimeError, ValueError, EOFError, MemoryError) as error:
        raise BadXorbError("a chunk of the xorb is not what LZ4 makes") from error
    if not decoder.eof or decoder.unused_data:
        raise BadXorbError("a chunk of the xorb is not as long as it says")
    return bytes(raw)


def ungroup(grouped: bytes) -> bytes:
    """Return bytes of which all first ones of four came first, then all second ones, and so on."""
    raw = bytearray(len(grouped))
    start = 0
    for place in range(min(4, len(grouped))):
        count = (len(grouped) - place + 3) // 4
        raw[place::4] = grouped[start : start + count]
        start += count
    return bytes(raw)
