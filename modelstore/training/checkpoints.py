"""Checkpoints of a run: the trainer's, taken into the store, so that each is whole or absent.

Its files become blobs like those of a version; a manifest names them, and a note in the run's
directory, written last, names the manifest. What gc may take is decided by those notes, as
`modelstore.ops.live` reads them. Frames that only a checkpoint brought are removed when it is let
go: a training that saves itself every ten minutes would fill any disk before the next gc.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from modelstore import disk, manifest
from modelstore.blobs.closure import Closure
from modelstore.canonical import canonical
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest
from modelstore.locks import gc_lock, locked
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops.bases import Bases
from modelstore.ops.in_use import Checkpoint, checkpoints
from modelstore.ops.live import Live
from modelstore.ops.place import CHECKPOINTS
from modelstore.ops.resolve import Resolved
from modelstore.ops.scan import scan
from modelstore.ops.stage import stage
from modelstore.ops.tree import Found, seen_of
from modelstore.ops.writing import write_file
from modelstore.progress import silent
from modelstore.store import Store, now

KEPT = 2
"""Checkpoints of a run that are kept: the newest, and one more for when that is damaged."""

_LEFT_OUT = frozenset({"training_args.bin", "README.md"})
"""A pickle that nothing of ours reads, and a form with nothing filled in."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: the run's directory.
        model: the line that is trained.
        version: what it started from, or None.
    """

    def __init__(
        self, store: Store, run: Path, model: ModelName, version: Resolved | None = None
    ) -> None:
        self._store = store
        self._run = run
        self._model = model
        self._parents = [version] if version is not None else []

    @cached_property
    def _live(self) -> Live:
        return Live(self._store)

    def all(self) -> list[Checkpoint]:
        """Return them by step; all are whole."""
        return checkpoints(self._run)

    def save(self, directory: Path, number: int, cpu: float) -> Checkpoint:
        """Take over the trainer's checkpoint in ``directory``; the oldest go, that one too.

        Args:
            number: optimizer steps done.
            cpu: seconds of computing so far.

        Raises:
            DiskFullError: no room; the checkpoints before are as they were, but for the oldest.
            ConflictError: a blob was removed while it was stored.
        """
        before = [one for one in self.all() if one.step != number]
        earlier = {blob for one in before for blob in one.own}
        self.let_go(before[: len(before) - KEPT + 1])
        scanned = scan(_files(directory), silent)
        files = tuple(item.entry for item in scanned)
        draft = Manifest(files, message=f"checkpoint of step {number}", created_at=now())
        own = {blob for blob in draft.blobs() if blob not in self._store.blobs}
        # what others are built on stays longer than the checkpoint that brought it
        own |= {blob for blob in earlier if blob in self._store.blobs}
        nearest = list(self._manifests(before[-1:]))
        bases = Bases(self._store, self._model, self._parents, nearest=nearest)
        with self._store.blobs.transaction() as transaction:
            staged = stage(transaction, scanned, bases, silent)
            digest = transaction.add_bytes(manifest.encode(draft))
            transaction.publish()
        path = self._run / CHECKPOINTS / f"{number}.json"
        made = Checkpoint(path, number, digest, cpu, frozenset({digest, *own}))
        self._note(made, {digest, *staged.needed})
        disk.remove_tree(directory)
        return made

    def _note(self, made: Checkpoint, blobs: set[Digest]) -> None:
        """Let the checkpoint exist, unless a gc took its blobs away for good."""
        closure = Closure(self._store.blobs)
        closure.of(blobs)  # what takes long is done before the lock is taken
        disk.make_dir(made.path.parent)
        value = {
            "manifest": made.manifest,
            "step": made.step,
            "cpu": f"{made.cpu:.3f}",
            "own": sorted(made.own),
        }
        with self._store.lock():
            closure.refresh()
            trash = self._store.blobs.trash()
            for digest in sorted(closure.absent(closure.of(blobs))):
                if not trash.give_back(digest):
                    raise ConflictError(
                        f"blob '{digest}' was removed while a checkpoint was stored",
                        "go on with the training: mstore train --resume",
                    )
            trash.sync()
            disk.replace(made.path, canonical(value) + b"\n")

    def restore(self, target: Path) -> Checkpoint | None:
        """Write the newest checkpoint that can be read into a new directory below ``target``.

        Returns:
            it; its files are in ``target / "checkpoint-<step>"``. None where there is none.

        Raises:
            IntegrityError: there are some, and each is damaged.
        """
        damage: StoreError | None = None
        for one in reversed(self.all()):
            place = target / f"checkpoint-{one.step}"
            try:
                self._write(one, place)
            except (IntegrityError, NotFoundError) as error:
                damage = damage or error
                disk.remove_tree(place)
                continue
            return one
        if damage is not None:
            raise IntegrityError(
                f"no checkpoint of the run can be read: {damage.message}",
                f"give it up: mstore train --discard {self._run.name}",
            ) from damage
        return None

    def _write(self, one: Checkpoint, place: Path) -> None:
        disk.make_dir(place)
        for file in self._manifest(one).files:
            disk.make_dir((place / file.path).parent)
            write_file(self._store, file, place / file.path)

    def let_go(self, some: Iterable[Checkpoint]) -> None:
        """Forget ``some``, and free what they took as far as nothing else needs it."""
        gone = list(some)
        if not gone:
            return
        for one in gone:
            disk.remove(one.path)
        with suppress(StoreError):  # gc does it later
            self._free({blob for one in gone for blob in one.own})

    def _free(self, blobs: set[Digest]) -> None:
        """Remove for good what nothing needs: no version ever had it, so none is undeleted."""
        self._live.blobs()  # what takes long is done before the lock is taken
        with (
            locked(gc_lock(self._store.meta), timeout=0),  # a repack may build on them
            self._store.lock(),
        ):
            for digest in blobs - self._live.blobs():
                disk.remove(self._store.blobs.path(digest))

    def _manifest(self, one: Checkpoint) -> Manifest:
        data = self._store.blobs.read(one.manifest)
        return manifest.decode(data, f"the manifest of checkpoint {one.step}")

    def _manifests(self, some: Iterable[Checkpoint]) -> Iterator[Manifest]:
        for one in some:
            with suppress(StoreError):
                yield self._manifest(one)


def _files(directory: Path) -> list[Found]:
    """Return the files of the trainer's checkpoint, sorted by path."""
    found = []
    with disk.explained(directory, "read"):
        for parent, _, names in os.walk(directory):
            for name in names:
                path = Path(parent, name)
                status = path.stat()
                below = path.relative_to(directory).as_posix()
                if below not in _LEFT_OUT:
                    found.append(Found(below, path, status.st_size, False, seen_of(status)))
    return sorted(found, key=lambda file: file.path)
