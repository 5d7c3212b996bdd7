"""The history of models: which versions there are, newest first, and how they descend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

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
        limit: at most this many versions in all: those committed last, whatever their model.
    """
    context = context or Context()
    if ref and ref not in store.models():
        resolved = resolve(store, ref, context)
        state = store.state(resolved.model)
        entries = _ancestry(state, resolved.entry)
        return [History(resolved.model, state, tuple(entries[:limit]), len(entries))]
    only = parse_ref(f"{ref}@").model if ref else context.model
    models = [only] if only is not None else store.models()
    states = {model: store.state(model) for model in models}
    found = {model: tuple(reversed(state.entries())) for model, state in states.items()}
    shown = {model: len(entries) for model, entries in found.items()}
    if limit is not None and limit < sum(shown.values()):
        shown = _newest(found, limit)
    return [
        History(model, states[model], entries[: shown[model]], len(entries))
        for model, entries in found.items()
    ]


def _newest(found: Mapping[ModelName, tuple[Entry, ...]], limit: int) -> dict[ModelName, int]:
    """Return how many of each model's versions are among the ``limit`` newest of all.

    A version never goes before a newer one of its model, whatever the clocks said.
    """
    shown = dict.fromkeys(found, 0)
    for _ in range(limit):
        waiting = [model for model in found if shown[model] < len(found[model])]
        shown[max(waiting, key=lambda model: _moment(found[model][shown[model]]))] += 1
    return shown


def _moment(entry: Entry) -> datetime:
    """Return when a version was made; an adopted one may not say, and counts as the oldest."""
    try:
        moment = datetime.fromisoformat(entry.text("created_at").replace("Z", "+00:00"))
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


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
