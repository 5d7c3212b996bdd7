"""Files of models, cut at their tensors; the standard library is enough for it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
"""Bytes of a value, where they are not one."""


def tensors(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, dtype and bytes of all parts of a file, in order."""
    with path.open("rb") as file:
        for name, dtype, start, stop in places(path):
            file.seek(start)
            yield name, dtype, file.read(stop - start)


def places(path: Path) -> list[tuple[str, str, int, int]]:
    """Return name, dtype, start and end of the header and of each tensor; of another file, one part."""
    if path.suffix != ".safetensors":
        return [(path.name, "", 0, path.stat().st_size)]
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    found = [(path.name, "", 0, 8 + size)]
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = (8 + size + offset for offset in tensor["data_offsets"])
        found.append((name, tensor["dtype"], start, stop))
    return found


def files(version: Path) -> list[Path]:
    """Return the files of a version."""
    return sorted(path for path in version.rglob("*") if path.is_file())


def count_values(version: Path) -> int:
    """Return how many values the tensors of a version's safetensors files have."""
    count = 0
    for path in version.glob("*.safetensors"):
        for _, dtype, start, stop in places(path)[1:]:
            count += (stop - start) // WIDTHS.get(dtype, 1)
    return count


def cut(source: Path, target: Path, count: int) -> None:
    """Write a safetensors file with the ``count`` largest tensors of another."""
    with source.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    largest = sorted(tensors(source), key=lambda part: -len(part[2]) if part[1] else 0)[:count]
    kept, end = {}, 0
    for name, _, data in largest:
        kept[name] = {**header[name], "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(kept).encode()
    parts = [struct.pack("<Q", len(text)), text, *(data for _, _, data in largest)]
    target.write_bytes(b"".join(parts))
