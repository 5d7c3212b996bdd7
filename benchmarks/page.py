"""Puts tables and charts into docs/benchmarks.md, between the markers of each benchmark.

What stands outside of the markers is prose, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import charts
from delta_peers import BitX, Mstore
from side_by_side import Trial, wall
from weights import History, raw_size

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
CHARTS = ROOT / "docs" / "benchmarks"

_SIZES, _SPEEDS = ("full", "chain20"), ("full", "big")
"""The histories that have a chart of that."""

_VARIANTS = (BitX("fields").name, Mstore(repacked=True).name, Mstore(adapter=Path()).name)
"""What charts leave out, as it lies close to something else."""


def replace(name: str, text: str, path: Path = PAGE) -> None:
    """Put ``text`` where the page has the markers of ``name``.

    Raises:
        ValueError: it has none.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"'{path}' has no {begin}")
    path.write_text(
        pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page, count=1), encoding="utf-8"
    )


def draw(history: History, trials: Sequence[Trial]) -> list[str]:
    """Draw the charts of a history; return the Markdown that shows them."""
    shown = {
        trial.peer.replace("*", ""): trial
        for trial in trials
        if trial.works and trial.peer not in _VARIANTS
    }
    files = {}
    if history.name in _SIZES:
        files[f"{history.name}-size.svg"] = _sizes(history, shown)
    if history.name in _SPEEDS:
        files[f"{history.name}-speed.svg"] = _speeds(history, shown)
    CHARTS.mkdir(exist_ok=True)
    for name, svg in files.items():
        (CHARTS / name).write_text(svg, encoding="utf-8")
    return [f"![{Path(name).stem}](benchmarks/{name})" for name in files]


def _sizes(history: History, shown: Mapping[str, Trial]) -> str:
    series = {name: [size / 1e6 for size in trial.stored] for name, trial in shown.items()}
    names = [version.name for version in history.versions]
    return charts.lines(f"{history.name}: MB stored after each version", names, series)


def _speeds(history: History, shown: Mapping[str, Trial]) -> str:
    size = raw_size(history.versions[-1]) / 1e6
    series = {
        name: (size / wall(trial.later()), size / wall(trial.last)) for name, trial in shown.items()
    }
    kinds = ("commit of a changed version", "checkout of the last")
    return charts.bars(f"{history.name}: MB of model per second", kinds, series)
