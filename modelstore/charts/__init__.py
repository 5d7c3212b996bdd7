"""Charts as SVG: small, without scripts, and readable on a light and on a dark page.

Every chart is a `Chart`: `inline` for a page that has `STYLE`, `document` for a file, whose colours
follow the reader's preference. Equal values make equal bytes.
"""

from modelstore.charts.axes import Axis, LogAxis
from modelstore.charts.bars import CostBar, cost_bars
from modelstore.charts.changes import Cell, ChangeMap, Head, TensorFigures
from modelstore.charts.heat import heat_map
from modelstore.charts.lineage import Edge, Node, lineage
from modelstore.charts.lines import (
    HEIGHT,
    WIDTH,
    Line,
    MetricPoint,
    Point,
    line_chart,
    metric_chart,
)
from modelstore.charts.parts import Chart, sheet
from modelstore.charts.style import COLOURS, STYLE

__all__ = [
    "COLOURS",
    "HEIGHT",
    "STYLE",
    "WIDTH",
    "Axis",
    "Cell",
    "ChangeMap",
    "Chart",
    "CostBar",
    "Edge",
    "Head",
    "Line",
    "LogAxis",
    "MetricPoint",
    "Node",
    "Point",
    "TensorFigures",
    "cost_bars",
    "heat_map",
    "line_chart",
    "lineage",
    "metric_chart",
    "sheet",
]
