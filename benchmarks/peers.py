"""What other ways of storing versions would cost, re-implemented as far as size goes.

Each has ``add(directory)``, which takes the next version and returns the bytes it adds.
No peer's index, pack overhead or deduplication of parts is counted for or against it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zstandard

LEVEL = 3
"""Of zstd: its default, and what the published figures of peers use."""

_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}

Bits = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class Peer(Protocol):
    """A way of storing versions."""

    def add(self, version: Path) -> int:
        """Take the next version; return the bytes it adds to the store."""
        ...


class Copies:
    """A directory per version."""

    def add(self, version: Path) -> int:
        """Return the size of all files."""
        return sum(path.stat().st_size for path in _files(version))


class Files:
    """Every distinct file once, whole: git-lfs, DVC, Ollama; with ``pack`` each through zstd."""

    def __init__(self, *, pack: bool) -> None:
        self._pack = pack
        self._known: set[bytes] = set()

    def add(self, version: Path) -> int:
        """Return the size of the files that are new."""
        added = 0
        for path in _files(version):
            data = path.read_bytes()
            if _is_new(data, self._known):
                added += _packed(data) if self._pack else len(data)
        return added


class XorPlanes:
    """Every distinct tensor once, XORed with its namesake in the version before, as byte planes.

    The layout of BitX (ZipLLM, NSDI 2026): sign and mantissa apart from the exponent, each plane
    through zstd; for fp32 four planes. Tensors without a base, and files without tensors, likewise
    without the XOR.
    """

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._before: dict[tuple[str, str, int], bytes] = {}

    def add(self, version: Path) -> int:
        """Return the size of the planes of tensors that are new."""
        added = 0
        now = {}
        for path in _files(version):
            for name, dtype, data in _tensors(path):
                key = (name, dtype, len(data))
                now[key] = data
                if _is_new(data, self._known):
                    added += _delta_size(data, dtype, self._before.get(key))
        self._before = now
        return added


def _delta_size(data: bytes, dtype: str, base: bytes | None) -> int:
    width = _WIDTHS.get(dtype)
    if width is None:
        return _packed(data)
    bits: Bits = np.frombuffer(data, f"<u{width}")
    if base is not None:
        bits = bits ^ np.frombuffer(base, f"<u{width}")
    # the sign moves to the lowest bit, so that a bf16's or fp32's exponent is a byte of its own
    turned = (bits << 1 | bits >> (8 * width - 1)).astype(f"<u{width}")
    planes = turned.view(np.uint8).reshape(-1, width)
    return sum(_packed(np.ascontiguousarray(planes[:, n]).tobytes()) for n in range(width))


def _tensors(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, dtype and bytes of each tensor of a safetensors file; a file else is one."""
    if path.suffix != ".safetensors":
        yield path.name, "", path.read_bytes()
        return
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        text = file.read(size)
        yield f"header of {path.name}", "", text
        header = json.loads(text)
        header.pop("__metadata__", None)
        for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = tensor["data_offsets"]
            file.seek(8 + size + start)
            yield name, tensor["dtype"], file.read(stop - start)


def _files(version: Path) -> list[Path]:
    return sorted(path for path in version.rglob("*") if path.is_file())


def _is_new(data: bytes, known: set[bytes]) -> bool:
    digest = blake2b(data, digest_size=16).digest()
    new = digest not in known
    known.add(digest)
    return new


def _packed(data: bytes) -> int:
    return len(zstandard.ZstdCompressor(level=LEVEL).compress(data))
