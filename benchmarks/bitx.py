"""BitX, the published state of the art (ZipLLM, NSDI 2026), rebuilt as a store that can be measured.

    python benchmarks/bitx.py commit STORE VERSION [--parent DIRECTORY] [--split fields]
    python benchmarks/bitx.py checkout STORE NAME TARGET

Every distinct tensor is kept once. One that has a namesake of its dtype and size in the parent is
XORed with it; then it is cut into planes, and each plane goes through zstd -3. The parent is read
from the directory that it was committed from, so a commit decodes nothing; a checkout follows the
chain. The published layout has two splits of a bf16: low and high byte, or ("fields") exponent
against sign and mantissa. Tensors without a namesake are planes too, which is better than the plain
zstd that was published. fp32 as four planes, and files other than safetensors, are additions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zstandard
from blake3 import blake3
from parts import WIDTHS, files, places, tensors

LEVEL = 3
"""Of zstd: its default, and what was published."""

SPLITS = ("bytes", "fields")

Index: TypeAlias = dict[str, Any]


class Store:
    """A directory with the planes and the index of every version.

    Args:
        root: made if need be.
        split: one of `SPLITS`; must be the same for all versions.
    """

    def __init__(self, root: Path, split: str) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._split = split
        self._tensors: dict[str, Index] = {}
        for path in root.glob("*.json"):
            self._tensors.update(json.loads(path.read_text())["tensors"])

    def commit(self, version: Path, parent: Path | None) -> None:
        """Take the files of a version."""
        index: Index = {"files": {}, "tensors": {}}
        before = Parent(parent)
        with (self._root / f"{version.name}.planes").open("wb") as out:
            for path in files(version):
                parts = index["files"].setdefault(str(path.relative_to(version)), [])
                for name, dtype, data in tensors(path):
                    digest = blake3(data).hexdigest()
                    parts.append(digest)
                    if digest not in self._tensors:
                        entry = self._write(out, data, dtype, before.read(name, dtype, len(data)))
                        entry["version"] = version.name
                        index["tensors"][digest] = self._tensors[digest] = entry
        (self._root / f"{version.name}.json").write_text(json.dumps(index))

    def _write(self, out: Any, data: bytes, dtype: str, base: bytes | None) -> Index:
        width = WIDTHS.get(dtype, 1)
        packed = [pack(plane) for plane in split(data, base, width, self._split)]
        entry = {
            "at": out.tell(),
            "planes": [len(plane) for plane in packed],
            "width": width,
            "base": blake3(base).hexdigest() if base is not None else "",
        }
        for plane in packed:
            out.write(plane)
        return entry

    def checkout(self, name: str, target: Path) -> None:
        """Write the files of the version called ``name``."""
        index = json.loads((self._root / f"{name}.json").read_text())
        for file, parts in index["files"].items():
            path = target / file
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                for digest in parts:
                    out.write(self._read(digest))

    def _read(self, digest: str) -> bytes:
        entry = self._tensors[digest]
        with (self._root / f"{entry['version']}.planes").open("rb") as file:
            file.seek(entry["at"])
            planes = [unpack(file.read(size)) for size in entry["planes"]]
        base = self._read(entry["base"]) if entry["base"] else None
        return join(planes, base, entry["width"], self._split)


class Parent:
    """The tensors of the version before, read when they are asked for.

    Args:
        directory: None where there is no such version.
    """

    def __init__(self, directory: Path | None) -> None:
        self._places: dict[tuple[str, str, int], tuple[Path, int]] = {}
        for path in files(directory) if directory else ():
            for name, dtype, start, stop in places(path):
                self._places[name, dtype, stop - start] = (path, start)

    def read(self, name: str, dtype: str, size: int) -> bytes | None:
        """Return the bytes of the namesake, None where there is none."""
        place = self._places.get((name, dtype, size))
        if place is None or dtype not in WIDTHS:
            return None
        with place[0].open("rb") as file:
            file.seek(place[1])
            return file.read(size)


def split(data: bytes, base: bytes | None, width: int, kind: str) -> Iterator[bytes]:
    """Yield the byte planes of ``data``, XORed with ``base``."""
    bits: np.ndarray[Any, Any] = np.frombuffer(data, f"<u{width}")
    if base is not None:
        bits = bits ^ np.frombuffer(base, f"<u{width}")
    if kind == "fields" and width > 1:  # the sign moves to the lowest bit: the exponent is a byte
        bits = (bits << 1 | bits >> (8 * width - 1)).astype(f"<u{width}")
    planes = bits.view(np.uint8).reshape(-1, width)
    for number in range(width):
        yield np.ascontiguousarray(planes[:, number]).tobytes()


def join(planes: list[bytes], base: bytes | None, width: int, kind: str) -> bytes:
    """Return the bytes that `split` made ``planes`` of."""
    columns = [np.frombuffer(plane, np.uint8) for plane in planes]
    bits: np.ndarray[Any, Any] = np.stack(columns, axis=1).reshape(-1).view(f"<u{width}")
    if kind == "fields" and width > 1:
        bits = (bits >> 1 | bits << (8 * width - 1)).astype(f"<u{width}")
    if base is not None:
        bits = bits ^ np.frombuffer(base, f"<u{width}")
    return bits.tobytes()


def pack(plane: bytes) -> bytes:
    """Return ``plane``, compressed."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(plane)


def unpack(packed: bytes) -> bytes:
    """Return the plane that `pack` was given."""
    return zstandard.ZstdDecompressor().decompress(packed)


def main() -> None:
    parser = argparse.ArgumentParser(description="a store of BitX")
    parser.add_argument("verb", choices=("commit", "checkout"))
    parser.add_argument("store", type=Path)
    parser.add_argument("what", help="the directory of the version, or the name of one")
    parser.add_argument("target", nargs="?", type=Path)
    parser.add_argument("--parent", type=Path)
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0])
    options = parser.parse_args()
    store = Store(options.store, options.split)
    if options.verb == "commit":
        store.commit(Path(options.what), options.parent)
    else:
        store.checkout(options.what, options.target)


if __name__ == "__main__":
    main()
