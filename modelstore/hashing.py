"""The one home of BLAKE3, and the other digests that neighbours of mstore ask for.

A blob, a manifest and a registry record are named by the BLAKE3 of their raw bytes.
Files also get a SHA-256 (Hugging Face LFS, OCI layers, model-signing) and, when they are small,
the SHA-1 that git gives a blob, so that serving them later needs no second reading.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NewType

from blake3 import blake3

from modelstore.errors import BadNameError

Digest = NewType("Digest", str)
"""64 lower-case hex digits: the BLAKE3-256 of some raw bytes."""

Bytes = bytes | bytearray | memoryview
"""Whatever holds bytes; a memoryview is contiguous."""

DIGEST_SIZE = 32
"""Bytes of a digest as it lies in a frame."""

GIT_SHA1_LIMIT = 10 << 20
"""Files up to this size get git's SHA-1; larger ones are LFS files on every hub."""

_DIGITS = re.compile(r"[0-9a-f]*")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def parse_digest(text: str) -> Digest:
    """Return ``text`` as a digest.

    Raises:
        BadNameError: ``text`` is not exactly 64 lower-case hex digits.
    """
    if not isinstance(text, str) or not _DIGEST.match(text):
        raise BadNameError(f"{text!r} is not a digest", "digests are 64 lower-case hex digits")
    return Digest(text)


def check_digests(texts: Sequence[str]) -> None:
    """Check that every one of ``texts`` is a digest; a good deal faster than one by one.

    Raises:
        BadNameError: one of them is not.
        TypeError: one of them is not a string.
    """
    if set(map(len, texts)) - {2 * DIGEST_SIZE} or not _DIGITS.fullmatch("".join(texts)):
        for text in texts:
            parse_digest(text)


def digest_of(data: Bytes) -> Digest:
    """Return the BLAKE3-256 of ``data``."""
    return Digest(blake3(data).hexdigest())


def checksum(data: Bytes, size: int) -> bytes:
    """Return the first ``size`` bytes of the BLAKE3 of ``data``."""
    return blake3(data).digest(length=size)


def derive_key(purpose: str, secret: bytes, size: int = 32) -> bytes:
    """Return ``size`` bytes that follow from ``secret`` for one ``purpose`` only.

    This is the key derivation mode of BLAKE3: keys for two purposes tell nothing of each other,
    nor of ``secret``, which must itself be as hard to guess as a random key.
    """
    return blake3(secret, derive_key_context=purpose).digest(length=size)


def keyed(key: bytes, data: Bytes) -> bytes:
    """Return the 32 bytes of the keyed hash of ``data``; a key has 32 bytes."""
    return blake3(data, key=key).digest()


class Hasher:
    """The BLAKE3-256 of bytes that come piece by piece."""

    def __init__(self) -> None:
        self._blake3 = blake3()

    def update(self, data: Bytes) -> None:
        """Take the next piece."""
        self._blake3.update(data)

    def digest(self) -> Digest:
        """Return the digest of everything taken so far."""
        return Digest(self._blake3.hexdigest())


class FileHasher:
    """All digests of one file of ``size`` bytes, in one pass."""

    def __init__(self, size: int) -> None:
        self._blake3 = blake3()
        self._sha256 = hashlib.sha256()
        self._sha1 = None
        if size <= GIT_SHA1_LIMIT:
            self._sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, data: Bytes) -> None:
        """Take the next piece of the file."""
        self._blake3.update(data)
        self._sha256.update(data)
        if self._sha1 is not None:
            self._sha1.update(data)

    @property
    def blake3(self) -> Digest:
        """The file's BLAKE3-256."""
        return Digest(self._blake3.hexdigest())

    @property
    def sha256(self) -> str:
        """The file's SHA-256, 64 hex digits."""
        return self._sha256.hexdigest()

    @property
    def git_sha1(self) -> str:
        """The name git gives the file, 40 hex digits; "" for files over ``GIT_SHA1_LIMIT``."""
        return self._sha1.hexdigest() if self._sha1 is not None else ""
