"""Xorbs and shards as clients of Xet send them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import lz4.frame

from modelstore.server.xet.merkle import chunk_hash, from_hex, to_hex, xorb_hash

Chunk = tuple[bytes, int]
"""Bytes, and the scheme that they are compressed by."""

Row = tuple[str, int, int, int]
"""A term: a xorb, and the size, the first and the end of its chunks."""


def group(raw: bytes) -> bytes:
    """Return all first bytes of four, then all second ones, and so on."""
    return b"".join(raw[place::4] for place in range(4))


def xorb_of(chunks: Sequence[Chunk]) -> bytes:
    """Return a xorb as clients send it."""
    body = b""
    for raw, scheme in chunks:
        data = (raw, raw, group(raw))[scheme]
        data = lz4.frame.compress(data) if scheme else data
        body += b"\0" + len(data).to_bytes(3, "little") + bytes([scheme])
        body += len(raw).to_bytes(3, "little") + data
    return body


def name_of(chunks: Sequence[Chunk]) -> str:
    """Return the hash of a xorb."""
    return to_hex(xorb_hash([(chunk_hash(raw), len(raw)) for raw, _ in chunks]))


def shard_of(listed: Sequence[tuple[str, str, Sequence[Row]]], *, verified: bool = True) -> bytes:
    """Return a shard of files: the hash, the SHA-256 or "", and the terms of each."""
    body = struct.pack("<32sQQ", b"HFRepoMetaData\0" + b"U" * 17, 2, 0)
    for name, sha256, terms in listed:
        flags = (1 << 31) * verified | (1 << 30) * bool(sha256)
        body += struct.pack("<32sIIQ", from_hex(name), flags, len(terms), 0)
        for xorb, size, start, stop in terms:
            body += struct.pack("<32sIIII", from_hex(xorb), 0, size, start, stop)
        body += bytes(48 * len(terms)) * verified
        if sha256:
            body += from_hex(sha256) + bytes(16)
    return body + b"\xff" * 32 + bytes(16) + b"\xff" * 32 + bytes(16)
