"""Bits per weight of every codec against what entropy allows, and the speed of the coder alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import measure
from freshness import is_fresh
from weights import Histories

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

NEEDED = ("full", "heavy", "lora", "fp32", "fp32_of_bf16")
"""The histories that `coded.py` reads."""

_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}


@dataclass(frozen=True, slots=True)
class Coded:
    """What `coded.py` says of a codec; the fields are those of its own `Coded`."""

    what: str
    codec: str
    dtype: str
    values: int
    stored: int
    encode: float
    decode: float
    prove: float
    bound: float
    active: float

    @property
    def bits(self) -> float:
        """Bits per value."""
        return self.stored * 8 / self.values

    def speed(self, seconds: float) -> float:
        """Return raw gigabytes a second."""
        return self.values * _WIDTHS[self.dtype] / seconds / 1e9

    @property
    def encode_speed(self) -> float:
        """Gigabytes that one core encodes in a second."""
        return self.speed(self.encode)

    @property
    def decode_speed(self) -> float:
        """Gigabytes that one core decodes in a second."""
        return self.speed(self.decode)


def coded(work: Path, histories: Histories) -> list[Coded]:
    """Return what the codecs do, measured after the last change of mstore."""
    path = work / "results" / "coded.json"
    if not is_fresh(path):
        for name in NEEDED:
            histories.named(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        done = subprocess.run(
            [sys.executable, HERE / "coded.py", work / "histories"],
            check=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        path.write_bytes(done.stdout)
    return [Coded(**values) for values in json.loads(path.read_text())]


def report(work: Path, histories: Histories) -> str:
    """Return the table."""
    head = (
        "weights",
        "codec",
        "bits/weight",
        "order-0 bound",
        "with rows and columns",
        "encode, GB/s",
        "decode, GB/s",
        "encode and prove, GB/s",
    )
    return measure.table(head, [_row(result) for result in coded(work, histories)])


def _row(result: Coded) -> tuple[str, ...]:
    return (
        result.what,
        result.codec,
        f"{result.bits:.3f}",
        f"{result.bound:.3f}",
        f"{result.active:.3f}" if result.active else "",
        f"{result.encode_speed:.2f}",
        f"{result.decode_speed:.2f}",
        f"{result.speed(result.prove):.2f}",
    )
