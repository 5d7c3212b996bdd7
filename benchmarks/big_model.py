"""Writes a history of real weights that is large enough to time: `full`, four times over.

    python benchmarks/big_model.py DIR big
    python benchmarks/big_model.py DIR stacked

Every version of DIR/big has the tensors of that of DIR/full as they are, with the rows in reverse,
with the columns in reverse, and with both. So no tensor is another's copy, and how weights are
distributed, and what a fine-tune did to them, is as real as it was. In DIR/stacked the layers of
each kind are one tensor, rows below rows: few and large ones, as models of 1B and more have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

Header: TypeAlias = dict[str, Any]

MIRRORED = {"": (1, 1), "rows.": (-1, 1), "columns.": (1, -1), "both.": (-1, -1)}
"""What the tensors of each part are called, and the direction of rows and columns in it."""


def main(root: Path, name: str) -> None:
    aside = root / f"{name}.unfinished"
    shutil.rmtree(aside, ignore_errors=True)
    for version in sorted((root / "full").iterdir()):
        target = aside / version.name
        target.mkdir(parents=True)
        for path in version.iterdir():
            if path.suffix == ".safetensors":
                write(path, target / path.name, stacked=name == "stacked")
            else:
                os.link(path, target / path.name)
    aside.rename(root / name)


def write(source: Path, target: Path, *, stacked: bool) -> None:
    """Write a safetensors file with every matrix of ``source``, a bf16 one, four times."""
    with source.open("rb") as old, target.open("wb") as new:
        size = struct.unpack("<Q", old.read(8))[0]
        header: Header = json.loads(old.read(size))
        matrices = {
            name: tensor for name, tensor in header.items() if len(tensor.get("shape", ())) == 2
        }
        stacks = stacks_of(matrices) if stacked else {name: [name] for name in matrices}
        text = json.dumps(new_header(matrices, stacks)).encode()
        text += b" " * (-len(text) % 8)
        new.write(struct.pack("<Q", len(text)) + text)
        for directions in MIRRORED.values():
            for name in (name for stack in stacks.values() for name in stack):
                copy(old, 8 + size, matrices[name], directions, new)


def stacks_of(matrices: Header) -> dict[str, list[str]]:
    """Return the matrices that become one, by its name: those that differ in the layer only."""
    stacks: dict[str, list[str]] = {}
    for name in matrices:
        stacks.setdefault(re.sub(r"\.\d+\.", ".all.", name), []).append(name)
    return stacks


def new_header(matrices: Header, stacks: dict[str, list[str]]) -> Header:
    """Return the header of the file that holds the ``stacks`` of ``matrices`` four times."""
    header: Header = {"__metadata__": {"format": "pt"}}
    end = 0
    for part in MIRRORED:
        for name, stack in stacks.items():
            (rows, columns), dtype = matrices[stack[0]]["shape"], matrices[stack[0]]["dtype"]
            shape = [rows * len(stack), columns]
            stop = end + 2 * shape[0] * columns
            header[part + name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, stop]}
            end = stop
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
    main(Path(sys.argv[1]), sys.argv[2])
