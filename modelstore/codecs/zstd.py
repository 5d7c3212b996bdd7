"""Zstandard (RFC 8878) for text, headers and bytes without structure, and as the coder of planes.

A stored stream is one zstd frame that states its content size, so that a hostile one is refused
before anything is allocated.
"""

from __future__ import annotations

import threading

import numpy as np
import zstandard

from modelstore.codecs import ids
from modelstore.codecs.base import Bits, Grid, PayloadError
from modelstore.hashing import Bytes
from modelstore.numeric import DType

FAST = 1
"""The level for planes: measured, level 3 is both slower and larger there."""

_TEXT = 3
"""The level for text: 6 % smaller than level 1 on a tokenizer.json; higher ones are slow."""


class _Own(threading.local):
    """What a thread keeps: making these costs as much as compressing some thousand bytes."""

    def __init__(self) -> None:
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self._decompressor: zstandard.ZstdDecompressor | None = None

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        """Return the compressor of a level."""
        if level not in self._compressors:
            self._compressors[level] = zstandard.ZstdCompressor(level=level)
        return self._compressors[level]

    def decompressor(self) -> zstandard.ZstdDecompressor:
        """Return the decompressor."""
        if self._decompressor is None:
            self._decompressor = zstandard.ZstdDecompressor()
        return self._decompressor


_own = _Own()


def compress(data: Bytes, level: int) -> bytes:
    """Return ``data`` as one zstd frame that states its content size."""
    return _own.compressor(level).compress(data)


def decompress(data: Bytes, size: int) -> bytes:
    """Return the ``size`` bytes, at least one, that the zstd frame ``data`` holds.

    Raises:
        PayloadError: ``data`` is anything but one whole frame of ``size`` bytes.
    """
    try:
        if zstandard.frame_content_size(data) != size:
            raise PayloadError(f"a zstd frame does not state {size} bytes")
        content = _own.decompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PayloadError(f"a zstd frame is damaged: {error}") from error
    if len(content) != size:
        raise PayloadError(f"a zstd frame holds {len(content)} bytes, not {size}")
    return content


def decompress_at_most(data: Bytes, most: int) -> bytes:
    """Return what the zstd frame ``data`` holds, if that is 1 to ``most`` bytes.

    Raises:
        PayloadError: ``data`` is anything but one whole frame that states such a size.
    """
    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise PayloadError(f"a zstd frame is damaged: {error}") from error
    if not 1 <= size <= most:
        raise PayloadError(f"a zstd frame does not state a size of 1 to {most} bytes")
    return decompress(data, size)


class ZstdCodec:
    """The bytes of the block as one zstd frame."""

    info = ids.ZSTD

    def encode(self, values: Bits, dtype: DType, base: Bits | None, grid: Grid) -> bytes:
        """Return the compressed bytes of ``values``."""
        return compress(values.view(np.uint8).data, _TEXT)

    def decode(self, body: Bytes, count: int, dtype: DType, base: Bits | None) -> Bits:
        """Return the values of the one zstd frame in ``body``."""
        return np.frombuffer(decompress(body, count * dtype.width), f"<u{dtype.width}")
