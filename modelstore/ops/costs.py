"""What versions cost, as their registry recorded it when they were committed: no frame is opened.

`modelstore.ops.usage` measures what is on disk now, which takes a look at every frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelstore.names import ModelName
from modelstore.state import Entry, State
from modelstore.store import Store


@dataclass(frozen=True, slots=True)
class VersionCost:
    """What one version cost, in bytes.

    Attributes:
        version: its number.
        logical: its files.
        stored: what its commit added to the store.
        active: whether it is ACTIVE.
    """

    version: str
    logical: int
    stored: int
    active: bool = False

    @property
    def saved(self) -> int:
        """Bytes of its files that need not be stored."""
        return max(0, self.logical - self.stored)


def costs(store: Store, model: ModelName) -> list[VersionCost]:
    """Return what the versions of a model cost, oldest first; those of unknown sizes are left out."""
    state = store.state(model)
    return costs_of(state, state.entries())


def costs_of(state: State, entries: Sequence[Entry]) -> list[VersionCost]:
    """Return what these versions cost, in their order; those of unknown sizes are left out."""
    found = []
    for entry in entries:
        sizes = entry.mapping("sizes")
        logical, stored = _count(sizes.get("logical")), _count(sizes.get("stored"))
        if logical is not None and stored is not None:
            version = str(entry.version)
            found.append(VersionCost(version, logical, stored, version == state.active))
    return found


def _count(value: object) -> int | None:
    """Return a number of bytes; a registry that was adopted may hold anything."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return value if known and isinstance(value, int) else None
