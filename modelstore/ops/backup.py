"""Backup: a dated, complete state of the whole store at a remote, of which only what is new moves.

All registries are read at one moment, under the store's lock; a pin keeps what they need from gc
until the end. Then frames go that are not there yet, then the small files, and last the document
that makes it a backup. Commits go on meanwhile. What the store has lost is named in the document,
and everything else is saved.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from importlib import metadata

from modelstore import moments
from modelstore.errors import (
    IntegrityError,
    NewerFormatError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from modelstore.hashing import Digest
from modelstore.names import ModelName
from modelstore.ops import pins, transfer
from modelstore.ops.backup_check import counted
from modelstore.ops.backup_document import (
    Backup,
    BackupFile,
    BackupModel,
    Missing,
    encode,
    key_of,
    new_name,
    read_backup,
)
from modelstore.ops.backup_files import SmallFiles, Snapshot, snapshot
from modelstore.ops.backup_frames import RemoteFrames
from modelstore.ops.backup_prune import sweeps_at
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.remotes.base import Remote
from modelstore.remotes.served import takes_backups
from modelstore.state import State
from modelstore.store import Store

_TRIES = 3
"""How often what a prune took away at the same time is sent again."""


class Verify(Enum):
    """What is read back before the backup counts: sizes of what is new, a tenth of it, or all."""

    NEW = "new"
    SAMPLE = "sample"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What a backup would move.

    Attributes:
        versions: how many the store has.
        frames, size: frames that are not there yet, and their bytes; small files not among them.
        missing: what cannot be saved.
    """

    versions: int
    frames: int
    size: int
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made.

    Attributes:
        backup: it.
        frames, size: frames that were sent, those of small files among them, and their bytes.
        read: bytes that were read back.
    """

    backup: Backup
    frames: int
    size: int
    read: int


def plan_backup(store: Store, remote: Remote) -> BackupPlan:
    """Return what a backup would move; nothing is written anywhere."""
    _require_backups(remote)
    needed = _needed(store, snapshot(store).states)
    there = transfer.there(remote)
    waiting = {digest: size for digest, size in needed.sizes.items() if digest not in there}
    missing = needed.missing(digest for digest in needed.lost if digest not in there)
    return BackupPlan(needed.versions, len(waiting), sum(waiting.values()), missing)


def backup(
    store: Store,
    remote: Remote,
    *,
    verify: Verify = Verify.NEW,
    progress: Progress = silent,
) -> BackedUp:
    """Back up the whole store.

    Interrupted, it leaves no backup; what was sent stays there and counts for the next one.

    Returns:
        the backup, which is not complete where the store has lost something.

    Raises:
        RemoteError: the remote refuses or fails.
        IntegrityError: what was sent is not there as it was sent, or a registry cannot be read.
        ConflictError: something is taken away at the remote as fast as it is sent.
    """
    began = datetime.now(timezone.utc)
    _require_backups(remote)
    transfer.claim(remote)
    with pins.pin(store) as pin:
        with store.lock():
            seen = snapshot(store)
            pin.add(seen.ids())
        needed = _needed(store, seen.states)
        sending = _Sending(store, remote, needed, progress)
        files = SmallFiles(store, seen)
        sending.send(files)
        document = _document(began, seen, needed, sending, files.found)
        read = _verify(remote, document, sending, verify, progress)
        _put(remote, document)
        sending.send_again(files)
    return BackedUp(document, sending.frames, sending.size, read)


def _require_backups(remote: Remote) -> None:
    if not takes_backups(remote):
        raise RemoteError(
            f"'{remote.shown}' is a server of mstore, which takes pushes and no backups",
            f"push to it: mstore push {remote.shown}; or back up to a directory, or s3://, gs://, az://",
        )


# --- what is needed


@dataclass(slots=True)
class _Needed:
    """The frames that versions need.

    Attributes:
        sizes: bytes of those that are here, as far as that can be told.
        lost: what is wrong with the others, one sentence each.
        blobs_of: for each version, as a full ref, the blobs that it names.
        above: for each blob, those that are built on it.
        logical: bytes of all versions' files.
    """

    sizes: dict[Digest, int]
    lost: dict[Digest, str]
    blobs_of: dict[str, set[Digest]]
    above: dict[Digest, set[Digest]]
    logical: int = 0

    @property
    def versions(self) -> int:
        return len(self.blobs_of)

    def missing(self, lost: Iterable[Digest]) -> tuple[Missing, ...]:
        """Return ``lost`` with the versions that need them."""
        return tuple(
            Missing(digest, self.lost[digest], tuple(self._touched(digest)))
            for digest in sorted(lost)
        )

    def _touched(self, lost: Digest) -> list[str]:
        found: set[Digest] = set()
        waiting = {lost}
        while waiting:
            found |= waiting
            waiting = {child for digest in waiting for child in self.above[digest]} - found
        return [ref for ref, blobs in self.blobs_of.items() if not found.isdisjoint(blobs)]


def _needed(store: Store, states: Mapping[ModelName, State]) -> _Needed:
    """Return what the versions of ``states`` need, here or lost; damage is noted, never raised."""
    needed = _Needed({}, {}, {}, defaultdict(set))
    for model, state in states.items():
        for entry in state.entries():
            if entry.id is None:
                continue
            resolved = Resolved(model, entry)
            needed.blobs_of[str(resolved)] = {entry.id}
            try:
                manifest = store.manifest(model, entry)
            except (IntegrityError, NotFoundError, NewerFormatError) as error:
                needed.lost.setdefault(entry.id, error.message)
                continue
            needed.logical += manifest.size
            needed.blobs_of[str(resolved)] |= manifest.blobs()
    _follow(store, needed)
    return needed


def _follow(store: Store, needed: _Needed) -> None:
    """Note the size of every frame, and what it is built on."""
    seen: set[Digest] = set(needed.lost)
    waiting = set().union(*needed.blobs_of.values()) - seen
    while waiting:
        digest = waiting.pop()
        seen.add(digest)
        try:
            header = store.blobs.header(digest)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            needed.lost[digest] = error.message
            continue
        needed.sizes[digest] = header.stored_size
        for base in header.built_on:
            needed.above[base].add(digest)
            if base not in seen:
                waiting.add(base)


# --- sending


class _Sending:
    """Sends frames, and what of them a prune takes away meanwhile, again.

    Attributes:
        frames, size: what was sent.
        new: the frames that were sent.
        there: what is at the remote.
    """

    def __init__(self, store: Store, remote: Remote, needed: _Needed, progress: Progress) -> None:
        self._store = store
        self._remote = remote
        self._needed = needed
        self._progress = progress
        self._swept = bool(sweeps_at(remote))  # before the listing, so that none is overlooked
        self.there = transfer.there(remote)
        self.frames = 0
        self.size = 0
        self.new: set[Digest] = set()

    def send(self, files: SmallFiles) -> None:
        """Send everything that is not there, and look whether it is."""
        for _ in range(_TRIES):
            before = self.frames
            self._send_frames()
            self._count(files.send(self._remote, self.there))
            if self.frames == before:
                return
            self.there = transfer.there(self._remote)
            if not self._absent(files):
                return
        raise RemoteError(
            f"'{self._remote.shown}' does not keep what is sent there",
            "somebody may be pruning it just now: run the command again",
        )

    def send_again(self, files: SmallFiles) -> None:
        """Send what a prune took away that did not know of the backup yet, if one may have."""
        if self._swept:
            self.there = transfer.there(self._remote)
            if self._absent(files):
                self.send(files)

    def all_blobs(self) -> set[Digest]:
        """Return what versions name, as far as it is at the remote."""
        named = set().union(*self._needed.blobs_of.values())
        return named & self.there.keys()

    def lost(self) -> list[Digest]:
        """Return what neither the store has nor the remote."""
        return [digest for digest in self._needed.lost if digest not in self.there]

    def _send_frames(self) -> None:
        waiting = [d for d in self._needed.sizes if d not in self.there]
        if not waiting:
            return
        sent = transfer.send(self._store, self._remote, waiting, self.there, self._progress)
        self._needed.lost |= sent.damaged
        for digest in sent.damaged:
            self._needed.sizes.pop(digest, None)
        self.new |= set(waiting) - sent.damaged.keys()
        self.frames += sent.frames
        self.size += sent.bytes

    def _count(self, sent: Mapping[Digest, int]) -> None:
        self.new |= sent.keys()
        self.frames += len(sent)
        self.size += sum(sent.values())

    def _absent(self, files: SmallFiles) -> set[Digest]:
        return {*self._needed.sizes, *files.blobs()} - self.there.keys()


def _document(
    began: datetime,
    seen: Snapshot,
    needed: _Needed,
    sending: _Sending,
    files: Iterable[BackupFile],
) -> Backup:
    models = {
        model: BackupModel(
            state.seq,
            state.head,
            {str(entry.version): entry.id for entry in state.entries() if entry.id is not None},
        )
        for model, state in seen.states.items()
    }
    return Backup(
        name=new_name(began),
        created_at=moments.rfc3339(began),
        host=platform.node(),
        mstore=_release(),
        models=models,
        files=tuple(files),
        missing=needed.missing(sending.lost()),
        sizes={
            "logical": needed.logical,
            "stored": sum(needed.sizes.values()),
            "frames": sending.frames,
            "sent": sending.size,
        },
    )


def _verify(
    remote: Remote, document: Backup, sending: _Sending, verify: Verify, progress: Progress
) -> int:
    """Read back what ``verify`` says; return the bytes.

    Raises:
        IntegrityError: something is not what was sent.
    """
    if verify is Verify.NEW or (verify is Verify.SAMPLE and not sending.new):
        return 0
    frames = RemoteFrames(remote)
    new = sorted(sending.new)
    wanted = set(new[:: max(1, len(new) // 10)])
    if verify is Verify.ALL:
        wanted = frames.closure(sending.all_blobs() | document.small_blobs().keys())
    total = sum(frames.listed[digest].size for digest in wanted if digest in frames)
    read = frames.check(wanted, counted(progress, "verify", total))
    if frames.wrong:
        digest, what = next(iter(frames.wrong.items()))
        raise IntegrityError(
            f"'{remote.shown}' does not hold what was sent: {what}",
            f"remove 'blobs/{digest[:2]}/{digest}' there, and run the command again",
        )
    return read


def _put(remote: Remote, document: Backup) -> None:
    """Make the backup exist."""
    data = encode(document)
    if remote.put_if_absent(key_of(document.name), data):
        return
    try:
        there = read_backup(remote, document.name)
    except StoreError as error:
        raise RemoteError(f"'{remote.shown}' did not take the backup: {error.message}") from error
    if encode(there) != data:  # else the reply to our own call was lost
        raise RemoteError(
            f"'{remote.shown}' has another backup named {document.name}", "run the command again"
        )


def incomplete(backup: Backup) -> str:
    """Return what to say of a backup that is not complete; "" of one that is."""
    lost = backup.missing
    if not lost:
        return ""
    refs = list(dict.fromkeys(ref for one in lost for ref in one.versions))
    named = ", ".join(refs[:3]) + (f" and {len(refs) - 3} more" if len(refs) > 3 else "")
    blobs = "a blob is" if len(lost) == 1 else f"{len(lost)} blobs are"
    verb = "is" if len(refs) == 1 else "are"
    return (
        f"{blobs} damaged or lost in the store and not in the backup, so {named} {verb} "
        "not whole there"
    )


def _release() -> str:
    """Return this release of mstore, "" where it runs without having been installed."""
    try:
        return metadata.version("mstore")
    except metadata.PackageNotFoundError:
        return ""
