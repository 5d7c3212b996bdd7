"""What those who integrate with mstore may give as a store."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from modelstore.store import Store, find


class HoldsStore(Protocol):
    """Something that has a store, as `modelstore.ModelStore` has."""

    @property
    def store(self) -> Store:
        """What the functions of `modelstore.ops` take."""
        ...


StoreLike = HoldsStore | Store | Path | str
"""A store, what holds one, or a directory at or above which one lies."""


def opened(store: StoreLike) -> Store:
    """Return the store that ``store`` is, holds, or leads to.

    Raises:
        NoStoreError: there is none at that path.
    """
    if isinstance(store, Store):
        return store
    if isinstance(store, str | Path):
        return Store(find(Path(store)))
    return store.store
