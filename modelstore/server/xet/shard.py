"""Shards: of which chunks of which xorbs files consist.

A header, and then rows of 48 bytes each: for every file one with its hash, flags and how many terms
it has, the terms, as many rows to verify them if flag 31 is set, and one with its SHA-256 if flag 30
is; a hash of nothing but ones ends them. What follows is of no use here. Numbers have their low byte
first. Source: huggingface/xet-core, `spec/shard.md`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from modelstore.errors import UsageError
from modelstore.server.xet.merkle import to_hex

MOST_BODY = 64 << 20
"""Bytes of a shard."""

_MAGIC = b"HFRepoMetaData"
_VERSION = 2
_HEADER = struct.Struct("<32sQQ")
_FILE = struct.Struct("<32sIIQ")
_TERM = struct.Struct("<32sIIII")
_ROW = 48
_VERIFIED, _HASHED = 1 << 31, 1 << 30
_END = b"\xff" * 32


class BadShardError(UsageError):
    """What was sent is not a shard, or names what was not sent."""


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks ``[start, stop)`` of a xorb, which have ``size`` bytes."""

    xorb: str
    start: int
    stop: int
    size: int


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of a shard.

    Attributes:
        name: its hash by Xet.
        sha256: of its bytes, "" where the client did not say.
        size: in bytes.
        rows: its terms, as they lie in the shard.
    """

    name: str
    sha256: str
    size: int
    rows: memoryview

    def terms(self) -> Iterator[Term]:
        """Yield what it consists of, in order."""
        for xorb, _, size, start, stop in _TERM.iter_unpack(self.rows):
            yield Term(to_hex(xorb), start, stop, size)


def files(data: bytes | mmap.mmap) -> Iterator[ShardFile]:
    """Yield the files of a shard.

    Raises:
        BadShardError: it is none.
    """
    view = memoryview(data)
    if len(view) < _ROW:
        raise BadShardError("the shard ends early")
    magic, version, _ = _HEADER.unpack(view[:_ROW])
    if not magic.startswith(_MAGIC) or version != _VERSION:
        raise BadShardError("that is no shard of version 2")
    at = _ROW
    while True:
        name, flags, count, _ = _FILE.unpack(_rows(view, at, 1))
        if name == _END:
            return
        at += _ROW
        rows = _rows(view, at, count)
        at += len(rows) * (2 if flags & _VERIFIED else 1)
        sha256 = ""
        if flags & _HASHED:
            sha256 = to_hex(bytes(_rows(view, at, 1)[:32]))
            at += _ROW
        size = sum(row[2] for row in _TERM.iter_unpack(rows))
        yield ShardFile(to_hex(name), sha256, size, rows)


def _rows(view: memoryview, at: int, count: int) -> memoryview:
    stop = at + count * _ROW
    if stop > len(view):
        raise BadShardError("the shard ends early")
    return view[at:stop]
