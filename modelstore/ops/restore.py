"""Restore: versions come back from a backup, into a new store or one that has other versions.

It needs nothing but the destination of the backup. Every blob is decoded and compared with its name
before it counts. What the store has is never overwritten: a model that it lacks comes with its
registry as it was; one that it has gets the versions that it lacks, as one further change.
A restore that was interrupted is completed by running it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelstore.blobs.staging import Staging
from modelstore.canonical import MAX_SEALED
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from modelstore.hashing import Digest, digest_of
from modelstore.manifest import Manifest
from modelstore.names import ACTIVE, ModelName, Ref, digest_prefix, is_model, is_version, parse_ref
from modelstore.ops import pins, restore_place, transfer
from modelstore.ops.backup_document import Backup, BackupFile, find
from modelstore.ops.backup_frames import RemoteFrames, read_blob
from modelstore.ops.checkout import checkout_unpacked
from modelstore.ops.resolve import resolve
from modelstore.ops.restore_place import Added, ModelPlan, Saved, place, plan_model
from modelstore.ops.unpacking import Unpacking
from modelstore.progress import Progress, silent
from modelstore.registry import JOURNAL, VIEW
from modelstore.remotes.base import Remote
from modelstore.state import Entry, State
from modelstore.store import Store, create, is_store
from modelstore.view import open_view


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
    states = {model: _state(remote, backup, model) for model in backup.models}
    chosen = _chosen(states, refs)
    lost = {ref for one in backup.missing for ref in one.versions}
    frames = RemoteFrames(remote)
    plans, manifests = [], {}
    for model, entries in chosen.items():
        whole = len(entries) == len(_stored(states[model]))
        entries = [one for one in entries if f"{model}@{one.version}" not in lost]
        journal = _read(remote, backup, f"{model}/{JOURNAL}")
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
            for model, entries in chosen.items()
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
    saved = _Files(remote, plan.backup)
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


# --- what is in the backup


def _state(remote: Remote, backup: Backup, model: ModelName) -> State:
    document = open_view(_read(remote, backup, f"{model}/{VIEW}"), str(model))
    if document is None or document["head"] != backup.models[model].head:
        raise _damaged(backup, f"the registry of {model}")
    return State(document)


def _read(remote: Remote, backup: Backup, path: str) -> bytes:
    """Return a small file of a backup.

    Raises:
        IntegrityError: it is not there, or not whole.
    """
    file = backup.file(path)
    if file is None:
        raise _damaged(backup, f"'{path}'")
    try:
        return _join(remote, file)
    except NotFoundError as error:
        raise _damaged(backup, f"'{path}'") from error


def _join(remote: Remote, file: BackupFile) -> bytes:
    if file.size > MAX_SEALED:
        raise IntegrityError(f"'{file.path}' claims {file.size} bytes")
    data = b"".join(read_blob(remote, digest, size) for digest, size in file.spans)
    if digest_of(data) != file.blake3:
        raise IntegrityError(f"'{file.path}' of the backup is not what it was")
    return data


def _damaged(backup: Backup, what: str) -> IntegrityError:
    return IntegrityError(
        f"{what} of backup {backup.name} cannot be read",
        "choose another backup with --at; run: mstore backup check DEST",
    )


class _Files:
    """The small files of a backup, read when they are wanted."""

    def __init__(self, remote: Remote, backup: Backup) -> None:
        self._remote = remote
        self._backup = backup

    def small(self, below: str) -> dict[str, bytes]:
        """Return the files of the store itself for "", else those below a directory."""
        models = tuple(f"{model}/" for model in self._backup.models)
        wanted = (
            one
            for one in self._backup.files
            if (one.path.startswith(below) if below else not one.path.startswith(models))
        )
        return {one.path: _join(self._remote, one) for one in wanted}

    def of(self, model: ModelName) -> restore_place.ReadFile:
        """Return what reads the file of a name in a version's directory, or None."""

        def read(version: str, name: str) -> bytes | None:
            file = self._backup.file(f"{model}/{version}/{name}")
            return None if file is None else _join(self._remote, file)

        return read


# --- which versions


def _stored(state: State) -> list[Entry]:
    return [entry for entry in state.entries() if entry.id is not None]


def _chosen(states: Mapping[ModelName, State], refs: Sequence[str]) -> dict[ModelName, list[Entry]]:
    """Return the versions that ``refs`` mean, each once, in their order."""
    if not refs:
        return {model: _stored(state) for model, state in states.items()}
    found: dict[ModelName, dict[str, Entry]] = {}
    for text in refs:
        for model, entries in _meant(states, text):
            found.setdefault(model, {}).update({str(one.version): one for one in entries})
    return {
        model: [one for one in _stored(states[model]) if str(one.version) in names]
        for model, names in found.items()
    }


def _meant(states: Mapping[ModelName, State], text: str) -> Iterable[tuple[ModelName, list[Entry]]]:
    if is_model(text) and ModelName(text) in states:
        return [(ModelName(text), _stored(states[ModelName(text)]))]
    ref = parse_ref(text)
    if ref.steps:
        raise UsageError(
            f"{text!r} counts steps, which backups do not", "name the version: MODEL@v1.1"
        )
    models = [ref.model] if ref.model is not None else list(states)
    found = [
        (model, [entry])
        for model in models
        if model in states and (entry := _entry(states[model], ref)) is not None
    ]
    if len(found) == 1:
        return found
    known = ", ".join(states) or "none"
    if not found:
        raise NotFoundError(
            f"the backup has no version {text!r} (its models: {known})",
            "run: mstore backup list DEST",
        )
    raise NotFoundError(
        f"{text!r} may be of {' or '.join(model for model, _ in found)}",
        f"name the model: {found[0][0]}@{ref.base}",
    )


def _entry(state: State, ref: Ref) -> Entry | None:
    stored = _stored(state)
    base = ref.base
    if base in (ACTIVE, "HEAD"):
        base = state.active
    if base == "latest":
        return state.newest_stored()
    if is_version(base) or base in state.aliases:
        found = state.entry(state.aliases.get(base, base))
        return found if found is not None and found.id is not None else None
    prefix = digest_prefix(base)
    fitting = [one for one in stored if prefix and str(one.id).startswith(prefix)]
    return fitting[0] if len(fitting) == 1 else None
