"""Stores, manifests and frames as an attacker would make them: every checksum right, all else not."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from modelstore import manifest
from modelstore.codecs import ids
from modelstore.codecs.ids import CodecInfo
from modelstore.hashing import Digest, checksum, digest_of
from modelstore.manifest import BlobSpan, FileEntry, Manifest
from modelstore.names import ModelName
from modelstore.state import Change
from modelstore.store import Store

MODEL = ModelName("m")
CONSTANT = b"\1"
"""The first byte of a block that repeats one value; see docs/format.md, section "Frames"."""


def frame(
    name: Digest,
    blocks: Sequence[bytes],
    *,
    codec: CodecInfo = ids.RAW,
    raw_size: int,
    depth: int = 0,
    block_log2: int = 20,
    base: Digest | None = None,
    base_size: int = 0,
    count: int | None = None,
) -> bytes:
    """Return a frame of bytes with right checksums, however wrong what it says.

    Args:
        count: the number of blocks that it claims; None for those it has.
    """
    rows = b"".join(struct.pack("<I16s", len(b), checksum(b, 16)) for b in blocks)
    head = struct.pack(
        "<8sBBBBBBHQQI28s32s32s",
        b"\x89MSF\r\n\x1a\n",
        codec.id,
        depth,
        0,
        0,
        block_log2,
        0,
        0,
        raw_size,
        base_size,
        len(blocks) if count is None else count,
        bytes(28),
        bytes.fromhex(name),
        bytes.fromhex(base) if base else bytes(32),
    )
    return head + rows + checksum(head + rows, 16) + b"".join(blocks)


def put(store: Store, name: Digest, data: bytes) -> None:
    """Put a frame where the blob of this name would lie."""
    store.blobs.path(name).write_bytes(data)


def file_of(path: str, data: bytes = b"data") -> FileEntry:
    """Return a file of one blob, which need not exist."""
    digest = digest_of(data)
    span = BlobSpan(digest, len(data))
    return FileEntry(path, len(data), digest, "0" * 64, "", "opaque", False, (span,))


def plant(store: Store, manifests: Mapping[str, bytes | Manifest], **entry: Any) -> None:
    """Register versions whose manifests are exactly these, with the blob of `file_of` in the store."""
    versions = {}
    with store.blobs.transaction() as transaction:
        transaction.add_bytes(b"data")
        for version, one in manifests.items():
            data = one if isinstance(one, bytes) else manifest.encode(one)
            versions[version] = {"id": transaction.add_bytes(data), "seq": 1, **entry}
        transaction.publish()
    store.change(MODEL, lambda _: Change("commit", versions, active=next(iter(versions))))
