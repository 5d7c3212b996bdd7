"""The loss of a training as a chart, drawn from what the manifest keeps of it."""

from __future__ import annotations

from collections.abc import Sequence

from modelstore.charts import Line, Point, line_chart
from modelstore.curve import CurvePoint

LOSS_CHART = "loss.svg"
"""The file of a version that shows how its training went."""

_TITLE = "Loss, in nats per token"
_MANY = 60  # points from which a line of single steps is rather a band
_WINDOWS = 30  # widths of a mean in the whole run


def loss_chart(curve: Sequence[CurvePoint], title: str = _TITLE) -> bytes:
    """Return the chart of a curve as SVG, in UTF-8."""
    losses = [(float(one.step), float(one.loss)) for one in curve if one.loss]
    lines = [_line(losses)] if losses else []
    measured = [(float(one.step), float(one.evaluation)) for one in curve if one.evaluation]
    if measured:
        lines.append(Line("evaluation", measured))
    return line_chart(title, lines, "optimizer steps").document()


def _line(losses: Sequence[Point]) -> Line:
    if len(losses) < _MANY:
        return Line("training", losses)
    return Line("training, mean of nearby steps", _means(losses), shadow=losses)


def _means(points: Sequence[Point]) -> list[Point]:
    """Return the points that have neighbours enough on both sides, with the mean of all of them."""
    reach = max(1, len(points) // _WINDOWS // 2)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    width = 2 * reach + 1
    return [
        (points[at + reach][0], (sums[at + width] - sums[at]) / width)
        for at in range(len(points) - width + 1)
    ]
