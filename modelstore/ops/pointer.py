"""Everything of a version that may change: ACTIVE, aliases and notes.

Each is one change of the registry, made under the store's lock and recorded in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelstore.errors import ConflictError, NotFoundError
from modelstore.names import ModelName, parse_alias
from modelstore.ops.resolve import Context, Resolved, resolve
from modelstore.state import Change, State
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class Moved:
    """A pointer that was set: what it was, "" for nothing, and what it is."""

    model: ModelName
    before: str
    after: str


def set_active(
    store: Store, resolved: Resolved, *, expect: str = "", why: str = "", op: str = "set-active"
) -> Moved:
    """Make a version ACTIVE.

    Args:
        expect: a ref; refuse unless it is the ACTIVE version (compare and swap).

    Raises:
        ConflictError: ACTIVE is not what was expected, or the version's files are missing.
    """
    version = str(resolved.entry.version)
    if resolved.id is None:
        raise ConflictError(
            f"{resolved} is registered but its files are missing", "put them back: mstore adopt"
        )
    before = ""

    def decide(state: State) -> Change:
        nonlocal before
        before = state.active
        if state.entry(version) is None:
            raise NotFoundError(f"{resolved} was removed meanwhile", "run: mstore log")
        if expect:
            _expect(store, resolved, state, expect)
        return Change(op, active=version, why=why)

    if not expect and store.state(resolved.model).active == version:
        store.bring_up(resolved.model)
        return Moved(resolved.model, version, version)
    store.change(resolved.model, decide)
    return Moved(resolved.model, before, version)


def rollback(store: Store, model: ModelName, *, steps: int = 1, why: str = "") -> Moved:
    """Make ACTIVE what it was ``steps`` moves ago.

    Raises:
        NotFoundError: it has not moved that often.
    """
    target = resolve(store, f"{model}@ACTIVE@{{{steps}}}")
    return set_active(store, target, why=why, op="rollback")


def set_alias(store: Store, name: str, resolved: Resolved, *, why: str = "") -> Moved:
    """Let the alias ``name`` mean a version; it may have meant another one."""
    parse_alias(name)
    version = str(resolved.entry.version)
    before = ""

    def decide(state: State) -> Change:
        nonlocal before
        if state.entry(version) is None:
            raise NotFoundError(f"{resolved} was removed meanwhile", "run: mstore log")
        before = state.aliases.get(name, "")
        return Change("alias", values={"aliases": {**state.aliases, name: version}}, why=why)

    store.change(resolved.model, decide)
    return Moved(resolved.model, before, version)


def remove_alias(store: Store, name: str, model: ModelName) -> Moved:
    """Remove the alias ``name``; the version it means stays.

    Raises:
        NotFoundError: the model has no such alias.
    """
    before = ""

    def decide(state: State) -> Change:
        nonlocal before
        left = state.aliases
        if name not in left:
            raise NotFoundError(f"{model} has no alias {name!r}", "list them with: mstore alias")
        before = left.pop(name)
        return Change("alias", values={"aliases": left}, why=f"removed {name}")

    store.change(model, decide)
    return Moved(model, before, "")


def add_note(store: Store, resolved: Resolved, text: str) -> str:
    """Add a line to the notes of a version; return all of them."""
    version = str(resolved.entry.version)
    notes = ""

    def decide(state: State) -> Change:
        nonlocal notes
        entry = state.entry(version)
        if entry is None:
            raise NotFoundError(f"{resolved} was removed meanwhile", "run: mstore log")
        notes = "\n".join(row for row in (entry.text("notes"), text) if row)
        return Change("note", versions={version: {**entry.values, "notes": notes}}, why=text)

    store.change(resolved.model, decide)
    return notes


def _expect(store: Store, resolved: Resolved, state: State, expect: str) -> None:
    expected = resolve(store, expect, Context(model=resolved.model))
    if str(expected.entry.version) != state.active:
        raise ConflictError(
            f"ACTIVE of {resolved.model} is {state.active or 'not set'}, "
            f"not {expected.entry.version} as expected",
            f"look at: mstore active {resolved.model} --history",
        )
