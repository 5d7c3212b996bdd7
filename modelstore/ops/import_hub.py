"""Import from the cache of the Hugging Face Hub: what was downloaded becomes versions, offline.

A snapshot's files are links; they are followed to the blobs of the same cache and nowhere else. A
blob's name is the digest of its content, and is held against it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modelstore.canonical import parse_mapping
from modelstore.errors import IntegrityError, NotFoundError, StoreError, UsageError
from modelstore.names import is_version, parse_version
from modelstore.ops.hub_cache import CacheEntry, is_commit
from modelstore.ops.hub_names import WEIGHTS
from modelstore.ops.import_source import Source, suggest
from modelstore.ops.tree import Found, walk
from modelstore.reading import read_if_readable

_DIGEST = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_INDEX = (".safetensors.index.json", ".bin.index.json")
_BASE = re.compile(
    r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([\w./-]+)[\"']?[ \t]*$", re.MULTILINE
)
_MOST_CARD = 1 << 20
_MOST_INDEX = 16 << 20


def sources(entry: CacheEntry, revision: str, *, everything: bool) -> list[Source]:
    """Return what a model in the cache holds that can become versions, oldest first.

    Args:
        revision: the name of a ref, or a commit; "" for main, or the only one there is.
        everything: all commits that are there whole, in place of one.

    Raises:
        NotFoundError: there is no such model or revision, or it was not downloaded whole.
        UsageError: there are several revisions, and nothing says which is meant.
        IntegrityError: the cache is damaged, or leads elsewhere.
    """
    commits = entry.commits()
    if not commits:
        raise NotFoundError(
            f"there is no model {entry.repo_id} in '{entry.directory.parent}'",
            f"hf download {entry.repo_id}",
        )
    if everything and not revision:
        return _all(entry, _ordered(entry, commits))
    source = _source(entry, _chosen(entry, commits, revision))
    _check_whole(entry, source)
    return [source]


def _chosen(entry: CacheEntry, commits: Sequence[str], revision: str) -> str:
    commit = entry.commit(revision or "main")
    if not commit and not revision and len(commits) == 1:
        return commits[0]
    if commit in commits:
        return commit
    known = ", ".join(", ".join(entry.names(c)) or c[:12] for c in commits)
    if not revision:
        raise UsageError(
            f"which revision of {entry.repo_id}? The cache has {known}",
            f"mstore import hf:{entry.repo_id}@{commits[-1][:12]}; or all of them: --all",
        )
    raise NotFoundError(
        f"the cache has no revision {revision!r} of {entry.repo_id} (it has {known})",
        f"hf download {entry.repo_id} --revision {revision}",
    )


def _ordered(entry: CacheEntry, commits: Sequence[str]) -> list[str]:
    """Return commits in the order of the versions that they are, or else as they came."""
    versions = {}
    for commit in commits:
        named = [parse_version(name) for name in entry.names(commit) if is_version(name)]
        if not named:
            return list(commits)
        versions[commit] = min(named)
    return sorted(commits, key=lambda commit: versions[commit])


def _all(entry: CacheEntry, commits: Sequence[str]) -> list[Source]:
    """Return all that are whole; of those that are not, the first says so."""
    found = []
    missed: list[StoreError] = []
    for commit in commits:
        source = _source(entry, commit)
        try:
            _check_whole(entry, source)
        except NotFoundError as error:
            missed.append(error)
        else:
            found.append(source)
    if not found:
        raise missed[0]
    warnings = (*found[0].warnings, *(error.message for error in missed))
    return [replace(found[0], warnings=warnings), *found[1:]]


def _source(entry: CacheEntry, commit: str) -> Source:
    path = entry.snapshots / commit
    if path.is_symlink() or not is_commit(commit):
        raise IntegrityError(f"'{path}' leads elsewhere", f"hf download {entry.repo_id}")
    try:
        files = walk(path, follow_symlinks=False).files
    except UsageError as error:
        raise IntegrityError(
            f"the snapshot '{path}' is no plain copy of a model: {error.message}",
            f"hf download {entry.repo_id} --force-download",
        ) from error
    return Source(
        origin=f"hf:{entry.repo_id}",
        revision=commit,
        names=tuple(entry.names(commit)),
        path=path,
        expected=dict(_expected(files)),
        base_model=_base_model(path) or entry.repo_id,
        suggested=suggest(entry.repo_id.rsplit("/", 1)[-1]),
        size=sum(file.size for file in files),
        files=len(files),
    )


def _expected(files: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """Yield the digest that the name of each file's blob says."""
    for file in files:
        if file.source.is_symlink():
            name = os.readlink(file.source).replace("\\", "/").rsplit("/", 1)[-1]
            if _DIGEST.match(name):
                yield file.path, name


def _base_model(snapshot: Path) -> str:
    """Return what the model's card says it was made from, "" where it does not say."""
    data = read_if_readable(snapshot / "README.md", _MOST_CARD)
    if data is None or not data.startswith(b"---"):
        return ""
    head = data.decode("utf-8", "replace").replace("\r\n", "\n")[3:].partition("\n---")[0]
    found = _BASE.search(head)
    return found[1] if found else ""


def _check_whole(entry: CacheEntry, source: Source) -> None:
    """Raise where a download brought only a part, as looking at a configuration does.

    Raises:
        NotFoundError: weights are missing.
    """
    if source.path is None:
        return
    hint = f"hf download {entry.repo_id} --revision {source.revision}"
    paths = {file.path for file in walk(source.path, follow_symlinks=False).files}
    if not any(path.lower().endswith(WEIGHTS) for path in paths):
        raise NotFoundError(f"the cache has no weights of {source.title}", hint)
    for path in sorted(path for path in paths if path.endswith(_INDEX)):
        missing = sorted(_shards(source.path, path) - paths)
        if missing:
            raise NotFoundError(
                f"the cache has {source.title} not whole: {missing[0]!r} is missing", hint
            )


def _shards(snapshot: Path, index: str) -> set[str]:
    """Return the files that an index of shards names, {} where that cannot be understood."""
    data = read_if_readable(snapshot / index, _MOST_INDEX)
    if data is None:
        return set()
    try:
        weights = parse_mapping(data, f"'{index}'").get("weight_map")
    except IntegrityError:
        return set()
    above = index.rpartition("/")[0]
    names = weights.values() if isinstance(weights, Mapping) else ()
    return {f"{above}/{name}" if above else str(name) for name in names}
