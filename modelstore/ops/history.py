"""The history of models: which versions there are, newest first, and how they descend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelstore.names import ModelName, parse_ref
from modelstore.ops.describe import Description
from modelstore.ops.resolve import Context, resolve
from modelstore.state import Entry, State
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class History:
    """Versions of one model, newest first.

    Attributes:
        model: its name.
        state: the registry they come from.
        entries: the versions.
        total: how many there are in all.
    """

    model: ModelName
    state: State
    entries: tuple[Entry, ...]
    total: int

    @property
    def description(self) -> Description:
        """What tells about its versions."""
        return Description(self.model, self.state)


def log(
    store: Store, ref: str = "", *, limit: int | None = None, context: Context | None = None
) -> list[History]:
    """Return the history of one version, or of every model (of the context's) without a ref.

    Args:
        ref: only this version and what it descends from; the name of a model: all of its versions.
        limit: at most this many versions of each model.
    """
    context = context or Context()
    if ref and ref not in store.models():
        resolved = resolve(store, ref, context)
        state = store.state(resolved.model)
        return [_history(resolved.model, state, _ancestry(state, resolved.entry), limit)]
    only = parse_ref(f"{ref}@").model if ref else context.model
    models = [only] if only is not None else store.models()
    histories = []
    for model in models:
        state = store.state(model)
        histories.append(_history(model, state, list(reversed(state.entries())), limit))
    return histories


def graph(entries: Sequence[Entry]) -> list[str]:
    """Return one prefix per entry that draws which descends from which, as ``git log --graph``.

    Args:
        entries: newest first.
    """
    lanes: list[str | None] = []
    rows = []
    for entry in entries:
        digest = str(entry.id)
        if digest not in lanes:
            lanes.append(digest)
        at = lanes.index(digest)
        rows.append(" ".join("*" if n == at else "|" for n, lane in enumerate(lanes) if lane))
        parents: list[str | None] = [str(parent) for parent in entry.parents]
        lanes[at : at + 1] = [parent for parent in parents if parent not in lanes]
    return rows


def _history(model: ModelName, state: State, entries: list[Entry], limit: int | None) -> History:
    return History(model, state, tuple(entries[:limit]), len(entries))


def _ancestry(state: State, entry: Entry) -> list[Entry]:
    """Return ``entry`` and every version of its model that it descends from, newest first."""
    by_id = {e.id: e for e in state.entries() if e.id is not None}
    found = {entry.version: entry}
    waiting = [entry]
    while waiting:
        for digest in waiting.pop().parents:
            parent = by_id.get(digest)
            if parent is not None and parent.version not in found:
                found[parent.version] = parent
                waiting.append(parent)
    return sorted(found.values(), key=lambda e: (e.seq, e.version), reverse=True)
