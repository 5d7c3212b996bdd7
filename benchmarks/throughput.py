"""Claim: commit and checkout move weights at a speed that is a fair part of a plain copy's.

The copy is ``cp -r`` and ``sync``, made in turn with ours: commit and checkout do not report
success before everything is on the disk, so the copy may not either. Both ends are in the page
cache, and the whole command is timed, start-up included.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import measure
from weights import Histories

_RUNS = 3


def report(work: Path, histories: Histories) -> str:
    """Return the table, for the first and the last version of the first history."""
    what, versions = next(iter(histories.chains().items()))
    root = work / "throughput"
    runs: list[dict[str, measure.Cost]] = []
    for number in range(_RUNS):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        runs.append(_run(root, versions[0], versions[-1], cold=number == 0))
    shutil.rmtree(root)
    size = measure.disk_usage(versions[0])
    rows = [_row(name, size, runs) for name in runs[0]]
    head = ("what", "MB/s", "time of `cp` + `sync` / time", "MB per CPU second")
    return f"{what}: {size / 1e6:.0f} MB a version.\n\n{measure.table(head, rows)}"


def _run(root: Path, first: Path, last: Path, *, cold: bool) -> dict[str, measure.Cost]:
    """Return what each thing cost; with ``cold``, also the first commit after install."""
    store = root / "store"
    measure.run(*measure.MSTORE, "init", store)
    took = {"cp": _copy(first, root / "copy")}
    commit = ("commit", "-M", "line", "-m", "version")
    if cold:
        compiled = {"NUMBA_CACHE_DIR": str(root / "numba")}
        measure.settle()
        name = "commit, with the kernels still to be compiled"
        took[name] = measure.run(*measure.MSTORE, "-C", store, *commit, first, environment=compiled)
        shutil.rmtree(store)
        measure.run(*measure.MSTORE, "init", store)
    took["commit, the first version"] = _ours(store, *commit, first)
    took["commit, a fine-tune"] = _ours(store, *commit, last)
    took["checkout, the first version"] = _ours(store, "checkout", "v1.0", "-o", root / "old")
    took["checkout, a fine-tune"] = _ours(store, "checkout", "v1.1", "-o", root / "new")
    return took


def _copy(source: Path, target: Path) -> measure.Cost:
    measure.settle()
    return measure.run("sh", "-c", 'cp -r "$0" "$1" && sync', source, target)


def _ours(store: Path, *arguments: object) -> measure.Cost:
    measure.settle()
    return measure.mstore(store, *arguments)


def _row(name: str, size: int, runs: Sequence[dict[str, measure.Cost]]) -> tuple[str, ...]:
    took = [run for run in runs if name in run]
    speed = size / statistics.median(run[name].wall for run in took) / 1e6
    ratio = statistics.median(run["cp"].wall / run[name].wall for run in took)
    work = size / statistics.median(run[name].cpu for run in took) / 1e6
    return name, f"{speed:.0f}", f"{ratio:.2f}", f"{work:.0f}"
