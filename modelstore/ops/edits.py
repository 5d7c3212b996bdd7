"""What somebody wrote into the registry of a model that mstore keeps, and how that is taken over.

A script, or a person, changes `model_registry.json`, as was done before there was an mstore. Such a
view is never obeyed, but kept; `mstore adopt` takes over what it says of new versions, and of known
ones whatever is free to change: notes, descriptions, aliases, and keys that mstore does not know.

What an edit changed is told by the state that the view was made from, whose number it carries: a
key is taken if the edit changed it and nobody has since. The journal says which views were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from modelstore.errors import IntegrityError
from modelstore.hashing import digest_of
from modelstore.names import Version
from modelstore.ops.foreign import KEPT, Foreign, read_json, read_registry
from modelstore.ops.foreign_entry import entry_values
from modelstore.registry import VIEW, Registry
from modelstore.state import Change, Entry, State
from modelstore.view import is_ours

_OURS = (
    *("id", "seq", "parents", "message", "author", "sizes", "generated", "status", "path"),
    KEPT,
)
_TRAINING = ("created_at", "training_parameters", "metrics", "base_model")
"""What a manifest says too; free to change only where there is none."""

_MARK = "edited view "


@dataclass(frozen=True, slots=True)
class Edits:
    """What edited views say and the registry does not.

    Attributes:
        new: what they say of each version that the registry does not know.
        versions: keys to set, by version and key.
        values: keys to set at the top.
        aliases: aliases to set.
        listed: versions among the new that no adopt was told of before.
        remarks: what they say that is not taken over, one sentence each.
        views: the digests of the views that say so, shortened.
        in_place: one of them lies where the registry's own view belongs.
    """

    new: Mapping[Version, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[Version, ...] = ()
    remarks: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    in_place: bool = False

    @property
    def pending(self) -> bool:
        """Whether there is anything to take over, or to report once."""
        found = self.versions or self.values or self.aliases or self.listed or self.remarks
        return bool(found) or self.in_place

    def lines(self) -> list[str]:
        """Return what is to be set, a few words each."""
        of_versions = [f"{key} of {v}" for v, keys in self.versions.items() for key in keys]
        return [*of_versions, *self.values, *(f"alias {name}" for name in self.aliases)]

    def change(self, state: State) -> Change:
        """Return the change of ``state``, which they were read against, that takes them over."""
        known = {name: state.entry(name) for name in self.versions}
        versions = {
            name: {**entry.values, **self.versions[name]} for name, entry in known.items() if entry
        }
        aliases = {k: v for k, v in self.aliases.items() if state.entry(v) is not None}
        values = {**self.values, **({"aliases": {**state.aliases, **aliases}} if aliases else {})}
        return Change("adopt", versions, values, why=f"{_MARK}{' '.join(self.views)}")


def read_edits(registry: Registry, state: State) -> Edits:
    """Return what the edited views of ``registry`` say that ``state`` does not."""
    views = registry.edited_views()
    return _Reading(registry, state).read(views) if views else Edits()


@dataclass(frozen=True, slots=True)
class _Before:
    """The state that a view was made from."""

    versions: Mapping[str, Any]
    values: Mapping[str, Any]
    active: str


class _Reading:
    """Goes through edited views, newest first; the newest that changed a key counts."""

    def __init__(self, registry: Registry, state: State) -> None:
        self._registry = registry
        self._state = state
        self._name = f"the edited {registry.model}/{VIEW}"
        self._journal: list[dict[str, Any]] = []
        with suppress(IntegrityError):  # an edit then cannot be told from what was there before
            self._journal = registry.journal()
        self._new: dict[Version, Mapping[str, Any]] = {}
        self._versions: dict[str, dict[str, Any]] = {}
        self._values: dict[str, Any] = {}
        self._aliases: dict[str, str] = {}
        self._listed: dict[Version, None] = {}
        self._remarks: dict[str, None] = {}

    def read(self, views: list[bytes]) -> Edits:
        """Read all of them."""
        done = {word for row in self._journal for word in _marks(row)}
        current = self._registry.view()
        found = []
        for view in views:
            name = digest_of(view)[:16]
            said = read_registry(view, f"{self._registry.model}/{VIEW}", self._registry.model)
            before = self._before(view, in_place=view == current)
            fresh = name not in done and before is not None
            if said is None:
                if view == current:
                    self._remark("cannot be read")
            else:
                self._unknown(said, fresh=fresh)
                if fresh and before is not None:
                    self._known(said, before, ours=is_ours(view))
            if fresh:
                found.append(name)
        return Edits(
            new=self._new,
            versions=self._versions,
            values=self._values,
            aliases=self._aliases,
            listed=tuple(sorted(self._listed)),
            remarks=tuple(self._remarks),
            views=tuple(found),
            in_place=views[0] == current,
        )

    def _before(self, view: bytes, *, in_place: bool) -> _Before | None:
        """Return the state that ``view`` was made from; None where it cannot be known.

        One that does not say it, and is in place, was made from the newest.
        """
        value = read_json(view) if is_ours(view) else None
        seq = value.get("seq") if isinstance(value, dict) else None
        rows = [row for row in self._journal if isinstance(seq, int) and row["seq"] <= seq]
        if rows and rows[0]["seq"] == 1:
            return _replayed(rows)
        document = self._state.document
        return _Before(document["versions"], document, self._state.active) if in_place else None

    def _unknown(self, said: Foreign, *, fresh: bool) -> None:
        """Note what is said of versions that the registry does not know."""
        for version, values in said.versions.items():
            if self._state.entry(str(version)) is None:
                self._new.setdefault(version, values)
                if fresh and version not in self._state.removed():
                    self._listed[version] = None

    def _known(self, said: Foreign, before: _Before, *, ours: bool) -> None:
        for version, values in said.versions.items():
            entry = self._state.entry(str(version))
            base = before.versions.get(str(entry.version)) if entry is not None else None
            if entry is not None and base is not None:
                path = str(base.get("path", ""))
                self._entry(entry, values if ours else entry_values(values, path), base)
        self._top(said, before)
        if said.active is not None and str(said.active) not in (before.active, self._state.active):
            active = f"{self._registry.model}@{said.active}"
            self._remark(
                f"says {said.active} is active; it stays {self._state.active or 'unset'} "
                f"(mstore set-active {active})"
            )

    def _entry(self, entry: Entry, said: Mapping[str, Any], base: Mapping[str, Any]) -> None:
        """Note what is said of one version that mstore knows."""
        fixed = _OURS if entry.id is None else (*_OURS, *_TRAINING)
        name = str(entry.version)
        refused = []
        for key, value in said.items():
            now = entry.values.get(key)
            if key in ("is_active", KEPT) or _says(base.get(key), value) or _says(now, value):
                continue
            moved = now != base.get(key)
            if key == "notes" and isinstance(value, str):
                value = _joined(entry.text(key), value) if moved else value
                if value != now:
                    self._versions.setdefault(name, {}).setdefault(key, value)
            elif key in fixed or moved or (key == "description" and not isinstance(value, str)):
                refused.append(key)
            else:
                self._versions.setdefault(name, {}).setdefault(key, value)
        if refused:
            self._remark(f"has another {', '.join(refused)} of {name}, which is not taken over")

    def _top(self, said: Foreign, before: _Before) -> None:
        """Note what is said of the model itself."""
        document = self._state.document
        for key, value in said.values.items():
            if key == "aliases":
                self._alias(value, before.values.get(key, {}))
            elif key != KEPT and value not in (before.values.get(key), document.get(key)):
                if document.get(key) == before.values.get(key):
                    self._values.setdefault(key, value)
                else:
                    self._remark(f"has another {key}, which is not taken over")

    def _alias(self, said: Mapping[str, str], base: Mapping[str, str]) -> None:
        now = self._state.aliases
        for name, version in said.items():
            if version not in (base.get(name), now.get(name)) and now.get(name) == base.get(name):
                self._aliases.setdefault(name, version)

    def _remark(self, what: str) -> None:
        self._remarks[f"{self._name} {what}; it is kept in .mstore/adopted/"] = None


def _marks(row: Mapping[str, Any]) -> list[str]:
    """Return the views that a change took over."""
    why = str(row.get("why", ""))
    return why.removeprefix(_MARK).split() if why.startswith(_MARK) else []


def _replayed(rows: list[dict[str, Any]]) -> _Before:
    """Return the state after the changes in ``rows``."""
    versions: dict[str, Any] = {}
    values: dict[str, Any] = {}
    active = ""
    for row in rows:
        versions |= row.get("versions", {})
        values |= row.get("values", {})
        active = row.get("active", active)
    return _Before({k: v for k, v in versions.items() if v is not None}, values, active)


def _says(value: Any, said: Any) -> bool:
    """Tell whether ``value`` says what ``said`` does; an object may say more."""
    if isinstance(value, dict) and isinstance(said, dict):
        return all(value.get(key) == item for key, item in said.items())
    return bool(value == said) or (value is None and said in ("", [], {}))


def _joined(notes: str, more: str) -> str:
    """Return ``notes`` and the lines of ``more`` that they lack."""
    rows = notes.splitlines()
    return "\n".join([*rows, *(row for row in more.splitlines() if row not in rows)])
