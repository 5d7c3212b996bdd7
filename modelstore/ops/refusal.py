"""Why a checkout or a release stops at changed files, and what to type then.

What was committed as another version meanwhile is in no danger, so that is looked for first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelstore.errors import ConflictError, StoreError
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops.resolve import Resolved
from modelstore.ops.working import hash_file
from modelstore.store import Store

_LOOK_BACK = 50
"""Versions, newest first, among which the changed files are looked for."""


def would_overwrite(
    store: Store, resolved: Resolved, directory: Path, changed: Sequence[str]
) -> ConflictError:
    """Return the error of a checkout that would lose the files ``changed``."""
    back = f"put the files of {resolved} there with: {_forced(store, resolved, directory)}"
    other = stored_as(store, resolved.model, directory, changed)
    if other is not None:
        return ConflictError(f"'{directory}' has files of {other}: {names(changed)}", back)
    return ConflictError(
        f"'{directory}' has files that would be lost: {names(changed)}",
        f"commit them with: mstore commit {directory}; or {back}",
    )


def would_lose(
    store: Store, resolved: Resolved, directory: Path, changed: Sequence[str]
) -> ConflictError:
    """Return the error of a release that finds the files ``changed``."""
    forced = _forced(store, resolved, directory)
    other = stored_as(store, resolved.model, directory, changed)
    if other is None:
        return ConflictError(
            f"'{directory}' has changes: {names(changed)}",
            f"commit them with: mstore commit {directory}; or drop them with: {forced}",
        )
    message = f"'{directory}' has files of {other}: {names(changed)}"
    if _is_inside(store, directory):
        return ConflictError(message, f"put the files of {resolved} there first: {forced}")
    return ConflictError(
        message, f"take those away with: mstore checkout {other} --release -o {directory}"
    )


def stored_as(
    store: Store, model: ModelName, directory: Path, paths: Sequence[str]
) -> Resolved | None:
    """Return the newest version of ``model`` that holds the files ``paths`` as they are now."""
    known: dict[str, Digest] = {}
    for entry in reversed(store.state(model).entries()[-_LOOK_BACK:]):
        resolved = Resolved(model, entry)
        if all(_is_file_of(store, resolved, directory, path, known) for path in paths):
            return resolved
    return None


def names(paths: Sequence[str], limit: int = 5) -> str:
    """Return the first few of ``paths``, and how many more there are."""
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(paths[:limit]) + more


def _is_file_of(
    store: Store, resolved: Resolved, directory: Path, name: str, known: dict[str, Digest]
) -> bool:
    path = directory / name
    try:
        file = store.manifest(resolved.model, resolved.entry).file(name)
        if file is None or path.is_symlink() or not path.is_file():
            return False
        if path.stat().st_size != file.size:
            return False
        if name not in known:
            known[name] = hash_file(path)
    except (OSError, StoreError):
        return False  # it only makes the hint better
    return known[name] == file.blake3


def _forced(store: Store, resolved: Resolved, directory: Path) -> str:
    where = "" if _is_inside(store, directory) else f" -o {directory}"
    return f"mstore checkout {resolved} -f{where}"


def _is_inside(store: Store, directory: Path) -> bool:
    return directory.resolve().is_relative_to(store.root.resolve())
