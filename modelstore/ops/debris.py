"""What killed processes left half written: it has a name that nobody reads.

Registries and version directories are written under the store's lock, so whoever holds that knows
that the writer is dead. Elsewhere the name tells the process, and only a dead one's files go.
Frames that were being staged are `modelstore.blobs.staging`'s.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelstore import disk
from modelstore.errors import StoreError
from modelstore.names import ModelName, is_model, is_version
from modelstore.store import Store

_HALF_WRITTEN = re.compile(r"\.(v\d[^/]*|.+\.(\d+))\.[0-9a-f]{8}\.tmp\Z", re.DOTALL)
"""A version's directory, or a file and the process that wrote it, before it got its own name."""


def debris(store: Store) -> list[Path]:
    """Return what killed processes left half written, outside of `tmp/`."""
    found = [*_in(store.meta / "adopted")]
    unlocked = [store.root, store.meta, store.meta / "checkouts", store.meta / "refs"]
    for model in _models(store):
        found += half_written(store, model)
        home = store.root / model
        names = os.listdir(home) if home.is_dir() else []
        unlocked += [home / name for name in names if is_version(name)]
    return found + [path for place in unlocked for path in _in(place) if not _may_live(path)]


def half_written(store: Store, model: ModelName) -> list[Path]:
    """Return version directories and registry files of a model that never got their names."""
    return [*_in(store.root / model), *_in(store.meta / "refs" / model)]


def clear(paths: list[Path]) -> int:
    """Remove what was found; whoever calls this holds the store's lock, and found it under that.

    Returns:
        how many went; what cannot be removed waits for the next time.
    """
    gone = 0
    for path in paths:
        with suppress(StoreError):
            disk.remove_tree(path) if path.is_dir() else disk.remove(path)
            gone += 1
    return gone


def _in(directory: Path) -> Iterator[Path]:
    names = os.listdir(directory) if directory.is_dir() else []
    yield from (directory / name for name in sorted(names) if _HALF_WRITTEN.match(name))


def _models(store: Store) -> list[ModelName]:
    places = (store.root, store.meta / "refs")
    listed = (path for place in places if place.is_dir() for path in place.iterdir())
    names = {path.name for path in listed if path.is_dir()}
    return [ModelName(name) for name in sorted(names) if is_model(name)]


def _may_live(path: Path) -> bool:
    """Tell whether the process that wrote a file may still be at it."""
    match = _HALF_WRITTEN.match(path.name)
    if sys.platform == "win32" or match is None or match.group(2) is None:
        return True  # Windows has no way of asking without touching
    try:
        os.kill(int(match.group(2)), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
