"""Export as an entry of the Hugging Face cache: clients find it there, and ask no server.

Names of contents and commits are those that `mstore serve` gives, so what was downloaded from it and
what is written here are one.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from modelstore.errors import ConflictError, UsageError
from modelstore.ops.export_plan import (
    ExportOptions,
    ExportPlan,
    Links,
    Small,
    Sorted,
    contents,
    require_outside,
)
from modelstore.ops.hub_cache import CacheEntry, parse_repo_id
from modelstore.ops.hub_names import MAIN, OWNER, commit_id, content_name
from modelstore.ops.resolve import Resolved
from modelstore.store import Store

NAME = "hf-cache"


def plan(store: Store, resolved: Resolved, options: ExportOptions) -> ExportPlan:
    """Return what it takes to have a version in a cache.

    Args:
        options: ``output`` is the cache.

    Raises:
        BadNameError: ``repo_id`` cannot be one.
        ConflictError: the cache lies in the store.
    """
    manifest = contents(store, resolved)
    require_outside(store, options.output)
    repo_id = _repo_id(resolved, options)
    entry = CacheEntry.of(options.output.absolute(), repo_id)
    files = Sorted()
    targets = {}
    snapshot = entry.snapshots / commit_id(resolved.entry)
    for file in manifest.files:
        name = content_name(file)
        files.add(file, entry.blobs / name)
        up = Path(*[".."] * (2 + file.path.count("/")))
        targets[file.path] = os.fspath(up / "blobs" / name)
    names, warnings = _names(store, resolved, entry, options)
    commit = commit_id(resolved.entry).encode("ascii")
    return ExportPlan(
        resolved,
        NAME,
        options.output.absolute(),
        entry.directory,
        missing=tuple(files.missing),
        kept=tuple(files.kept),
        links=Links(snapshot, targets),
        small=tuple(Small(entry.refs / name, partial(bytes, commit)) for name in names),
        directories=(entry.blobs, entry.snapshots, entry.refs),
        names=tuple(f"{repo_id}@{name}" for name in names),
        warnings=warnings,
    )


def _repo_id(resolved: Resolved, options: ExportOptions) -> str:
    try:
        return parse_repo_id(options.repo_id or f"{OWNER}/{resolved.model}")
    except UsageError as error:
        if options.repo_id:
            raise
        hint = "give it another name there: --repo-id OWNER/NAME"
        raise ConflictError(
            f"clients of the Hub refuse the name {resolved.model!r}", hint
        ) from error


def _names(
    store: Store, resolved: Resolved, entry: CacheEntry, options: ExportOptions
) -> tuple[list[str], tuple[str, ...]]:
    """Return the revisions that are to mean the version, and what to warn of."""
    state = store.state(resolved.model)
    version = str(resolved.entry.version)
    aliases = [name for name, of in sorted(state.aliases.items()) if of == version and name != MAIN]
    names = [version, *aliases]
    if options.main:
        return [*names, MAIN], ()
    if state.active != version:
        return names, ()
    other = entry.ref(MAIN)
    ours = {commit_id(one) for one in state.entries()}
    if other and other not in ours:
        warning = (
            f"{entry.repo_id} has a revision {MAIN!r} that is none of {resolved.model}, and keeps "
            "it; to replace it: --main"
        )
        return names, (warning,)
    return [*names, MAIN], ()
