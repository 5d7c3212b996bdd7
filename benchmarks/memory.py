"""Claim: commit, checkout and diff stay under 2 GB of memory, however large the model is.

The peak is that of resident memory as the kernel counts it, code and shared libraries included.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import measure

CLAIM = 2e9
"""Bytes."""

_PAIR = 4.0
"""Gigabytes of the versions that are compared, at most: two of them, and what checkout writes."""

_WRITER = Path(__file__).with_name("synthetic.py")


def report(work: Path, gigabytes: float) -> str:
    """Return the table for a model of so many gigabytes; its disk use is some three times that."""
    root = work / "memory"
    shutil.rmtree(root, ignore_errors=True)
    pair = min(gigabytes, _PAIR)
    rows = []
    if gigabytes > pair:
        rows.append(_row("commit", gigabytes, _commit_alone(root, gigabytes)))
    rows += [_row(name, pair, cost) for name, cost in _compare(root, pair).items()]
    shutil.rmtree(root)
    return measure.table(("command", "model", "peak memory", "wall", "under 2 GB"), rows)


def _commit_alone(root: Path, gigabytes: float) -> measure.Cost:
    base, store = root / "base", root / "store"
    _write(base, "--gigabytes", gigabytes)
    measure.run(*measure.MSTORE, "init", store)
    cost = measure.mstore(store, "commit", base, "-M", "big", "-m", "first")
    shutil.rmtree(root)
    return cost


def _compare(root: Path, gigabytes: float) -> dict[str, measure.Cost]:
    base, tuned, store = root / "base", root / "tuned", root / "store"
    _write(base, "--gigabytes", gigabytes)
    _write(tuned, "--like", base)
    measure.run(*measure.MSTORE, "init", store)
    first = measure.mstore(store, "commit", base, "-M", "big", "-m", "first")
    shutil.rmtree(base)
    return {
        "commit, the first version": first,
        "commit, a fine-tune": measure.mstore(store, "commit", tuned, "-M", "big", "-m", "second"),
        "diff": measure.mstore(store, "diff", "big@v1.0", "big@v1.1"),
        "checkout, a fine-tune": measure.mstore(store, "checkout", "big@v1.1", "-o", base),
    }


def _write(directory: Path, *arguments: object) -> None:
    measure.run(sys.executable, _WRITER, directory, *arguments)
    measure.settle()


def _row(name: str, gigabytes: float, cost: measure.Cost) -> tuple[str, ...]:
    held = "yes" if cost.peak < CLAIM else "**no**"
    return name, f"{gigabytes:g} GB", f"{cost.peak / 1e6:,.0f} MB", f"{cost.wall:.0f} s", held
