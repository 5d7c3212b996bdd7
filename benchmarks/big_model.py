"""Writes a history of real weights that is large enough to time: `full`, four times over.

    python benchmarks/big_model.py DIR

Every version of DIR/big has the tensors of that of DIR/full as they are, with the rows in reverse,
with the columns in reverse, and with both. So no tensor is another's copy, and how weights are
distributed, and what a fine-tune did to them, is as real as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

Header: TypeAlias = dict[str, Any]

MIRRORED = {"": (1, 1), "rows.": (-1, 1), "columns.": (1, -1), "both.": (-1, -1)}
"""What the tensors of each part are called, and the direction of rows and columns in it."""


def main(root: Path) -> None:
    aside = root / "big.unfinished"
    shutil.rmtree(aside, ignore_errors=True)
    for version in sorted((root / "full").iterdir()):
        target = aside / version.name
        target.mkdir(parents=True)
        for path in version.iterdir():
            if path.suffix == ".safetensors":
                write(path, target / path.name)
            else:
                os.link(path, target / path.name)
    aside.rename(root / "big")


def write(source: Path, target: Path) -> None:
    """Write a safetensors file with every matrix of ``source``, a bf16 one, four times."""
    with source.open("rb") as old, target.open("wb") as new:
        size = struct.unpack("<Q", old.read(8))[0]
        header: Header = json.loads(old.read(size))
        matrices = {
            name: tensor for name, tensor in header.items() if len(tensor.get("shape", ())) == 2
        }
        text = json.dumps(new_header(matrices)).encode()
        text += b" " * (-len(text) % 8)
        new.write(struct.pack("<Q", len(text)) + text)
        for directions in MIRRORED.values():
            for tensor in matrices.values():
                copy(old, 8 + size, tensor, directions, new)


def new_header(matrices: Header) -> Header:
    """Return the header of the file that holds ``matrices`` four times."""
    header: Header = {"__metadata__": {"format": "pt"}}
    end = 0
    for part in MIRRORED:
        for name, tensor in matrices.items():
            start, stop = tensor["data_offsets"]
            header[part + name] = {**tensor, "data_offsets": [end, end + stop - start]}
            end += stop - start
    return header


def copy(
    old: BinaryIO, begin: int, tensor: Header, directions: tuple[int, int], new: BinaryIO
) -> None:
    """Append one matrix of ``old`` to ``new``, read in these directions."""
    start, stop = tensor["data_offsets"]
    old.seek(begin + start)
    values = np.frombuffer(old.read(stop - start), "<u2").reshape(tensor["shape"])
    new.write(values[:: directions[0], :: directions[1]].tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
