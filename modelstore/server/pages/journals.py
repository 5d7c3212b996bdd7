"""Changes of registries, newest first, read from the ends of their journals."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore.canonical import parse_mapping
from modelstore.errors import IntegrityError
from modelstore.names import ModelName
from modelstore.registry import JOURNAL
from modelstore.store import Store

_PIECE = 1 << 18
_LONGEST = 64 << 20
"""Bytes of a line that is read; the record of an adoption has all versions in one."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One change.

    Attributes:
        model: of which line.
        seq: its number.
        at: when.
        op: the verb.
        version: that it was about, "" where about several or none.
        what: what it did, in words.
        who: who made the version that was added, as far as that was said.
        why: what was said.
    """

    model: ModelName
    seq: int
    at: str
    op: str
    version: str
    what: str
    who: str
    why: str


def newest(store: Store, model: ModelName, count: int, before: int | None = None) -> list[Happened]:
    """Return the newest changes of a line, as far as its journal can be read.

    Args:
        count: at most so many.
        before: only those with lower numbers.
    """
    found: list[Happened] = []
    seen: set[int] = set()
    for line in _from_end(store.registry(model).directory / JOURNAL):
        try:
            record = parse_mapping(line, JOURNAL)
        except IntegrityError:
            continue
        seq = record.get("seq")
        if not isinstance(seq, int) or seq in seen or (before is not None and seq >= before):
            continue
        seen.add(seq)
        found.append(_happened(model, seq, record))
        if len(found) >= count:
            break
    return sorted(found, key=lambda one: one.seq, reverse=True)


def _from_end(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, the last first; one that is too long ends it."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        at = file.seek(0, os.SEEK_END)
        rest = b""
        while at > 0 and len(rest) < _LONGEST:
            start = max(0, at - _PIECE)
            file.seek(start)
            rest = file.read(at - start) + rest
            at = start
            *lines, first = reversed(rest.split(b"\n"))
            yield from (line for line in lines if line)
            rest = first
        if rest and at == 0:
            yield rest


def _happened(model: ModelName, seq: int, record: Mapping[str, Any]) -> Happened:
    versions = _names(record.get("versions"))
    removed = _names(record.get("removed"))
    active = str(record.get("active") or "")
    about = versions or removed or ([active] if active else [])
    what = _in_words(record, versions, removed, active)
    values = record.get("versions")
    entry = values.get(about[0]) if isinstance(values, dict) and len(about) == 1 else None
    entry = entry if isinstance(entry, dict) else {}
    return Happened(
        model=model,
        seq=seq,
        at=str(record.get("at", "")),
        op=str(record.get("op", "")),
        version=about[0] if len(about) == 1 else "",
        what=what,
        who=str(entry.get("author") or ""),
        why=str(record.get("why") or entry.get("message") or ""),
    )


def _names(values: object) -> list[str]:
    return [str(name) for name in values] if isinstance(values, dict) else []


def _in_words(
    record: Mapping[str, Any], versions: list[str], removed: list[str], active: str
) -> str:
    parts = []
    if removed:
        parts.append(_listed(removed))
    elif versions:
        parts.append(_listed(versions))
    values = record.get("values")
    if isinstance(values, dict) and isinstance(values.get("aliases"), dict):
        pairs = [f"{alias} → {version}" for alias, version in values["aliases"].items()]
        parts.append(f"aliases: {', '.join(pairs) or 'none'}")
    if active:
        parts.append(f"ACTIVE → {active}")
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    return (
        ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]} ({len(names)} versions)"
    )
