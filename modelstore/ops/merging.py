"""Merging two registries of one model that were changed on both sides: ours goes on top of theirs.

The result is one change of their state. Versions are never merged with each other: of two that
have one number, ours gets the next free one. What only one side changed is as that side has it;
what both did is as ours has it, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelstore.hashing import Digest
from modelstore.names import Version, next_version, parse_version
from modelstore.state import Change, State
from modelstore.view import OWN_KEYS


@dataclass(slots=True)
class Merged:
    """What takes our changes over into theirs.

    Attributes:
        change: of their state.
        renamed: our versions that have another number now, by the one they had.
        said: what the user should know, one sentence each.
    """

    change: Change
    renamed: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def merge(base: Mapping[str, Any], ours: State, theirs: State) -> Merged:
    """Return the change of ``theirs`` that takes over what ``ours`` changed since ``base``.

    Args:
        base: the state that both come from; one without versions where there is none.
    """
    merged = Merged(Change("pull"))
    model = ours.document["model_type"]
    seq = theirs.seq + 1
    old = base["versions"]
    versions: dict[str, Any] = {}
    removed: dict[str, Any] = {}
    for name, values in ours.document["versions"].items():
        there = theirs.document["versions"].get(name)
        if there is not None and there.get("id") == values.get("id"):
            both = _three_way(old.get(name, {}), values, there)
            if both != there:
                versions[name] = both
        elif name in old and old[name].get("id") == values.get("id"):
            merged.said.append(f"{model}@{name} was removed there, and so it is here")
        else:
            new = _free(ours, theirs, merged, name)
            if new != name:
                merged.renamed[name] = new
                merged.said.append(
                    f"{model}@{name} is {model}@{new} now: they gave that number, too"
                )
            versions[new] = {**values, "seq": seq}
    for name, values in ours.document.get("removed", {}).items():
        there = theirs.document["versions"].get(name)
        if name in old and there is not None and there.get("id") == values.get("id"):
            if name == theirs.active:
                merged.said.append(f"{model}@{name} was removed here and is ACTIVE there; it stays")
            else:
                versions[name], removed[name] = None, values
    left = {*theirs.document["versions"], *versions} - removed.keys()
    merged.change = Change(
        op="pull",
        versions=versions,
        removed=removed,
        values=dict(_values(base, ours, theirs, merged, left)),
        active=_active(base, ours, theirs, merged, left),
        merged=ours.head,
    )
    return merged


def _three_way(
    base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``theirs`` with the values that ``ours`` changed."""
    changed = {key for key in {*base, *ours} if ours.get(key) != base.get(key)} - {"seq"}
    both = {**theirs, **{key: ours.get(key) for key in changed}}
    return {key: value for key, value in both.items() if key not in changed or key in ours}


def _free(ours: State, theirs: State, merged: Merged, name: str) -> str:
    """Return the number that a version of ours gets: its own if they did not give it."""
    given = [*theirs.versions(), *theirs.removed()]
    version = parse_version(name)
    if version not in given:
        return name
    taken: list[Version] = [*given, *ours.versions(), *ours.removed()]
    taken += [parse_version(new) for new in merged.renamed.values()]
    return str(next_version(taken, after=version, major=False))


def _values(
    base: Mapping[str, Any], ours: State, theirs: State, merged: Merged, left: set[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the keys of the registry that are to be set."""
    for key in sorted({*base, *ours.document} - OWN_KEYS - {"aliases", "model_type"}):
        mine = ours.document.get(key)
        if mine != base.get(key) and mine != theirs.document.get(key):
            yield key, mine
    aliases = _aliases(base, ours, theirs, merged, left)
    if aliases != theirs.aliases:
        yield "aliases", aliases or None


def _aliases(
    base: Mapping[str, Any], ours: State, theirs: State, merged: Merged, left: set[str]
) -> dict[str, str]:
    old = dict(base.get("aliases", {}))
    found = theirs.aliases
    for name in sorted({*old, *ours.aliases}):
        mine = ours.aliases.get(name)
        if mine == old.get(name):
            continue
        there = theirs.aliases.get(name)
        if there not in (old.get(name), mine):
            merged.said.append(f"the alias {name!r} was changed there, too; it is as it was here")
        if mine is None:
            found.pop(name, None)
        else:
            found[name] = merged.renamed.get(mine, mine)
    return {name: version for name, version in found.items() if version in left}


def _active(
    base: Mapping[str, Any], ours: State, theirs: State, merged: Merged, left: set[str]
) -> str | None:
    mine = merged.renamed.get(ours.active, ours.active)
    if ours.active == (base.get("active_version") or "") or mine not in left:
        return None
    if mine == theirs.active:
        return None
    if theirs.active and theirs.active != (base.get("active_version") or ""):
        model = ours.document["model_type"]
        merged.said.append(f"ACTIVE of {model} stays {mine}; there it is {theirs.active}")
    return mine


def heads_merged(records: Mapping[int, Mapping[str, Any]]) -> set[Digest]:
    """Return the heads of chains that records took over."""
    return {Digest(record["merged"]) for record in records.values() if record.get("merged")}
