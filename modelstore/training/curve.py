"""The curve of a run: its steps, thinned to what a manifest keeps, and the chart in its result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelstore import disk
from modelstore.curve import CurvePoint
from modelstore.ops.loss_chart import LOSS_CHART, loss_chart
from modelstore.training.options import Step

MOST_POINTS = 1000
"""Points of a curve at most; each takes some 20 bytes of the manifest."""


def curve_of(steps: Sequence[Step], before: float | None = None) -> tuple[CurvePoint, ...]:
    """Return the curve of a run, of at most `MOST_POINTS`.

    Args:
        steps: all of them, in order.
        before: mean loss of the base on the evaluation rows, None where there are none.
    """
    start = () if before is None else (CurvePoint(0, "", _decimal(before)),)
    return (*start, *_points(steps))


def write_chart(curve: Sequence[CurvePoint], output: Path) -> None:
    """Write the chart of a curve into a run's result, where the version's README shows it."""
    if curve:
        disk.replace(output / LOSS_CHART, loss_chart(curve))


def _points(steps: Sequence[Step]) -> Iterator[CurvePoint]:
    kept = _kept(steps)
    losses: list[float] = []
    for index, step in enumerate(steps):
        losses.append(step.loss)
        if index in kept:
            evaluation = "" if step.evaluation is None else _decimal(step.evaluation)
            mean = math.fsum(losses) / len(losses)
            yield CurvePoint(step.number, _decimal(mean), evaluation)
            losses.clear()


def _kept(steps: Sequence[Step]) -> set[int]:
    """Return the indices of the steps that become points: the last, and many apart evenly."""
    half = MOST_POINTS // 2 - 1
    measured = [index for index, step in enumerate(steps) if step.evaluation is not None]
    return {*_every(list(range(len(steps))), half), *_every(measured, half)}


def _every(indices: Sequence[int], most: int) -> Sequence[int]:
    """Return at most ``most`` of ``indices``, evenly apart and ending with the last."""
    apart = max(1, -(-len(indices) // most))
    return indices[::-1][::apart]


def _decimal(value: float) -> str:
    return f"{value:.6g}"
