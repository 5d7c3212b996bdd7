"""Moments as text, always UTC in whole seconds.

RFC 3339 where people and registries have them (``2026-03-01T12:00:00Z``); the basic form of ISO 8601
in names of files (``20260301T120000Z``), which no file system refuses and which sorts by time.
"""

from __future__ import annotations

from datetime import datetime, timezone

_STAMP = "%Y%m%dT%H%M%SZ"


def now() -> datetime:
    """Return this moment, UTC."""
    return datetime.now(timezone.utc)


def from_seconds(seconds: float) -> datetime:
    """Return the moment so many seconds after 1970, as files have it.

    Raises:
        ValueError, OverflowError, OSError: no calendar reaches there.
    """
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


def rfc3339(moment: datetime) -> str:
    """Return ``moment``, which knows its zone, as registries have it."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp(moment: datetime) -> str:
    """Return ``moment``, which knows its zone, as names of files have it."""
    return moment.astimezone(timezone.utc).strftime(_STAMP)


def parse_stamp(text: str) -> datetime:
    """Return the moment that `stamp` made ``text`` of.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(text, _STAMP).replace(tzinfo=timezone.utc)
