"""Claim: ``mstore`` starts within three times of what importing click costs.

The two are run in turn, and the ratio is the median of the pairs': what slows the machine down
for a while slows both.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import measure

CLAIM = 3.0

_RUNS = 15


def report() -> str:
    """Return the table."""
    with tempfile.TemporaryDirectory() as directory:
        store, content = Path(directory, "store"), Path(directory, "content")
        content.mkdir()
        (content / "model.bin").write_bytes(bytes(1000))
        measure.run(*measure.MSTORE, "init", store)
        measure.mstore(store, "commit", content, "-M", "line", "-m", "first")
        rows = [_row(store, words) for words in (("--help",), ("log",), ("list",))]
    return measure.table(("command", "wall", "`import click`", "ratio", f"<= {CLAIM:g}"), rows)


def _row(store: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    ours, theirs, ratios = [], [], []
    for _ in range(_RUNS):
        theirs.append(measure.run(sys.executable, "-c", "import click").wall)
        ours.append(measure.mstore(store, *words).wall)
        ratios.append(ours[-1] / theirs[-1])
    ratio = statistics.median(ratios)
    return (
        f"`mstore {' '.join(words)}`",
        f"{statistics.median(ours) * 1000:.0f} ms",
        f"{statistics.median(theirs) * 1000:.0f} ms",
        f"{ratio:.2f}",
        "yes" if ratio <= CLAIM else "**no**",
    )
