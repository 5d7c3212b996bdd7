"""Restore: versions come back from a backup, into a new store or one that has other versions.

It needs nothing but the destination of the backup. Every blob is decoded and compared with its name
before it counts. What the store has is never overwritten: a model that it lacks comes with its
registry as it was; one that it has gets the versions that it lacks, as one further change.
A restore that was interrupted is completed by running it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs.staging import Staging
from modelstore.errors import ConflictError
from modelstore.hashing import Digest
from modelstore.manifest import Manifest
from modelstore.ops import pins, restore_place, transfer
from modelstore.ops.backup_document import Backup, find
from modelstore.ops.backup_frames import RemoteFrames
from modelstore.ops.checkout import checkout_unpacked
from modelstore.ops.resolve import resolve
from modelstore.ops.restore_place import Added, ModelPlan, Saved, place, plan_model
from modelstore.ops.restore_source import SmallFiles, chosen, read_file, state_of, stored_in
from modelstore.ops.unpacking import Unpacking
from modelstore.progress import Progress, silent
from modelstore.registry import JOURNAL
from modelstore.remotes.base import Remote
from modelstore.store import Store, create, is_store


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do.

    Attributes:
        backup: where from.
        root: the store, which need not exist yet.
        everything: whether all of the backup was asked for, with the small files of the store.
        models: what becomes of each model.
        manifests: of the versions that come or are there.
        size: bytes of frames that come, bases not counted.
        lost: versions that were lost when the backup was made, as full refs.
    """

    backup: Backup
    root: Path
    everything: bool
    models: tuple[ModelPlan, ...]
    manifests: Mapping[Digest, Manifest]
    size: int
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        backup: where from.
        store: where to.
        versions: those that came: what they were called, and what they are called here.
        present: those that were here already, under their names here.
        frames, size: frames that came, and their bytes.
        lost: versions that were lost when the backup was made.
    """

    backup: Backup
    store: Store
    versions: tuple[Added, ...]
    present: tuple[str, ...]
    frames: int
    size: int
    lost: tuple[str, ...]


def plan_restore(
    remote: Remote, root: Path, refs: Sequence[str] = (), *, at: str = "", rebase: bool = False
) -> RestorePlan:
    """Return what a restore would do; nothing is written.

    Args:
        root: a store, an empty directory, or one that does not exist.
        refs: versions, or models for all of theirs; () for everything.
        at: which backup, see `modelstore.ops.backup_document.find`.
        rebase: versions whose number another has here take the next free one.

    Raises:
        NotFoundError: there is no such backup, or no such version in it.
        ConflictError: the directory holds something else, or a model there has another history.
        IntegrityError: the backup cannot be read.
    """
    there = _store_at(root)
    backup = find(remote, at)
    states = {model: state_of(remote, backup, model) for model in backup.models}
    wanted = chosen(states, refs)
    lost = {ref for one in backup.missing for ref in one.versions}
    frames = RemoteFrames(remote)
    plans, manifests = [], {}
    for model, entries in wanted.items():
        whole = len(entries) == len(stored_in(states[model]))
        entries = [one for one in entries if f"{model}@{one.version}" not in lost]
        journal = read_file(remote, backup, f"{model}/{JOURNAL}")
        saved = Saved(model, states[model], journal)
        plans.append(plan_model(there, saved, entries, whole=whole, rebase=rebase))
        manifests.update({one.id: frames.manifest(one.id) for one in entries if one.id})
    return RestorePlan(
        backup=backup,
        root=root,
        everything=not refs,
        models=tuple(plans),
        manifests=manifests,
        size=_size(there, frames, manifests),
        lost=tuple(
            f"{model}@{one.version}"
            for model, entries in wanted.items()
            for one in entries
            if f"{model}@{one.version}" in lost
        ),
    )


def restore(
    remote: Remote, plan: RestorePlan, progress: Progress = silent, *, files: bool = False
) -> Restored:
    """Do what ``plan`` says.

    Args:
        remote: where the backup is.
        plan: what `plan_restore` returned.
        progress: told the bytes that came.
        files: write the files of the versions out, too, into their own directories.

    Raises:
        IntegrityError: a blob is not, or not whole, in the backup; what came before stays.
        ConflictError: somebody changed a model meanwhile, or a file that would be written out.
        DiskFullError: no room.
    """
    store = _store_at(plan.root) or create(plan.root)
    saved = SmallFiles(remote, plan.backup)
    own = saved.small("") if plan.everything else {}
    restore_place.place_files(store, own)
    ids = sorted(plan.manifests)
    sizes = {s.blob: s.size for m in plan.manifests.values() for f in m.files for s in f.spans}
    with pins.pin(store) as pin, _unpacking(store, plan, files=files) as unpacking:
        with store.lock():
            pin.add(ids)
        came = transfer.bring(store, remote, ids)
        came = came.plus(
            transfer.bring(
                store,
                remote,
                sorted(sizes),
                progress,
                expected=transfer.Expected(sizes, total=plan.size),
                took=None if unpacking is None else unpacking.take,
            )
        )
        added: list[Added] = []
        for model in plan.models:
            added += place(store, model, saved.of(model.model))
        restore_place.place_settings(store, own)
        if unpacking is not None:
            _write_out(store, plan, unpacking, progress)
    return Restored(
        backup=plan.backup,
        store=store,
        versions=tuple(added),
        present=tuple(ref for model in plan.models for ref in model.present),
        frames=came.frames,
        size=came.bytes,
        lost=plan.lost,
    )


@contextmanager
def _unpacking(store: Store, plan: RestorePlan, *, files: bool) -> Iterator[Unpacking | None]:
    """Unpack what comes, if ``files``, in a part of the store that is removed in the end."""
    if not files:
        yield None
        return
    store.prepare()
    wanted = (file for manifest in plan.manifests.values() for file in manifest.files)
    with Staging(store.meta, store.lock_timeout) as area:
        unpacking = Unpacking(area.directory, wanted)
        try:
            yield unpacking
        finally:
            unpacking.close()


def _write_out(store: Store, plan: RestorePlan, unpacking: Unpacking, progress: Progress) -> None:
    for model in plan.models:
        added = (f"{model.model}@{number}" for _, number in model.added)
        for ref in (*model.present, *added):
            checkout_unpacked(store, resolve(store, ref), unpacking, progress)


def _store_at(root: Path) -> Store | None:
    """Return the store at ``root``; None where one can be made.

    Raises:
        ConflictError: something else is there.
    """
    if is_store(root):
        return Store(root)
    if os.path.lexists(root) and (not root.is_dir() or any(root.iterdir())):
        raise ConflictError(
            f"'{root}' is no store, and not empty", "restore into a new directory, or a store"
        )
    return None


def _size(there: Store | None, frames: RemoteFrames, manifests: Mapping[Digest, Manifest]) -> int:
    named = set(manifests).union(*(one.blobs() for one in manifests.values()))
    absent = (digest for digest in named if there is None or digest not in there.blobs)
    return sum(frames.listed[digest].size for digest in absent if digest in frames)
