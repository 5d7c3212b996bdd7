"""What all charts are made of: the values of a finished chart, and the spelling of its elements.

Grammar: Scalable Vector Graphics 2 (https://www.w3.org/TR/SVG2/); only elements that every viewer
of images knows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from modelstore.charts.style import STYLE
from modelstore.hashing import digest_of

_MARGIN = 20.0  # between the panels of a sheet


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, for a page or as a file. Equal charts have equal bytes.

    Attributes:
        title: says what the values are, with their unit.
        description: says in a sentence or two what the chart shows, for who cannot see it.
        width, height: in pixels.
        body: its elements.
        links: whether some of it can be followed.
    """

    title: str
    description: str
    width: float
    height: float
    body: str
    links: bool = False

    def inline(self, key: str = "") -> str:
        """Return an ``<svg>`` element for a page that has `STYLE`.

        Args:
            key: letters and digits; sets apart the ids of equal charts in one page.
        """
        digest = digest_of("\0".join((self.title, self.description, self.body)).encode())
        name = f"ms-{digest[:12]}{key}"
        named = f'aria-labelledby="{name}-t" aria-describedby="{name}-d"'
        return (
            f'<svg class="ms-chart" {self._size()} role="{"group" if self.links else "img"}" '
            f'{named}><title id="{name}-t">{escaped(self.title)}</title>'
            f'<desc id="{name}-d">{escaped(self.description)}</desc>\n{self.body}\n</svg>'
        )

    def __html__(self) -> str:
        """Return what a template shows in place of the chart."""
        return self.inline()

    def document(self) -> bytes:
        """Return a file, which paints its own ground, so that it can be read on any."""
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ms-chart" {self._size()} role="img">',
            f"<title>{escaped(self.title)}</title>",
            f"<desc>{escaped(self.description)}</desc>",
            f"<style>\n{STYLE}</style>",
            rect("ms-ground", 0.5, 0.5, self.width - 1, self.height - 1, 6),
            self.body,
            "</svg>",
            "",
        ]
        return "\n".join(lines).encode("utf-8")

    def _size(self) -> str:
        width, height = short(self.width), short(self.height)
        return f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'


def sheet(title: str, charts: Sequence[Chart]) -> Chart:
    """Return one chart of several, one above the other."""
    body, top = [], 0.0
    for chart in charts:
        body.append(f'<g transform="translate(0 {short(top)})">\n{chart.body}\n</g>')
        top += chart.height + _MARGIN
    return Chart(
        title=title,
        description=" ".join(chart.description for chart in charts),
        width=max((chart.width for chart in charts), default=1.0),
        height=max(1.0, top - _MARGIN),
        body="\n".join(body),
        links=any(chart.links for chart in charts),
    )


# --- elements


def stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line of a class."""
    start = f'x1="{short(x1)}" y1="{short(y1)}"'
    return f'<line class="{kind}" {start} x2="{short(x2)}" y2="{short(y2)}"/>'


def rect(  # noqa: PLR0913  (an element has the attributes it has)
    kind: str, x: float, y: float, width: float, height: float, round_: float = 0, more: str = ""
) -> str:
    """Return a rectangle of a class, with further elements within."""
    place = f'x="{short(x)}" y="{short(y)}" width="{short(width)}" height="{short(height)}"'
    corner = f' rx="{short(round_)}"' if round_ else ""
    end = f">{more}</rect>" if more else "/>"
    return f'<rect class="{kind}" {place}{corner}{end}'


def circle(kind: str, x: float, y: float, radius: float, more: str = "") -> str:
    """Return a circle of a class, with further elements within."""
    end = f">{more}</circle>" if more else "/>"
    return f'<circle class="{kind}" cx="{short(x)}" cy="{short(y)}" r="{short(radius)}"{end}'


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "", turn: float = 0) -> str:
    """Return text on a base line.

    Args:
        anchor: "middle" or "end" of it lies at ``x``; else its start.
        turn: degrees by which it is turned about (x, y), clockwise.
    """
    more = f' class="{kind}"' if kind else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    more += f' transform="rotate({short(turn)} {short(x)} {short(y)})"' if turn else ""
    return f'<text x="{short(x)}" y="{short(y)}"{more}>{escaped(said)}</text>'


def hover(lines: Sequence[str]) -> str:
    """Return what is shown beside the pointer."""
    return f"<title>{'&#10;'.join(map(escaped, lines))}</title>"


def link(href: str, inner: str, label: str = "") -> str:
    """Return what can be followed; nothing can that is no path of this server.

    Args:
        label: what it is called, with all text that is seen of it; "" where that text says it.
    """
    if not href.startswith("/") or href.startswith("//"):
        return inner
    named = f' aria-label="{escaped(label)}"' if label else ""
    return f'<a href="{escaped(href)}"{named}>{inner}</a>'


# --- spelling


def escaped(said: str) -> str:
    """Return text as XML can hold it: control characters are left out, they have no spelling."""
    return escape("".join(c for c in said if c.isprintable()))


def short(value: float) -> str:
    """Return a coordinate in pixels, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def width_of(said: str, size: float = 12) -> float:
    """Return roughly how many pixels wide text is."""
    return sum(_width(c) for c in said) * size


def _width(c: str) -> float:
    if unicodedata.east_asian_width(c) in "WF":
        return 1.05
    if c in "ilIj.,:;|'!()[] ft":
        return 0.34
    return 0.82 if c in "mwMW@%" else 0.66 if c.isupper() else 0.58


def shortened(said: str, most: int) -> str:
    """Return text of at most so many characters; of longer text the middle is left out."""
    said = "".join(c for c in said if c.isprintable())
    if len(said) <= most:
        return said
    tail = (most - 1) // 2
    return f"{said[: most - 1 - tail]}…{said[len(said) - tail :]}"
