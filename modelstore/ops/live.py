"""What must stay: every version that was not removed, and every blob that it takes to read it.

Whoever deletes asks here, and nothing is passed over: a directory, registry, manifest or header
that cannot be read, or a frame that is missing, is an error, and then nothing may be deleted.
A version directory that no registry lists counts as a version too, as far as its blobs are here:
it may be all that is left of a registry that was lost. So does what a running backup has pinned,
and the checkpoints of trainings that are not over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk, manifest
from modelstore.blobs.closure import Closure
from modelstore.blobs.trash import Trash
from modelstore.errors import IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName, is_model, is_version, parse_model, parse_version
from modelstore.ops import in_use, pins, tracking
from modelstore.ops.resolve import Resolved
from modelstore.records import read
from modelstore.state import State
from modelstore.store import MANIFEST, META, Store


@dataclass(frozen=True, slots=True)
class Roots:
    """The versions there are.

    Attributes:
        versions: those that are registered and have content.
        found: manifests of version directories that no registry lists, those that are pinned, those
            of checkpoints, and those that were seen at a remote.
    """

    versions: tuple[Resolved, ...]
    found: tuple[Digest, ...]


class Live:
    """Tells which blobs must stay; asked again, it reads only what is new."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blobs_of: dict[Digest, tuple[Digest, ...]] = {}
        self.closure = Closure(store.blobs)

    def blobs(self, trash: Trash | None = None) -> set[Digest]:
        """Return every blob that must stay, of the versions that there are at this moment.

        Args:
            trash: what a version misses is taken back from there, if the store's lock is held.

        Raises:
            IntegrityError: something cannot be read or is missing, so that nobody can tell.
            StoreError: a directory or file cannot be read.
        """
        self.closure.refresh()
        found = roots(self._store)
        needed = self.of(found.versions)
        absent = self.closure.absent(needed)
        if absent and trash is not None and sum(map(trash.give_back, absent)):
            trash.sync()
            self.closure.refresh()
            needed = self.of(found.versions)
            absent = self.closure.absent(needed)
        self._require_none(found.versions, absent)
        return needed | self.closure.of(self._of_found(found.found))

    def blobs_without(self, versions: Iterable[Resolved]) -> set[Digest]:
        """Return every blob that had to stay if ``versions`` were removed."""
        gone = {str(one) for one in versions}
        found = roots(self._store)
        left = (one for one in found.versions if str(one) not in gone)
        return self.of(left) | self.closure.of(self._of_found(found.found))

    def of(self, versions: Iterable[Resolved]) -> set[Digest]:
        """Return every blob that it takes to read ``versions``."""
        return self.closure.of(digest for one in versions for digest in self._of(one))

    def _of(self, resolved: Resolved) -> tuple[Digest, ...]:
        """Return the blobs that a version names, its manifest among them."""
        if resolved.id is None:
            return ()
        if resolved.id not in self._blobs_of:
            try:
                found = self._store.manifest(resolved.model, resolved.entry)
            except StoreError as error:
                raise _unreadable(f"the manifest of {resolved}", error) from error
            self._note(resolved.id, found.blobs())
        return self._blobs_of[resolved.id]

    def _of_found(self, manifests: Iterable[Digest]) -> Iterator[Digest]:
        for digest in manifests:
            if digest not in self._blobs_of and digest in self._store.blobs:
                data = self._store.blobs.read(digest)
                self._note(digest, manifest.decode(data, f"manifest {digest[:12]}").blobs())
            yield from self._blobs_of.get(digest, ())

    def _note(self, name: Digest, blobs: set[Digest]) -> None:
        # versions share most of their blobs: one text for each is enough
        self._blobs_of[name] = tuple(Digest(sys.intern(digest)) for digest in (name, *blobs))

    def _require_none(self, versions: Iterable[Resolved], absent: Iterable[Digest]) -> None:
        """Raise if versions miss blobs that are not in the trash either."""
        if tracking.lazy(self._store):
            return  # what is not here is at the remote
        trash = self._store.blobs.trash()
        gone = {digest for digest in absent if trash.find(digest) is None}
        for one in versions if gone else ():
            lost = self.of([one]) & gone
            if lost:
                blobs = "a blob" if len(lost) == 1 else f"{len(lost)} blobs"
                raise IntegrityError(
                    f"{blobs} of {one} cannot be found, as '{min(lost)}'; nothing was deleted",
                    f"bring back what is lost: mstore fsck --repair; or give up: mstore rm {one}",
                )


def roots(store: Store) -> Roots:
    """Return the versions that there are, by everything that says so.

    Raises:
        IntegrityError: a registry is damaged, or records are missing.
        StoreError: a directory or file cannot be read.
    """
    versions: list[Resolved] = []
    found: list[Digest] = []
    for model in _models(store):
        state = _state(store, model)
        if state is not None:
            entries = (entry for entry in state.entries() if entry.id is not None)
            versions += [Resolved(model, entry) for entry in entries]
        found += _unregistered(store.root / model, state)
    found += sorted({*pins.held(store), *in_use.checkpointed(store), *tracking.manifests(store)})
    return Roots(tuple(versions), tuple(found))


def _models(store: Store) -> list[ModelName]:
    """Return every model of which there are records or a directory."""
    names = set()
    for entry in _entries(store.meta / "refs"):
        if entry.name.startswith("."):
            continue  # a file manager's
        if not (is_model(entry.name) and entry.is_dir()):
            raise IntegrityError(
                f"'{entry.path}' is no model's; nothing was deleted", "run: mstore fsck"
            )
        names.add(entry.name)
    for entry in _entries(store.root):
        if entry.is_dir() and entry.name != META and is_model(entry.name):
            names.add(entry.name)
    return [parse_model(name) for name in sorted(names)]


def _state(store: Store, model: ModelName) -> State | None:
    """Return the state of a model, whole; None where nothing was ever registered."""
    refs = store.meta / "refs" / model
    records = [entry.name for entry in _entries(refs)] if refs.is_dir() else []
    if not any(name.endswith(".json") for name in records) and not store.registry(model).exists():
        return None
    state = store.state(model)
    numbers = [name.removesuffix(".json").removeprefix("base-") for name in records]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    if last > state.seq:
        raise IntegrityError(
            f"record {state.seq + 1} of {model} is missing; nothing was deleted",
            "run: mstore fsck --repair",
        )
    return state


def _unregistered(directory: Path, state: State | None) -> Iterator[Digest]:
    """Yield the manifests of version directories that are neither registered nor removed."""
    removed = set(state.removed()) if state is not None else set()
    for entry in _entries(directory) if directory.is_dir() else ():
        if not (is_version(entry.name) and entry.is_dir()):
            continue
        known = state is not None and state.entry(entry.name) is not None
        if known or parse_version(entry.name) in removed:
            continue
        data = read(Path(entry.path, MANIFEST))
        if data is not None and manifest.is_manifest(data):
            yield digest_of(data)


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    with disk.explained(directory, "read"), os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _unreadable(what: str, error: StoreError) -> StoreError:
    """Return the error that says that nothing was deleted because of ``error``."""
    hint = error.hint if not isinstance(error, NotFoundError | IntegrityError) else ""
    return IntegrityError(
        f"{what} cannot be read ({error.message}); nothing was deleted",
        hint or "run: mstore fsck --repair",
    )
