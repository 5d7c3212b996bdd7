"""A history as a picture: every metric across its versions, and what each of them cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelstore.charts import Chart, CostBar, MetricPoint, cost_bars, metric_chart, sheet
from modelstore.ops.history import History

MOST_METRICS = 12
"""Of a model are drawn: those that most versions have."""

_NO_METRIC = {"model_size"}  # bytes; the costs say it

Row = Mapping[str, Any]


def history_chart(histories: Sequence[History]) -> Chart:
    """Return the metrics and the costs of the versions of each model, oldest first.

    Without any version the chart says so.
    """
    shown = [history for history in histories if history.entries]
    charts = [chart for history in shown for chart in _charts(history)]
    names = ", ".join(str(history.model) for history in shown)
    return sheet(f"Versions of {names}" if names else "Versions", charts or [cost_bars("", [])])


def _charts(history: History) -> Iterator[Chart]:
    rows = [history.description.row(entry) for entry in reversed(history.entries)]
    for name in _metrics(rows):
        points = [
            MetricPoint(row["version"], number_of(row["metrics"].get(name)), row["active"])
            for row in rows
        ]
        yield metric_chart(f"{history.model}: {name}", points)
    yield cost_bars(f"{history.model}: files, and what they added to the store", [*_bars(rows)])


def _metrics(rows: Sequence[Row]) -> list[str]:
    counts: dict[str, int] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            if name not in _NO_METRIC and number_of(value) is not None:
                counts[name] = counts.get(name, 0) + 1
    return sorted(sorted(counts), key=lambda name: -counts[name])[:MOST_METRICS]


def _bars(rows: Sequence[Row]) -> Iterator[CostBar]:
    for row in rows:
        logical, stored = row["sizes"].get("logical"), row["sizes"].get("stored")
        if isinstance(logical, int) and isinstance(stored, int):
            yield CostBar(row["version"], logical, stored, row["active"])


def number_of(value: object) -> float | None:
    """Return a metric that can be drawn; None for any other."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
