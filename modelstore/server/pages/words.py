"""How times, numbers and sizes are written on pages."""

from __future__ import annotations

from datetime import datetime, timezone

from modelstore.names import printable
from modelstore.sizes import human_size

_UNITS = (
    ("year", 31_557_600),
    ("month", 2_629_800),
    ("day", 86_400),
    ("hour", 3600),
    ("minute", 60),
)


def moment_of(text: str) -> datetime | None:
    """Return a registry's time; None for a text that is none."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def exact(text: str) -> str:
    """Return a registry's time as people read it, in full."""
    found = moment_of(text)
    if found is None:
        return text
    return found.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(text: str) -> str:
    """Return how long ago a registry's time was, roughly."""
    found = moment_of(text)
    if found is None:
        return text
    seconds = (datetime.now(tz=timezone.utc) - found).total_seconds()
    if seconds < 0:
        return exact(text)
    for unit, length in _UNITS:
        units = int(seconds // length)
        if units >= 1:
            return f"{counted(units, unit)} ago"
    return "just now"


def counted(number: int, thing: str) -> str:
    """Return a number of things: "1 file", "2 files"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def number(value: object) -> str:
    """Return a parameter or a metric."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 100_000 else str(value)
    return "–" if value is None else str(value)


def exactly(value: object) -> str:
    """Return a value so that different ones look different."""
    return number(value) if isinstance(value, bool) else str(value)


def size(value: object) -> str:
    """Return a number of bytes; a dash where it is not known."""
    return human_size(value) if isinstance(value, int) and not isinstance(value, bool) else "–"


def percent(share: float) -> str:
    """Return a share, exact enough to tell small ones apart."""
    hundred = 100 * share
    if not hundred:
        return "0 %"
    if 0 < hundred < 0.1:
        return "<0.1 %"
    if 99.95 <= hundred < 100:
        return ">99.9 %"
    return f"{hundred:.0f} %" if 10 <= hundred < 99 or hundred == 100 else f"{hundred:.1f} %"


def shown(value: object) -> object:
    """Return what a page says for ``value``: what hides or reorders text is spelt out.

    Line breaks and tabs stay.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "\n".join("\t".join(map(printable, row.split("\t"))) for row in value.split("\n"))


def first_line(text: str) -> str:
    """Return the first line of a message."""
    return text.strip().partition("\n")[0]


def rest_of(text: str) -> str:
    """Return a message without its first line."""
    return text.strip().partition("\n")[2].strip()


def cut(value: object, most: int = 600) -> object:
    """Return a text, shortened where it is long, with how long it was."""
    if not isinstance(value, str) or len(value) <= most:
        return value
    return f"{value[:most]}… ({len(value):,} characters)"
