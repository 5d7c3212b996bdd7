"""What commands on a model of a gigabyte cost, in CPU seconds, memory, and beside a plain hash.

Everything is in the page cache, the kernels are compiled, and every command is a process of its
own. Rounds repeat the whole sequence in a new store; figures are medians.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import measure
from measure import Cost
from weights import History, raw_size

from modelstore.names import ModelName
from modelstore.store import Store

MODEL = ModelName("line")

FIRST, UNCHANGED, HASH = "commit first", "commit unchanged", "SHA-256"
"""Keys of what is timed, beside `changed` versions, ``checkout v1.0`` and so on."""

_HASH = """
import hashlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    taken = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            taken.update(data)
"""


@dataclass(slots=True)
class Timing:
    """What was measured.

    Attributes:
        size: bytes of a version.
        costs: by what was done, in every round.
        depths: by version, how deep the chain of bases of its deepest tensor is.
        compilation: wall seconds by which the first commits after an installation are slower.
    """

    size: int
    costs: dict[str, list[Cost]]
    depths: dict[str, int]
    compilation: float = 0.0

    def cpu_per_gb(self, what: str) -> float:
        """Return the median of CPU seconds for 10**9 bytes."""
        return statistics.median(cost.cpu for cost in self.costs[what]) / self.size * 1e9

    def wall(self, what: str) -> float:
        """Return the median of the wall seconds."""
        return statistics.median(cost.wall for cost in self.costs[what])

    def peak(self) -> int:
        """Return the most memory that any command of ours took."""
        ours = (costs for what, costs in self.costs.items() if what != HASH)
        return max(cost.peak for costs in ours for cost in costs)


def run(work: Path, history: History, warm: History, rounds: int) -> Timing:
    """Return what the commands cost; ``warm`` is stored first, to compile the kernels and time that."""
    root = work / "timing"
    timing = Timing(raw_size(history.versions[-1]), {}, {})
    cold = _first_commits(root, warm, {"NUMBA_CACHE_DIR": str(root / "numba")})
    timing.compilation = cold - _first_commits(root, warm, {})
    for number in range(rounds):
        _round(root, history, timing, last=len(history.versions) - 1)
        print(f"... round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return timing


def _first_commits(root: Path, history: History, environment: dict[str, str]) -> float:
    """Return the wall seconds of committing a base and a fine-tune."""
    shutil.rmtree(root, ignore_errors=True)
    measure.run(*measure.MSTORE, "init", root / "store")
    command = (*measure.MSTORE, "-C", root / "store", "commit", "-M", MODEL, "-m", "version")
    costs = [
        measure.run(*command, version, environment=environment) for version in history.versions[:2]
    ]
    return sum(cost.wall for cost in costs)


def _round(root: Path, history: History, timing: Timing, *, last: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    measure.run(*measure.MSTORE, "init", root / "store")
    for number, version in enumerate(history.versions[: last + 1]):
        what = changed(version.name) if number else FIRST
        _note(timing, what, _mstore(root, "commit", version, "-M", MODEL, "-m", version.name))
    end = history.versions[last]
    measure.settle()
    _note(timing, HASH, measure.run(sys.executable, "-c", _HASH, end))
    _note(timing, UNCHANGED, _mstore(root, "commit", end, "-M", MODEL, "-m", "again"))
    timing.depths = depths(Store(root / "store"))
    for name in {history.versions[0].name, history.versions[1].name, end.name}:
        out = root / name
        cost = _mstore(root, "checkout", f"{MODEL}@{name}", "-o", out)
        _note(timing, f"checkout {name}", cost)
        shutil.rmtree(out)
    shutil.rmtree(root)


def changed(version: str) -> str:
    """Return the key of committing a version that has a parent."""
    return f"commit {version}"


def _mstore(root: Path, *words: object) -> Cost:
    measure.settle()
    return measure.mstore(root / "store", *words)


def _note(timing: Timing, what: str, cost: Cost) -> None:
    timing.costs.setdefault(what, []).append(cost)


def depths(store: Store) -> dict[str, int]:
    """Return by version how deep its deepest blob lies."""
    found = {}
    for entry in store.state(MODEL).entries():
        blobs = store.manifest(MODEL, entry).blobs()
        found[str(entry.version)] = max(store.blobs.header(blob).depth for blob in blobs)
    return found


def save(path: Path, timing: Timing) -> None:
    """Keep the results in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(timing), indent=1))


def load(path: Path) -> Timing:
    """Return the results that `save` wrote."""
    values = json.loads(path.read_text())
    costs: dict[str, Iterable[dict[str, float]]] = values["costs"]
    return Timing(
        values["size"],
        {what: [Cost(**cost) for cost in each] for what, each in costs.items()},  # type: ignore[arg-type]
        values["depths"],
        values["compilation"],
    )
