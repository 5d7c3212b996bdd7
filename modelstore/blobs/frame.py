"""The frame: a blob as it lies on disk, specified in `docs/format.md`, section "Frames".

A header of fixed layout, a table with the length and checksum of every encoded block, the
header's own checksum, and the blocks. So a frame is checked without decoding it and without its
base, and any block is read without the others.
Everything a header claims is checked against the size of the file before it is believed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelstore.blobs.source import RawSource
from modelstore.codecs.ids import CodecInfo, info_of_id
from modelstore.errors import IntegrityError, NewerFormatError, UsageError
from modelstore.hashing import DIGEST_SIZE, Digest, checksum
from modelstore.numeric import DType, dtype_of_code

MAGIC = b"\x89MSF\r\n\x1a\n"
"""As PNG's: a transfer that treats the file as text damages the first bytes."""

BLOCK_LOG2 = 20
"""Frames are written in blocks of 1 Mi values."""

MAX_BLOCK_LOG2 = 22
MAX_DEPTH = 15
"""The deepest chain of bases a reader follows; writers stop earlier."""

MAX_BLOCKS = 1 << 20
"""The most blocks of a frame that is read: a TiB in blocks of 1 Mi bytes."""

CHECKSUM_SIZE = 16

_FIXED = struct.Struct(f"<8sBBBBBBHQQI28s{DIGEST_SIZE}s{DIGEST_SIZE}s")
_ENTRY = struct.Struct(f"<I{CHECKSUM_SIZE}s")
_BLOCK_COUNT = struct.Struct("<I")
_BLOCK_COUNT_AT = 32
_RESERVED = bytes(28)
_NO_BASE = bytes(DIGEST_SIZE)

FIXED_SIZE = _FIXED.size
"""Bytes of the part of a header that every frame has."""


_MOST_RECIPE = 4096
_FACTORS = struct.Struct(f"<{DIGEST_SIZE}s{DIGEST_SIZE}s")


@dataclass(frozen=True, slots=True)
class FactorNames:
    """The blobs whose product a base is changed by, and how.

    Attributes:
        left, right: the two blobs.
        recipe: of `modelstore.codecs.factors.Recipe`, as bytes.
    """

    left: Digest
    right: Digest
    recipe: bytes

    def to_bytes(self) -> bytes:
        """Return the last block of a frame with factors."""
        return _FACTORS.pack(bytes.fromhex(self.left), bytes.fromhex(self.right)) + self.recipe

    @staticmethod
    def from_bytes(data: bytes) -> FactorNames:
        """Return what `to_bytes` made ``data`` of; it is not shorter than two names."""
        left, right = _FACTORS.unpack_from(data)
        return FactorNames(Digest(left.hex()), Digest(right.hex()), data[_FACTORS.size :])


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself.

    Attributes:
        digest: the blob's name: the BLAKE3 of its raw bytes.
        info: the codec of its blocks.
        dtype: how its raw bytes are read as numbers.
        raw_size: bytes of the blob.
        depth: 0 without a base, else more than the depth of the base's frame.
        block_log2: log2 of the values in every block but the last.
        base: the blob that the blocks are made against, or None.
        base_dtype: how the raw bytes of the base are read as numbers; BYTES without a base.
        base_size: bytes of the base; 0 without one.
        offsets: where each block begins in the file, and where the last one ends; that of the
            factors' names counts as one.
        checksums: 16 bytes for each block.
        factors: what the base is changed by, or None.
    """

    digest: Digest
    info: CodecInfo
    dtype: DType
    raw_size: int
    depth: int
    block_log2: int
    base: Digest | None
    base_dtype: DType
    base_size: int
    offsets: Sequence[int]
    checksums: bytes
    factors: FactorNames | None = None

    @property
    def built_on(self) -> tuple[Digest, ...]:
        """The blobs that are needed to decode this one."""
        if self.base is None:
            return ()
        if self.factors is None:
            return (self.base,)
        return self.base, self.factors.left, self.factors.right

    @property
    def codec(self) -> str:
        """The name of the codec."""
        return self.info.name

    @property
    def stored_size(self) -> int:
        """Bytes of the frame."""
        return self.offsets[-1]

    @property
    def block_size(self) -> int:
        """Raw bytes of every block but the last."""
        return self.dtype.width << self.block_log2

    @property
    def block_count(self) -> int:
        """How many blocks of values there are; none for a blob without bytes."""
        return len(self.offsets) - 1 - self.info.takes_factors

    def raw_range(self, index: int) -> tuple[int, int]:
        """Return the raw bytes ``[start, stop)`` that block ``index`` holds."""
        start = index * self.block_size
        return start, min(start + self.block_size, self.raw_size)

    def checksum_of(self, index: int) -> bytes:
        """Return the checksum of the encoded bytes of block ``index``."""
        return self.checksums[index * CHECKSUM_SIZE : (index + 1) * CHECKSUM_SIZE]


def count_blocks(raw_size: int, width: int, block_log2: int) -> int:
    """Return how many blocks a blob of ``raw_size`` bytes has."""
    return -(-(raw_size // width) >> block_log2)


def header_size(blocks: int) -> int:
    """Return the bytes of the header of a frame of so many blocks."""
    return _FIXED.size + blocks * _ENTRY.size + CHECKSUM_SIZE


def claimed_depth(start: bytes, digest: Digest) -> int | None:
    """Return the depth that the first `FIXED_SIZE` bytes of a frame say; a claim.

    None if they do not begin a frame of ``digest``. Their checksum lies further back.
    """
    if len(start) < _FIXED.size or not start.startswith(MAGIC):
        return None
    fields = _FIXED.unpack_from(start)
    name, depth = fields[-2], fields[2]
    return int(depth) if name.hex() == digest and depth <= MAX_DEPTH else None


def claimed_size(start: bytes) -> int | None:
    """Return the bytes of a frame as its header, at the beginning of ``start``, says; a claim.

    None while ``start`` is too short to tell.

    Raises:
        IntegrityError: this is not how a frame begins.
    """
    if len(start) < _FIXED.size:
        return None
    blocks = _BLOCK_COUNT.unpack_from(start, _BLOCK_COUNT_AT)[0]
    if not start.startswith(MAGIC) or blocks > MAX_BLOCKS:
        raise IntegrityError("what should be a frame does not begin like one")
    size = header_size(blocks)
    if len(start) < size:
        return None
    table = start[_FIXED.size : size - CHECKSUM_SIZE]
    return size + sum(int(length) for length, _ in _ENTRY.iter_unpack(table))


def pack_header(header: FrameHeader) -> bytes:
    """Return ``header`` as it lies in the file.

    Raises:
        UsageError: the blob has more blocks than a reader would believe.
    """
    if len(header.offsets) - 1 > MAX_BLOCKS:
        raise UsageError(f"blob '{header.digest}' of {header.raw_size} bytes is too large")
    fixed = _FIXED.pack(
        MAGIC,
        header.info.id,
        header.depth,
        header.dtype.code,
        header.base_dtype.code,
        header.block_log2,
        0,
        0,
        header.raw_size,
        header.base_size,
        len(header.offsets) - 1,
        _RESERVED,
        bytes.fromhex(header.digest),
        bytes.fromhex(header.base) if header.base else _NO_BASE,
    )
    entries = (
        _ENTRY.pack(header.offsets[i + 1] - header.offsets[i], header.checksum_of(i))
        for i in range(len(header.offsets) - 1)
    )
    packed = fixed + b"".join(entries)
    return packed + checksum(packed, CHECKSUM_SIZE)


def parse_header(source: RawSource, digest: Digest) -> FrameHeader:
    """Return the verified header of the frame in ``source``.

    Args:
        source: the whole frame.
        digest: the name that the frame goes by.

    Raises:
        IntegrityError: it is not an intact header, not of this blob, or not of this file's size.
        NewerFormatError: it is intact and says something that this mstore does not know.
    """
    packed = _read_header(source, digest)
    fields = _FIXED.unpack_from(packed)
    _, codec, depth, dtype, base_dtype, block_log2, zero, flags = fields[:8]
    raw_size, base_size, _, reserved, name, base = fields[8:]
    info, kind, base_kind = info_of_id(codec), dtype_of_code(dtype), dtype_of_code(base_dtype)
    if info is None or kind is None or base_kind is None or zero or flags or any(reserved):
        raise NewerFormatError(f"blob '{digest}' was written by a newer mstore", "update mstore")
    offsets, checksums = _parse_table(packed)
    header = FrameHeader(
        digest=Digest(name.hex()),
        info=info,
        dtype=kind,
        raw_size=raw_size,
        depth=depth,
        block_log2=block_log2,
        base=Digest(base.hex()) if base != _NO_BASE else None,
        base_dtype=base_kind,
        base_size=base_size,
        offsets=offsets,
        checksums=checksums,
    )
    if not (_names_and_sizes_agree(header, digest, source.size) and _base_agrees(header)):
        raise _damaged(digest, "its header contradicts itself, its name or its size")
    if not info.takes_factors:
        return header
    names = FactorNames.from_bytes(read_block(source, header, header.block_count))
    header = replace(header, factors=names)
    if digest in header.built_on:
        raise _damaged(digest, "it is built on itself")
    return header


def _read_header(source: RawSource, digest: Digest) -> bytes:
    """Return the header's bytes once their checksum holds; reads no more than the file has."""
    if source.size < header_size(0):
        raise _damaged(digest, "it is shorter than any frame")
    start = source.read(0, _FIXED.size)
    if not start.startswith(MAGIC):
        raise _damaged(digest, "it does not begin like a frame")
    blocks = _BLOCK_COUNT.unpack_from(start, _BLOCK_COUNT_AT)[0]
    size = header_size(blocks)
    if size > source.size:
        raise _damaged(digest, "it is shorter than its header")
    if blocks > MAX_BLOCKS:
        raise _damaged(digest, f"it claims {blocks} blocks")
    header = source.read(0, size)
    if checksum(header[:-CHECKSUM_SIZE], CHECKSUM_SIZE) != header[-CHECKSUM_SIZE:]:
        raise _damaged(digest, "its header does not match its checksum")
    return header


def _parse_table(packed: bytes) -> tuple[Sequence[int], bytes]:
    offsets = array("Q", (len(packed),))
    checksums = bytearray()
    for length, block_checksum in _ENTRY.iter_unpack(packed[_FIXED.size : -CHECKSUM_SIZE]):
        offsets.append(offsets[-1] + length)
        checksums += block_checksum
    return offsets, bytes(checksums)


def _names_and_sizes_agree(header: FrameHeader, digest: Digest, size: int) -> bool:
    if header.digest != digest or header.stored_size != size:
        return False
    width = header.dtype.width
    if header.raw_size % width or header.block_log2 > MAX_BLOCK_LOG2:
        return False
    if header.block_count != count_blocks(header.raw_size, width, header.block_log2):
        return False
    if header.info.takes_factors and not _recipe_fits(header):
        return False
    return all(_length_is_possible(header, index) for index in range(header.block_count))


def _recipe_fits(header: FrameHeader) -> bool:
    length = header.offsets[-1] - header.offsets[-2] if len(header.offsets) > 1 else 0
    return _FACTORS.size < length <= _FACTORS.size + _MOST_RECIPE


def _length_is_possible(header: FrameHeader, index: int) -> bool:
    start, stop = header.raw_range(index)
    return 1 <= header.offsets[index + 1] - header.offsets[index] <= 1 + stop - start


def _base_agrees(header: FrameHeader) -> bool:
    if header.base is None:
        return not (
            header.info.takes_base or header.depth or header.base_size or header.base_dtype.code
        )
    return (
        header.info.takes_base
        and header.base != header.digest
        and 1 <= header.depth <= MAX_DEPTH
        and header.base_size % header.base_dtype.width == 0
    )


def read_block(source: RawSource, header: FrameHeader, index: int) -> bytes:
    """Return the encoded bytes of block ``index``, which match their checksum.

    Raises:
        IntegrityError: they do not.
    """
    payload = source.read(header.offsets[index], header.offsets[index + 1])
    if checksum(payload, CHECKSUM_SIZE) != header.checksum_of(index):
        raise _damaged(header.digest, f"block {index} does not match its checksum")
    return payload


def check_frame(source: RawSource, digest: Digest) -> FrameHeader:
    """Return the header of the frame in ``source`` after checking every byte of the frame.

    Needs neither the base nor a codec; reads the frame once, a block at a time.

    Args:
        source: the whole frame, here or on a remote.
        digest: the name that the frame goes by.

    Raises:
        IntegrityError: a byte is not what was written, or the frame is of another blob.
        NewerFormatError: it is intact and says something that this mstore does not know.
    """
    header = parse_header(source, digest)
    for index in range(header.block_count):
        read_block(source, header, index)
    return header


def _damaged(digest: Digest, how: str) -> IntegrityError:
    return IntegrityError(f"blob '{digest}' is damaged: {how}", "run: mstore fsck --full")
