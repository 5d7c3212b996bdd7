"""A blob store of small blocks, and weights to put into it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from modelstore.blobs import Added, BlobStore, BytesSource
from modelstore.blobs.frame import header_size
from modelstore.hashing import Digest, checksum, digest_of
from modelstore.numeric import dtype_named

BF16 = dtype_named("BF16")


def store_at(root: Path, threads: int = 2, block_log2: int = 8) -> BlobStore:
    """Return a new store of blocks of 256 values."""
    store = BlobStore(root, threads=threads, block_log2=block_log2)
    store.create()
    return store


def fine_tuned(versions: int, count: int = 3000) -> list[bytes]:
    """Return the bf16 bytes of a tensor and of ``versions - 1`` small steps away from it."""
    rng = np.random.default_rng(7)
    weights = (rng.standard_normal(count) * 0.02).astype("<f4")
    result = []
    for _ in range(versions):
        result.append((weights.view("<u4") >> 16).astype("<u2").tobytes())
        weights = weights + (rng.standard_normal(count) * 1e-5).astype("<f4")
    return result


def add(store: BlobStore, data: bytes, *bases: bytes, dtype: str = "BF16") -> tuple[Digest, Added]:
    """Publish one blob, perhaps made against others; return its name and what became of it."""
    digest = digest_of(data)
    with store.transaction() as transaction:
        added = transaction.add(
            digest,
            BytesSource(data),
            dtype=dtype_named(dtype),
            bases=[digest_of(base) for base in bases],
        )
        transaction.publish()
    return digest, added


def damage(path: Path, data: bytes) -> None:
    """Make the read-only frame at ``path`` hold ``data``."""
    path.chmod(0o644)
    path.write_bytes(data)


def resealed(frame: bytes, place: int, value: bytes) -> bytes:
    """Return the frame with other header bytes and a header checksum that fits them."""
    changed = frame[:place] + value + frame[place + len(value) :]
    blocks = struct.unpack_from("<I", frame, 32)[0]
    covered = changed[: header_size(blocks) - 16]
    return covered + checksum(covered, 16) + changed[len(covered) + 16 :]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    """An empty store."""
    return store_at(tmp_path / ".mstore")
