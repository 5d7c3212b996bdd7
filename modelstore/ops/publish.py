"""Publishing: the moment a version begins to exist.

Its blobs are durable already. Under the store's lock the number is chosen, every blob is looked
for once more, the version's directory is put in place, and the registry's record decides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import disk, manifest
from modelstore.blobs.closure import Closure
from modelstore.errors import ConflictError, IntegrityError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest
from modelstore.names import ModelName, Version, is_version, next_version, parse_version
from modelstore.ops import card, debris
from modelstore.ops.adapter import without_adapter
from modelstore.ops.resolve import Resolved
from modelstore.ops.stage import Staged
from modelstore.reading import read_file
from modelstore.state import Change, Entry, State
from modelstore.store import MANIFEST, Store


@dataclass(frozen=True, slots=True)
class Published:
    """A version that exists now."""

    model: ModelName
    entry: Entry
    id: Digest
    active: bool
    stored: int
    new_blobs: int


class OutdatedPointerError(ConflictError):
    """A pointer no longer means the version that something was built on."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What moves on to a new version, if it still means the one before it (compare and swap).

    Attributes:
        alias: its name; "" is ACTIVE.
        version: what it must mean, "" for nothing.
    """

    alias: str
    version: str

    def check(self, model: ModelName, state: State) -> None:
        """Raise unless it means what it must.

        Raises:
            OutdatedPointerError: it was moved.
        """
        found = state.aliases.get(self.alias, "") if self.alias else state.active
        if found != self.version:
            raise OutdatedPointerError(
                f"{self.alias or 'ACTIVE'} of {model} is {found or 'not set'} by now, "
                f"not {self.version or 'unset'}",
                f"look at: mstore log {model}",
            )


@dataclass(frozen=True, slots=True)
class Publication:
    """A version that is about to exist.

    Attributes:
        model: its line.
        manifest, id: its content, which is staged and durable.
        staged: what staging added, and which blobs must be there.
        parents: the versions it was made from.
        version: its number, or "" for the next.
        in_place: its directory exists and holds its files.
        stale: files in it that an earlier attempt generated, and their digests; see
            `modelstore.ops.leftover`.
        major, activate, message, note, description, author, extra, op: as in `CommitOptions`.
        pointer: what moves on to the version, or None.
    """

    model: ModelName
    manifest: Manifest
    id: Digest
    staged: Staged
    parents: tuple[Resolved, ...]
    version: str
    in_place: bool
    stale: Mapping[str, str]
    major: bool
    activate: bool
    message: str
    note: str
    description: str
    author: str
    extra: Mapping[str, Any]
    op: str
    pointer: Pointer | None = None

    def publish(self, store: Store) -> Published:
        """Make the version exist, or raise and leave all as it was.

        Raises:
            ConflictError: its number is taken, a blob has gone since it was staged, or the pointer
                was moved.
        """
        pointer = self.pointer
        added: list[str] = []
        closure = Closure(store.blobs)
        closure.of(self._blobs())  # what takes long is done before the lock is taken

        def decide(state: State) -> Change:
            if pointer is not None:
                pointer.check(self.model, state)
            debris.clear(debris.half_written(store, self.model))
            version = self._number(store, state)
            self._check_present(store, closure)
            generated = self._place(store, version)
            added.append(str(version))
            moves = self.activate or not state.document["versions"]
            values = {}
            if pointer is not None and pointer.alias:
                values = {"aliases": {**state.aliases, pointer.alias: str(version)}}
            elif pointer is not None:
                moves = True
            return Change(
                op=self.op,
                versions={str(version): self._values(store, version, state.seq + 1, generated)},
                values=values,
                active=str(version) if moves else None,
                why=self.message,
            )

        state = store.change(self.model, decide)
        store.configure({"last_model": self.model})
        entry = state.entry(added[0])
        if entry is None:
            raise IntegrityError(f"{self.model}@{added[0]} is not in the registry it was put in")
        return Published(
            self.model,
            entry,
            self.id,
            state.active == added[0],
            self.staged.stored,
            self.staged.new,
        )

    def _number(self, store: Store, state: State) -> Version:
        registered = [parse_version(text) for text in state.document["versions"]]
        if not self.version:
            taken = [*registered, *state.removed(), *_unregistered(store, self.model, state)]
            own = [parent.entry.version for parent in self.parents if parent.model == self.model]
            return next_version(taken, after=own[0] if own else None, major=self.major)
        version = parse_version(self.version)
        if version in state.removed():
            raise ConflictError(
                f"{self.model}@{version} was removed, and its number is not given again",
                f"bring it back with: mstore undelete {self.model}@{version}",
            )
        entry = state.entry(str(version))
        if entry is not None and entry.id is not None:
            raise ConflictError(
                f"{self.model}@{entry.version} exists already",
                "leave out --version to take the next number",
            )
        if not self.in_place and version in _unregistered(store, self.model, state):
            raise ConflictError(
                f"'{store.version_dir(self.model, version)}' exists and is not registered",
                "take it over with: mstore adopt",
            )
        return version

    def _blobs(self) -> tuple[Digest, ...]:
        return (self.id, *self.staged.needed)

    def _check_present(self, store: Store, closure: Closure) -> None:
        """Look for every blob, and all that it is built on, and take back what a gc took away."""
        closure.refresh()
        absent = closure.absent(closure.of(self._blobs()))
        if not absent:
            return
        trash = store.blobs.trash()
        for digest in self._blobs():
            if not trash.give_back(digest):
                raise ConflictError(
                    f"blob '{digest}', or one that it is built on, was removed while "
                    "the version was committed",
                    "run the command again",
                )
        trash.sync()  # before the record: it names only what is durable

    def _place(self, store: Store, version: Version) -> dict[str, str]:
        """Put the version's directory in place; return the digests of what was generated."""
        target = store.version_dir(self.model, version)
        small = card.small_files(
            store, self.model, str(version), self.manifest, self.parents, self.description
        )
        disk.make_dir(target.parent)
        if self.in_place:
            self._fill(target, small)
        else:
            _clear_leftover(store, target)
            build_aside(target, small)
        names = set(small) - {file.path for file in self.manifest.files} - {MANIFEST}
        generated = {name: digest_of(small[name]) for name in sorted(names)}
        if card.README in self.stale:  # it may have been edited since, so it stays
            generated[card.README] = Digest(self.stale[card.README])
        return dict(generated)

    def _fill(self, target: Path, small: Mapping[str, bytes]) -> None:
        """Write what a directory that holds the files lacks; the manifest first, it tells the rest."""
        for name in card.SMALL:
            if name in self.stale and name != card.README:
                disk.replace(target / name, small[name])
            elif not (target / name).exists():
                disk.create(target / name, small[name])
            disk.sync_dir(target)

    def _values(
        self, store: Store, version: Version, seq: int, generated: Mapping[str, str]
    ) -> dict[str, Any]:
        root = Path(os.path.abspath(store.root)).name  # the root may be spelt with ".."
        weights = list(self.manifest.tensors())
        return {
            **self.extra,
            "created_at": self.manifest.created_at,
            "training_parameters": manifest.from_scalars(self.manifest.parameters),
            "metrics": manifest.from_scalars(self.manifest.metrics),
            "notes": self.note,
            "description": self.description,
            "path": self.extra.get("path") or f"{root}/{self.model}/{version}",  # as old tools do
            "base_model": self.manifest.base_model,
            "id": self.id,
            "seq": seq,
            "parents": list(self.manifest.parents),
            "message": self.message,
            "author": self.author,
            "sizes": {
                "logical": self.manifest.size,
                "stored": self.staged.stored,
                "files": len(self.manifest.files),
                "tensors": len(weights),
                "parameters": without_adapter(self.manifest).parameter_count,
            },
            "generated": dict(generated),
        }


def _unregistered(store: Store, model: ModelName, state: State) -> list[Version]:
    """Return the numbers of version directories that the registry does not know."""
    directory = store.root / model
    if not directory.is_dir():
        return []
    unknown = set(os.listdir(directory)).difference(state.document["versions"])
    return [
        parse_version(name)
        for name in unknown
        if is_version(name)
        and name[0] == "v"
        and state.entry(name) is None
        and not is_leftover(directory / name)
    ]


def is_leftover(directory: Path) -> bool:
    """Tell whether a crash left this version directory between placing and registering it."""
    try:
        if set(os.listdir(directory)) != set(card.SMALL):
            return False
        return manifest.is_manifest(read_file(directory / MANIFEST))
    except OSError:
        return False


def _clear_leftover(store: Store, target: Path) -> None:
    if target.exists() and is_leftover(target):
        store.blobs.trash().put_directory(target, "leftover")


def build_aside(target: Path, small: Mapping[str, bytes]) -> None:
    """Write the directory under another name beside its own, make it durable, and rename it."""
    aside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    disk.make_new_dir(aside)
    try:
        for name, data in small.items():
            disk.create(aside / name, data)
        disk.sync_dir(aside)
        disk.move_new(aside, target)
    except BaseException:
        disk.remove_tree(aside)
        raise
