"""The colours of charts, on a light and on a dark ground, and the style sheet made of them.

Colours of lines are told apart with every common kind of colour blindness: any two are at least
0.07 apart in OKLab (https://bottosson.github.io/posts/oklab/) as simulated by Machado, Oliveira and
Fernandes 2009, and 3:1 against the ground. Colours of cells go in even steps of OKLab lightness, so
that they are in order also where hue is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours on one ground.

    Attributes:
        ground, edge: what a chart lies on, and the line around it.
        strong, soft: text.
        grid, axis: lines behind values, and at their foot.
        lines: of values; the first is also that of bars.
        cells: from the least to the most.
        hollow: around what is there and did not change.
        mark: ACTIVE.
    """

    ground: str
    edge: str
    strong: str
    soft: str
    grid: str
    axis: str
    lines: tuple[str, ...]
    cells: tuple[str, ...]
    hollow: str
    pale: str
    mark: str


LIGHT = Palette(
    ground="#ffffff",
    edge="#d1d9e0",
    strong="#1f2328",
    soft="#59636e",
    grid="#e4e8ec",
    axis="#818b98",
    lines=(
        *("#0072b2", "#d55e00", "#004d46", "#b22e82"),
        *("#5c149e", "#6b560f", "#6c9d8b", "#3f2305"),
    ),
    cells=(
        *("#d3efdc", "#a2dcc1", "#72c6b2", "#46acac", "#378fa5"),
        *("#366f9e", "#3d508d", "#3a3570", "#2e1f50", "#1c0f2e"),
    ),
    hollow="#b9c1ca",
    pale="#c9dcea",
    mark="#b35900",
)
DARK = Palette(
    ground="#0d1117",
    edge="#3d444d",
    strong="#f0f6fc",
    soft="#9198a1",
    grid="#21262d",
    axis="#656c76",
    lines=(
        *("#58b0f0", "#f0803c", "#2f9e8a", "#e88bc4"),
        *("#9b6cf0", "#e3e03a", "#a8f0dc", "#b0604a"),
    ),
    cells=(
        *("#2a2250", "#363574", "#3b4e8e", "#376c9e", "#358aa6"),
        *("#3da8ab", "#66c1b0", "#94d6bc", "#c4ead0", "#f2fbf2"),
    ),
    hollow="#4a525c",
    pale="#24445e",
    mark="#f0a04b",
)

COLOURS = len(LIGHT.lines)
STEPS = len(LIGHT.cells)
DASHES = ("", "6 3", "2 3", "9 3 2 3")
"""Of lines, once all colours are used."""


def _rules(palette: Palette) -> list[str]:
    """Return what depends on the ground."""
    rules = [
        f".ms-ground{{fill:{palette.ground};stroke:{palette.edge}}}",
        f".ms-chart text{{fill:{palette.soft}}}",
        f".ms-chart .ms-title,.ms-chart .ms-strong{{fill:{palette.strong}}}",
        f".ms-grid{{stroke:{palette.grid}}}.ms-axis,.ms-mark{{stroke:{palette.axis}}}",
        f".ms-hollow{{stroke:{palette.hollow}}}.ms-pale{{stroke:{palette.pale}}}",
        f".ms-cell{{stroke:{palette.ground}}}.ms-other{{stroke:{palette.soft}}}",
        f".ms-edge{{stroke:{palette.axis}}}.ms-open{{fill:{palette.ground}}}",
        f".ms-active{{stroke:{palette.mark}}}.ms-chart .ms-said{{fill:{palette.mark}}}",
        f".ms-chart .ms-onto{{fill:{palette.ground}}}",
    ]
    rules += [
        f".ms-c{n}{{stroke:{colour}}}.ms-d{n}{{fill:{colour}}}"
        for n, colour in enumerate(palette.lines)
    ]
    rules += [f".ms-h{n}{{fill:{colour}}}" for n, colour in enumerate(palette.cells)]
    return rules


_SHAPES = (
    ".ms-chart{max-width:100%;height:auto}",
    '.ms-chart text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif}',
    ".ms-chart .ms-title{font-size:14px;font-weight:600}",
    ".ms-chart .ms-small{font-size:10.5px}",
    ".ms-chart .ms-bold{font-weight:600}",
    ".ms-line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}",
    ".ms-faint{stroke-width:1;opacity:.35}",
    ".ms-mark{stroke-dasharray:3 3}",
    ".ms-hollow,.ms-other,.ms-edge,.ms-active{fill:none}",
    ".ms-pale{stroke-width:7}",
    ".ms-other,.ms-edge{stroke-width:1.5}",
    ".ms-active{stroke-width:2}",
    ".ms-hit{pointer-events:all}.ms-sign{pointer-events:none}",
    ".ms-chart a:focus-visible circle,.ms-chart a:hover text{text-decoration:underline}",
)

STYLE = "\n".join(
    [*_SHAPES, *_rules(LIGHT), "@media(prefers-color-scheme:dark){", *_rules(DARK), "}", ""]
)
"""CSS of all charts; every name in it begins with ``ms-``."""
