"""Versions that were removed: found by what is typed, and named in the error that says so."""

from __future__ import annotations

from modelstore.errors import NotFoundError
from modelstore.names import ModelName, digest_prefix
from modelstore.state import Entry, State


def removed_entry(state: State, base: str) -> Entry | None:
    """Return the entry of the removed version that has this number, or whose id begins so."""
    entry = state.removed_entry(base)
    prefix = digest_prefix(base)
    if (
        entry is not None
        or not prefix
        or any(str(e.id).startswith(prefix) for e in state.entries())
    ):
        return entry
    entries = (state.removed_entry(str(version)) for version in state.removed())
    return next((e for e in entries if e and e.id and e.id.startswith(prefix)), None)


def was_removed(model: ModelName, entry: Entry) -> NotFoundError:
    """Return the error of a ref that means a removed version."""
    ref = f"{model}@{entry.version}"
    return NotFoundError(f"{ref} was removed", f"bring it back with: mstore undelete {ref}")
