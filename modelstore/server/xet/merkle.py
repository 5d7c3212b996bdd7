"""The hashes of Xet: BLAKE3 of chunks under a key, joined to a tree whose root names a xorb.

Source: huggingface/xet-core, `spec/hashing.md` and `merklehash/src/aggregated_hashes.rs`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from modelstore.hashing import Bytes, keyed

Leaf = tuple[bytes, int]
"""The hash of a chunk or of a node of the tree, and how many bytes there are below it."""

_OF_DATA = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_OF_NODES = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")

_BRANCHES = 4
"""Children of a node on average; at least 2 and at most 9."""

_WORDS = struct.Struct("<4Q")


def chunk_hash(data: Bytes) -> bytes:
    """Return the hash of a chunk."""
    return keyed(_OF_DATA, data)


def xorb_hash(leaves: Sequence[Leaf]) -> bytes:
    """Return the hash of a xorb that consists of these chunks, of which there is one at least."""
    level = list(leaves)
    while len(level) > 1:
        above = []
        start = 0
        while start < len(level):
            stop = start + _children(level, start)
            above.append(_node(level[start:stop]))
            start = stop
        level = above
    return level[0][0]


def _children(level: Sequence[Leaf], start: int) -> int:
    """Return how many of the nodes from ``start`` on get one parent: their hashes decide."""
    left = len(level) - start
    if left <= 2:
        return left
    most = min(2 * _BRANCHES + 1, left)
    for count in range(2, most):
        if _WORDS.unpack(level[start + count][0])[3] % _BRANCHES == 0:
            return count + 1
    return most


def _node(children: Sequence[Leaf]) -> Leaf:
    text = "".join(f"{to_hex(name)} : {size}\n" for name, size in children)
    return keyed(_OF_NODES, text.encode("ascii")), sum(size for _, size in children)


def to_hex(name: bytes) -> str:
    """Return a hash as Xet spells it: four numbers, of which each lies with its low byte first."""
    return "".join(f"{word:016x}" for word in _WORDS.unpack(name))


def from_hex(text: str) -> bytes:
    """Return the hash that 64 hex digits spell."""
    return _WORDS.pack(*(int(text[at : at + 16], 16) for at in range(0, 64, 16)))
