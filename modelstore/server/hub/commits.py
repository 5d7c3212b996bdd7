"""Versions as commits: when, by whom, and what was said."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from modelstore.server.hub.ids import commit_id
from modelstore.state import Entry


def moment(text: str) -> str | None:
    """Return a registry's time as clients parse it, with milliseconds; None where it is none."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return found.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def made_at(entry: Entry) -> str:
    """Return when a version was made; an adopted one that does not say is of 1970."""
    return moment(entry.text("created_at")) or "1970-01-01T00:00:00.000Z"


def title_of(entry: Entry) -> str:
    """Return what names a version in a list: its number, and the first line of its message."""
    said = (entry.text("message") or entry.text("description")).strip().partition("\n")[0]
    return f"{entry.version}: {said}" if said else str(entry.version)


def as_commit(entry: Entry, author: str) -> dict[str, Any]:
    """Return a version as a row of the list of commits."""
    return {
        "id": commit_id(entry),
        "title": title_of(entry),
        "message": entry.text("message").partition("\n")[2].strip(),
        "date": made_at(entry),
        "authors": [{"user": author or "mstore"}],
    }


def as_last_commit(entry: Entry) -> dict[str, str]:
    """Return a version as the last commit of each of its files."""
    return {"id": commit_id(entry), "title": title_of(entry), "date": made_at(entry)}
