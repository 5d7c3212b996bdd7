"""Charts for pages: what a page knows, as `modelstore.charts` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelstore.charts import (
    Chart,
    CostBar,
    Edge,
    Line,
    MetricPoint,
    Node,
    cost_bars,
    line_chart,
    lineage,
    metric_chart,
)
from modelstore.curve import CurvePoint
from modelstore.server.pages.rendering import segment
from modelstore.server.pages.rows import Row, is_number

Curve = Sequence[CurvePoint]

_MOST_LINKED = 60
"""Versions up to which each point of a chart leads to one."""

_MOST_POINTS = 600
"""Of a curve; a longer one is thinned out."""


def metric(base: str, name: str, rows: Sequence[Row]) -> Chart:
    """Return a metric across versions, oldest first."""
    linked = len(rows) <= _MOST_LINKED
    points = [
        MetricPoint(
            row.version, _number(row.metrics.get(name)), row.active, _url(base, row, linked)
        )
        for row in rows
    ]
    return metric_chart(name, points)


def costs(base: str, rows: Sequence[Row]) -> Chart:
    """Return what versions cost, oldest first."""
    bars = [
        CostBar(row.version, row.logical, row.stored, row.active, _url(base, row))
        for row in rows
        if row.logical is not None and row.stored is not None
    ]
    return cost_bars("Files of each version, and what it added to the store", bars)


def descent(model: str, base: str, base_model: str, rows: Sequence[Row]) -> Chart:
    """Return which version was made from which, oldest first."""
    known = {row.version for row in rows}
    outside = {parent for row in rows for parent in row.parents} - known
    nodes = [Node(name, name, outside=True) for name in sorted(outside)]
    if base_model:
        nodes.append(Node(_BASE, base_model, "base model", outside=True))
    nodes += [
        Node(row.version, row.version, _note(row), row.active, href=_url(base, row)) for row in rows
    ]
    edges = [Edge(row.version, parent) for row in rows for parent in row.parents]
    if base_model:
        edges += [Edge(row.version, _BASE) for row in rows if not row.parents]
    return lineage(f"Lineage of {model}", nodes, edges)


_BASE = "base model"


def _note(row: Row) -> str:
    said = row.message.strip().partition("\n")[0]
    named = ", ".join(row.aliases)
    return " · ".join(part for part in (named, said) if part)


def curves(found: Mapping[str, Curve]) -> Chart:
    """Return the losses of versions over each other."""
    lines = [
        Line(one["label"], [*zip(one["steps"], one["values"], strict=True)])
        for one in curve_data(found)
    ]
    return line_chart("Loss, in nats per token", lines, "optimizer steps")


def curve_data(found: Mapping[str, Curve]) -> list[dict[str, Any]]:
    """Return curves as scripts read them: of which version, label, steps, values, whether dashed."""
    lines = []
    for version, curve in found.items():
        for evaluated, label in ((False, version), (True, f"{version}, evaluation")):
            points = [
                (point.step, float(said))
                for point in curve
                if (said := point.evaluation if evaluated else point.loss)
            ]
            points = _thinned(points)
            if points:
                steps, values = zip(*points, strict=True)
                lines.append(
                    {
                        "version": version,
                        "label": label,
                        "steps": steps,
                        "values": values,
                        "dashed": evaluated,
                    }
                )
    return lines


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return points evenly chosen from many, the last among them."""
    apart = -(-len(points) // _MOST_POINTS)
    return points[::-1][:: max(1, apart)][::-1]


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None  # type: ignore[arg-type]


def _url(base: str, row: Row, linked: bool = True) -> str:
    return f"{base}/versions/{segment(row.version)}" if linked else ""
