"""Import: what other tools have on this machine becomes versions of a model, with where it is from.

Nothing is downloaded, and nothing is unpickled. What was imported before is not imported again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modelstore import disk
from modelstore.errors import NotFoundError, StoreError, UsageError
from modelstore.names import ModelName
from modelstore.ops import import_gguf, import_hub, import_ollama, ollama, place
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.hub_cache import CacheEntry, is_commit, parse_repo_id
from modelstore.ops.import_source import ORIGIN, REVISION, Source, model_for
from modelstore.ops.pointer import set_active
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.store import Store

HUB, OLLAMA = "hf:", "ollama:"


@dataclass(frozen=True, slots=True)
class Places:
    """Where other tools keep what they have.

    Attributes:
        hub: the cache of the Hugging Face Hub.
        ollama: the stores of Ollama's.
    """

    hub: Path
    ollama: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A source, and the version that it became before, or None."""

    source: Source
    known: Resolved | None


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import would do.

    Attributes:
        model: the model that gets the versions.
        rows: oldest first.
    """

    model: ModelName
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """A source, and what it is now.

    Attributes:
        source: what was imported.
        ref: the version, in full.
        made: what the commit did; None where it was imported before.
    """

    source: Source
    ref: str
    made: Committed | None


def plan_import(
    store: Store,
    text: str,
    places: Places,
    *,
    model: ModelName | None = None,
    everything: bool = False,
) -> ImportPlan:
    """Return what an import would do, and change nothing.

    Args:
        text: "hf:owner/name[@revision]", "ollama:name[:tag]", a GGUF file, a manifest of Ollama's, or
            a directory of the Hugging Face cache: that of a model, or of one snapshot.
        model: the model that gets the versions; None for one called after the source.
        everything: every revision that the source has.

    Raises:
        NotFoundError: there is nothing of that name.
        UsageError: it is of a kind that is not imported.
        IntegrityError: it is damaged.
    """
    sources = find_sources(text, places, everything=everything)
    name = model_for(sources[0], model)
    rows = tuple(Row(source, _known(store, name, source)) for source in sources)
    return ImportPlan(name, rows)


def run_import(
    store: Store,
    plan: ImportPlan,
    *,
    message: str = "",
    author: str = "",
    activate: bool = False,
    progress: Progress = silent,
) -> list[Imported]:
    """Make versions of what a plan says; each is whole before the next is begun.

    Args:
        message: why; "" for one that says where it is from.
        author: who.
        activate: make the last one ACTIVE.

    Raises:
        IntegrityError: what was found is not what its names say; of that no version is made.
        ConflictError, DiskFullError: as for `commit`.
    """
    done = []
    for row in plan.rows:
        is_chosen = activate and row is plan.rows[-1]
        if row.known is not None:
            if is_chosen:
                set_active(store, row.known, why=message)
            done.append(Imported(row.source, str(row.known), None))
            continue
        options = _options(row.source, message, author)
        parents = _parents(store, plan.model, row.source)
        options = replace(options, activate=is_chosen, parents=parents)
        with _laid_out(store, row.source) as path:
            made = commit(store, path, plan.model, options, progress)
        done.append(Imported(row.source, f"{made.model}@{made.version}", made))
    return done


def _options(source: Source, message: str, author: str) -> CommitOptions:
    said = {ORIGIN: source.origin, REVISION: source.revision}
    return CommitOptions(
        message=message or f"import {source.title}",
        author=author,
        base_model=source.base_model,
        environment={key: value for key, value in said.items() if value},
        expected=source.expected,
        follow_symlinks=source.path is None,
        op="import",
    )


@contextmanager
def _laid_out(store: Store, source: Source) -> Iterator[Path]:
    """Give the directory or the file that holds a source's files, made of links if need be."""
    if source.path is not None:
        yield source.path
        return
    disk.make_dir(store.meta / place.RUNS)
    place.sweep(store.meta / place.RUNS)
    directory = place.staging(store.meta / place.RUNS)
    try:
        disk.make_new_dir(directory)
        for path, content in source.scattered.items():
            if isinstance(content, bytes):
                disk.create(directory / path, content)
            elif not disk.symlink(os.path.abspath(content), directory / path):
                disk.copy_new(content, directory / path)
        yield directory
    finally:
        disk.remove_tree(directory)


def _known(store: Store, model: ModelName, source: Source) -> Resolved | None:
    """Return the version that was made of a source before."""
    if not source.revision:
        return None
    found = _imports(store, model, source.origin)
    return next((one for one, revision in found if revision == source.revision), None)


def _parents(store: Store, model: ModelName, source: Source) -> list[str] | None:
    """Return the version that was imported from there last; None for what a commit would take.

    Another revision of a model follows on the one before it, and not on what was trained from that.
    """
    found = next(_imports(store, model, source.origin), None)
    return None if found is None else [str(found[0])]


def _imports(store: Store, model: ModelName, origin: str) -> Iterator[tuple[Resolved, str]]:
    """Yield the versions that were imported from somewhere, newest first, and their revisions."""
    if not store.registry(model).exists():
        return
    for entry in reversed(store.state(model).entries()):
        with suppress(StoreError):  # one whose manifest is not here tells nothing
            said = store.manifest(model, entry).environment if entry.id is not None else {}
            if said.get(ORIGIN) == origin:
                yield Resolved(model, entry), str(said.get(REVISION, ""))


# --- finding


def find_sources(text: str, places: Places, *, everything: bool = False) -> list[Source]:
    """Return what a user's words for a source mean; see `plan_import`."""
    if text.startswith(HUB):
        repo_id, _, revision = text.removeprefix(HUB).partition("@")
        entry = CacheEntry.of(places.hub, parse_repo_id(repo_id))
        return import_hub.sources(entry, revision, everything=everything)
    if text.startswith(OLLAMA):
        return [import_ollama.source(text.removeprefix(OLLAMA), places.ollama)]
    path = Path(text)
    if path.is_dir():
        return _of_directory(path, everything=everything)
    if path.exists():
        listed = ollama.listed_at(path)
        return [import_gguf.source(path) if listed is None else import_ollama.source_at(listed)]
    raise _nothing(text)


def _of_directory(path: Path, *, everything: bool) -> list[Source]:
    entry = CacheEntry.at(path)
    if entry is not None:
        return import_hub.sources(entry, "", everything=everything)
    above = path.absolute()
    snapshot = CacheEntry.at(above.parent.parent) if is_commit(above.name) else None
    if snapshot is not None and above.parent.name == "snapshots":
        return import_hub.sources(snapshot, above.name, everything=False)
    raise _other_directory(path)


def _other_directory(path: Path) -> StoreError:
    if path.name.startswith(("datasets--", "spaces--")):
        return UsageError(f"'{path}' is no model but a {path.name.partition('--')[0][:-1]}")
    if (path / "manifests").is_dir() and (path / "blobs").is_dir():
        names = ollama.names(path)
        return UsageError(
            f"'{path}' is a store of Ollama's: {_some(names) or 'it has no models'}",
            f"import one: mstore import ollama:{(names or ['NAME'])[0]} --from {path}",
        )
    cached = sorted(one.name for one in path.glob("models--*") if one.is_dir())
    if cached:
        first = cached[0].removeprefix("models--").replace("--", "/")
        return UsageError(
            f"'{path}' is a Hugging Face cache: {_some(cached)}",
            f"import one: mstore import hf:{first} --from {path}",
        )
    return UsageError(
        f"'{path}' is a plain directory, which needs no import",
        f"commit it: mstore commit {path} -m MESSAGE -M MODEL",
    )


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _nothing(text: str) -> NotFoundError:
    if ollama.is_name(text):
        return NotFoundError(
            f"there is no file or directory '{text}'",
            f"if it is Ollama's: mstore import ollama:{text}",
        )
    with suppress(StoreError):
        if "/" in text and not text.startswith((".", "/")):
            parse_repo_id(text.partition("@")[0])
            return NotFoundError(
                f"there is no file or directory '{text}'",
                f"if it is in the Hugging Face cache: mstore import hf:{text}",
            )
    return NotFoundError(
        f"there is no file or directory '{text}'",
        "name a GGUF file, hf:OWNER/NAME or ollama:NAME; a plain directory is committed: "
        "mstore commit DIR -m MESSAGE",
    )
