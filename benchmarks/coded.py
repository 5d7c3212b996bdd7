"""Codes real weights with every codec, by itself, and prints what came of it as JSON.

    python benchmarks/coded.py HISTORIES

One thread, warm kernels, whole tensors cut into blocks as frames are; CPU seconds of the thread.
A program of its own, since it holds models in memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from bounds import Alone, Array, Delta
from parts import tensors
from safetensors import safe_open

from modelstore.codecs.base import Grid
from modelstore.codecs.blocks import encode_block
from modelstore.codecs.ids import CODEC_INFOS, LOWRANK, RAW, ZSTD, CodecInfo
from modelstore.codecs.table import CODECS
from modelstore.numeric import DType, dtype_named

BLOCK = 1 << 20
"""Values of a block."""

_LEFT_OUT = (RAW, ZSTD, LOWRANK)
"""Codecs that do not look at numbers; and one that without factors does what another does."""

_WARM = 3
_SMALL = 1 << 12
"""Values of a tensor that is left out: norms, which take a thousandth of a model."""

Cast: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """Weights to be coded.

    Attributes:
        what: for the table.
        version: a version's directory below that of the histories.
        base: the directory of its base, or "".
        dtype: what they are turned into.
    """

    what: str
    version: str
    base: str
    dtype: str


CASES = (
    Case("bf16 alone", "full/v1.1", "", "BF16"),
    Case("fp16 alone", "fp32/v1.1", "", "F16"),
    Case("fp32 alone", "fp32/v1.1", "", "F32"),
    Case("fp8 e4m3 alone", "fp32/v1.1", "", "F8_E4M3"),
    Case("bf16, full fine-tune", "full/v1.1", "full/v1.0", "BF16"),
    Case("bf16, heavy fine-tune", "heavy/v1.1", "heavy/v1.0", "BF16"),
    Case("bf16, merged LoRA", "lora/v1.1", "lora/v1.0", "BF16"),
    Case("fp16, full fine-tune", "fp32/v1.1", "fp32/v1.0", "F16"),
    Case("fp32, full fine-tune", "fp32/v1.1", "fp32/v1.0", "F32"),
    Case("fp32, of a bf16 base", "fp32_of_bf16/v1.1", "fp32_of_bf16/v1.0", "F32"),
    Case("fp8 e4m3, full fine-tune", "fp32/v1.1", "fp32/v1.0", "F8_E4M3"),
)

CASTS: dict[str, Cast] = {
    "BF16": lambda tensor: tensor.to(torch.bfloat16).view(torch.uint16),
    "F16": lambda tensor: tensor.to(torch.float16).view(torch.uint16),
    "F32": lambda tensor: tensor.to(torch.float32).view(torch.uint32),
    "F8_E4M3": lambda tensor: (tensor.float() * 64).to(torch.float8_e4m3fn).view(torch.uint8),
}
"""To the bits of a dtype; fp8 with one power of two for the whole model."""


@dataclass(slots=True)
class Coded:
    """What a codec made of a case.

    Attributes:
        what, codec: which.
        dtype: of the weights.
        values: how many.
        stored: bytes of all payloads.
        encode, decode, prove: CPU seconds: coding, decoding, and both with the comparison.
        bound: bits per value of the order-0 bound of `bounds`.
        active: that with rows and columns; 0 without a base.
    """

    what: str
    codec: str
    dtype: str
    values: int = 0
    stored: int = 0
    encode: float = 0.0
    decode: float = 0.0
    prove: float = 0.0
    bound: float = 0.0
    active: float = 0.0


Weights: TypeAlias = Iterator[tuple[tuple[int, ...], Array, Array | None]]


def main() -> None:
    parser = argparse.ArgumentParser(description="code real weights with every codec")
    parser.add_argument("histories", type=Path)
    parser.add_argument("--case", action="append", help="only those whose description holds this")
    parser.add_argument("--no-bounds", action="store_true", help="leave the entropies out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: list[Coded] = []
    for case in CASES:
        if not options.case or any(part in case.what for part in options.case):
            results += code(options.histories, case, bounds=not options.no_bounds)
            print("...", case.what, file=sys.stderr, flush=True)
    print(json.dumps([asdict(result) for result in results], indent=1))


def code(histories: Path, case: Case, *, bounds: bool) -> list[Coded]:
    """Return what every codec that fits makes of the case."""
    dtype = dtype_named(case.dtype)
    infos = [
        info for info in CODEC_INFOS if info not in _LEFT_OUT and info.takes_base == bool(case.base)
    ]
    results = [Coded(case.what, info.name, case.dtype) for info in infos]
    alone, delta = Alone(dtype), Delta(dtype)
    for shape, values, base in weights(histories, case):
        for info, result in zip(infos, results, strict=True):
            _measure(info, dtype, shape, (values, base), result)
        if bounds and base is None:
            alone.add(values)
        elif bounds and base is not None:
            delta.add(values, base, shape)
    for result in results if bounds else ():
        result.bound = delta.bits() if case.base else alone.bits()
        result.active = delta.active_bits() if case.base else 0.0
    return results


def weights(histories: Path, case: Case) -> Weights:
    """Yield shape, values and base of every tensor that is worth it."""
    cast = CASTS[case.dtype]
    file = "model.safetensors"
    with safe_open(histories / case.version / file, "pt") as new:
        names = [name for name, dtype, _ in tensors(histories / case.version / file) if dtype]
        old: Any = safe_open(histories / case.base / file, "pt") if case.base else None
        for name in names:
            tensor = new.get_tensor(name)
            if tensor.numel() >= _SMALL:
                base = cast(old.get_tensor(name)).numpy().reshape(-1) if old else None
                yield tuple(tensor.shape), cast(tensor).numpy().reshape(-1), base


def _measure(
    info: CodecInfo,
    dtype: DType,
    shape: tuple[int, ...],
    given: tuple[Array, Array | None],
    result: Coded,
) -> None:
    """Code one tensor, block by block, and add to ``result`` what it cost."""
    codec = CODECS[info.id]
    grid = Grid(shape[-1] if len(shape) > 1 else 0, 0)
    for start in range(0, given[0].size, BLOCK):
        values = given[0][start : start + BLOCK]
        base = None if given[1] is None else given[1][start : start + BLOCK]
        here = grid.after(start)
        raw, raw_base = values.tobytes(), None if base is None else base.tobytes()
        warm = 0 if result.values else _WARM
        for _ in range(warm):
            encode_block(info, raw, dtype, raw_base, here)
        begin = time.thread_time()
        body = codec.encode(values, dtype, base, here)
        encoded = time.thread_time()
        codec.decode(body, values.size, dtype, base)
        decoded = time.thread_time()
        result.stored += len(encode_block(info, raw, dtype, raw_base, here))
        result.encode += encoded - begin
        result.decode += decoded - encoded
        result.prove += time.thread_time() - decoded
        result.values += values.size


if __name__ == "__main__":
    main()
