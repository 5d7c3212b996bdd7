"""Writes models of any size quickly and in little memory, in a process of its own.

    python benchmarks/synthetic.py DIR --gigabytes 16
    python benchmarks/synthetic.py DIR --like OTHER

The first writes bfloat16 shards of random normal weights; the second what a fine-tune makes of
them: every weight of OTHER moves by a step that does not depend on its size, and is rounded.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHARD = 2 << 30
"""Bytes of one file."""

TENSOR = 128 << 20
"""Bytes of one tensor; 8,192 columns."""

SPREAD = 0.02
"""Standard deviation of the weights, as models are initialised."""

STEP = 1e-4
"""Standard deviation of what a fine-tune adds to a weight, as a few dozen AdamW steps at 2e-5 do."""

_BLOCK = 4 << 20  # values
_COLUMNS = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description="write a model of random weights")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--like", type=Path)
    options = parser.parse_args()
    options.directory.mkdir(parents=True)
    if options.like:
        for number, shard in enumerate(sorted(options.like.glob("*.safetensors"))):
            step_shard(shard, options.directory / shard.name, np.random.default_rng(number + 1000))
        return
    left = max(1, round(options.gigabytes * 1e9 / TENSOR))
    shards = -(-left // (SHARD // TENSOR))
    for number in range(shards):
        count = min(left, SHARD // TENSOR)
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        write_shard(options.directory / name, number, count)
        left -= count


def write_shard(path: Path, number: int, count: int) -> None:
    """Write a safetensors file of ``count`` tensors."""
    random = np.random.default_rng(number)
    shape = [TENSOR // 2 // _COLUMNS, _COLUMNS]
    header = {
        f"model.layers.{number}.{n}.weight": {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [n * TENSOR, (n + 1) * TENSOR],
        }
        for n in range(count)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(count * TENSOR // 2 // _BLOCK):
            file.write(to_bfloat16(random.standard_normal(_BLOCK, dtype=np.float32) * SPREAD))


def step_shard(source: Path, target: Path, random: np.random.Generator) -> None:
    """Write ``target``: the weights of ``source`` after a fine-tune."""
    with source.open("rb") as old, target.open("wb") as new:
        size = old.read(8)
        new.write(size + old.read(struct.unpack("<Q", size)[0]))
        for bits in _blocks(old):
            values = (bits.astype(np.uint32) << 16).view(np.float32)
            step = random.standard_normal(len(bits), dtype=np.float32) * np.float32(STEP)
            new.write(to_bfloat16(values + step))


def _blocks(file: Any) -> Iterator[np.ndarray[Any, np.dtype[np.uint16]]]:
    while data := file.read(2 * _BLOCK):
        yield np.frombuffer(data, np.uint16)


def to_bfloat16(values: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """Return finite ``values`` rounded to the nearest bfloat16, halves to even."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16).tobytes()


if __name__ == "__main__":
    main()
