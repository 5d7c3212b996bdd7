"""Where the files of a version are, once it is committed: they stay, or move to its directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelstore import disk
from modelstore.errors import StoreError
from modelstore.ops import working
from modelstore.ops.origin import Place
from modelstore.ops.publish import Published
from modelstore.ops.resolve import Resolved
from modelstore.ops.scan import Scanned
from modelstore.store import Store


def settle(
    store: Store,
    path: Path,
    published: Published,
    scanned: Sequence[Scanned],
    place: Place,
    *,
    move: bool,
) -> None:
    """Move the files where they belong and note what is checked out where; all is durable now.

    Args:
        path: what was committed.
        published, scanned: the version, and its files as they were read.
        move: put the files into the version's directory.
    """
    target = store.version_dir(published.model, published.entry.version)
    noted = [item.entry for item in scanned if not item.changed_since]
    if move and not place.adoptable:
        for item in scanned:
            _move(item.found.source, target / item.found.path)
        if path.is_dir():
            parents = {file.found.source.parent for file in scanned}
            disk.remove_empty_dirs([*parents, path])
        working.forget(store, path)
    elif place.recorded:
        target = path
    elif not place.adoptable:
        return
    resolved = Resolved(published.model, published.entry)
    working.record(store, target, resolved, noted)


def _move(source: Path, target: Path) -> None:
    if not source.exists():  # somebody was faster; the store has it
        return
    if target.exists():  # README.md or model_info.json, written with the version's directory
        disk.remove(source)
        return
    disk.make_dir(target.parent)
    try:
        disk.rename_unsynced(source, target)
        disk.sync_dir(target.parent)
        return
    except StoreError:
        if not source.exists():  # it moved, and the sync failed
            raise
    disk.copy_new(source, target)  # from another file system, where a rename cannot go
    disk.sync_path(target)
    disk.sync_dir(target.parent)
    disk.remove(source)
