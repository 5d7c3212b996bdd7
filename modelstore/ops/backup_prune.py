"""Prune: backups that a policy does not keep go, and later the frames that nothing needs any more.

Frames go in two runs. The first marks those that no registry and no backup at the remote needs; a
later one, a day after by the remote's own clock, looks at everything again and removes what is
still marked and still not needed. So whoever was sending when the first run looked has long said
what they need. Where anything cannot be read, nothing is removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from modelstore import moments
from modelstore.canonical import canonical, parse_mapping
from modelstore.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RemoteError,
    StoreError,
    UsageError,
)
from modelstore.hashing import Digest, parse_digest
from modelstore.ops.backup_document import Backup, key_of, names_at, read_all
from modelstore.ops.backup_frames import RemoteFrames
from modelstore.ops.backup_retention import BackupPolicy, Dated, reasons
from modelstore.ops.elsewhere import key_of as frame_key
from modelstore.remotes.base import Found, Remote
from modelstore.view import open_view

SCHEMA = "mstore/sweep/1"
PREFIX = "sweeps"
MODELS = "models"

PATIENCE = timedelta(hours=24)
"""How long a frame stays after it was marked; longer than any push or backup takes."""

_AT_ONCE = 1000
_REGISTRY = "registry.json"


@dataclass(frozen=True, slots=True)
class BackupVerdict:
    """What a policy says of a backup: why it stays; if there is no reason, it goes."""

    backup: Backup
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What an earlier run marked.

    Attributes:
        key: of its document.
        modified: when it was put, by the remote's clock.
        frames: those that it marked.
    """

    key: str
    modified: datetime | None
    frames: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune would do.

    Attributes:
        verdicts: on every backup, oldest first.
        unneeded: frames that nothing would need without the backups that go, and their bytes.
        sweeps: what earlier runs marked.
        registries: the registries at the remote, by key, as they were read.
    """

    verdicts: tuple[BackupVerdict, ...]
    unneeded: Mapping[Digest, int]
    sweeps: tuple[Sweep, ...]
    registries: Mapping[str, bytes] = field(repr=False)

    @property
    def dropped(self) -> list[Backup]:
        """The backups that go."""
        return [one.backup for one in self.verdicts if not one.reasons]

    @property
    def marked(self) -> set[Digest]:
        """The frames that are not needed, as all earlier runs have found since one marked them."""
        newest = max(self.sweeps, key=lambda sweep: sweep.key, default=None)
        return set() if newest is None else self.unneeded.keys() & newest.frames


@dataclass(slots=True)
class Pruned:
    """What a prune did.

    Attributes:
        backups: names of those that were removed.
        frames, freed: how many frames were removed, and their bytes.
        waiting, size: how many are marked, for a later run to remove, and their bytes.
    """

    backups: tuple[str, ...] = ()
    frames: int = 0
    freed: int = 0
    waiting: int = 0
    size: int = 0


def plan_prune(
    remote: Remote, policy: BackupPolicy | None, now: datetime | None = None
) -> PrunePlan:
    """Return what a prune would do; nothing is written.

    Args:
        policy: which backups stay; None for all.
        now: the time; None for now.

    Raises:
        UsageError: the policy has no rule.
        IntegrityError: something cannot be read, so that nobody can tell what is needed.
    """
    if policy is not None and not policy:
        raise UsageError(
            "no rule says which backups stay", "say for example: --keep-daily 7 --keep-weekly 4"
        )
    backups = read_all(remote)
    kept = _reasons(policy, backups, now or datetime.now(timezone.utc))
    registries = registries_at(remote)
    sweeps = tuple(sweeps_at(remote))
    frames = RemoteFrames(remote)
    stay = [one for one in backups if kept[one.name]]
    needed = _needed(frames, stay, registries)
    sizes = {digest: one.size for digest, one in frames.listed.items() if digest not in needed}
    return PrunePlan(
        tuple(BackupVerdict(one, kept[one.name]) for one in backups), sizes, sweeps, registries
    )


def prune(remote: Remote, plan: PrunePlan, patience: timedelta = PATIENCE) -> Pruned:
    """Do what ``plan`` says, as far as it still holds.

    Args:
        remote: where.
        plan: what `plan_prune` returned.
        patience: how long a frame stays after it was marked.

    Raises:
        RemoteError: the remote refuses deletes, as one that only takes what is new does.
        IntegrityError: as for `plan_prune`; no frame was removed.
        ConflictError: somebody pushed or backed up meanwhile; no frame was removed.
    """
    done = Pruned()
    dropped = [one.name for one in plan.dropped]
    _delete(remote, [key_of(name) for name in dropped])
    done.backups = tuple(dropped)
    _Sweeping(remote, done, patience).run()
    return done


def _reasons(
    policy: BackupPolicy | None, backups: list[Backup], now: datetime
) -> Mapping[str, tuple[str, ...]]:
    if policy is None:
        return {one.name: ("no policy",) for one in backups}
    return reasons(policy, [Dated(b.name, b.moment, b.complete) for b in backups], now)


# --- what is needed


def registries_at(remote: Remote) -> dict[str, bytes]:
    """Return the bytes of every registry at a remote, by key; they are those that count."""
    keys = [f.key for f in remote.list(MODELS) if f.key.endswith(f"/{_REGISTRY}")]
    return {key: remote.get(key, limit=512 << 20) for key in sorted(keys)}


def _needed(
    frames: RemoteFrames, backups: Iterable[Backup], registries: Mapping[str, bytes]
) -> set[Digest]:
    """Return every frame that a registry or a backup at the remote needs, or that any other but
    these is built on.

    Raises:
        IntegrityError: something that tells it cannot be read.
    """
    known_lost = {one.blob for backup in backups for one in backup.missing}
    manifests = {digest for one in backups for _, digest in one.manifests()}
    manifests |= {digest for key, data in registries.items() for digest in _ids(key, data)}
    needed = {digest for one in backups for digest in one.small_blobs()}
    for digest in sorted(manifests):
        needed |= {digest, *_blobs(frames, digest, known_lost)}
    needed = frames.closure(needed)
    if frames.wrong:
        digest, what = next(iter(frames.wrong.items()))
        raise _unreadable(frame_key(digest), what)
    return needed


def _ids(key: str, data: bytes) -> Iterator[Digest]:
    try:
        document = open_view(data, key)
    except StoreError as error:
        raise _unreadable(key, error.message) from error
    if document is None:
        raise _unreadable(key, "it is not as it was written")
    for values in document["versions"].values():
        if values.get("id"):
            yield parse_digest(values["id"])


def _blobs(frames: RemoteFrames, digest: Digest, known_lost: set[Digest]) -> set[Digest]:
    try:
        return frames.manifest(digest).blobs()
    except NotFoundError as error:
        if digest in known_lost:
            return set()
        raise _unreadable(f"manifest {digest}", error.message) from error
    except StoreError as error:
        if isinstance(error, RemoteError):
            raise
        raise _unreadable(f"manifest {digest}", error.message) from error


def _unreadable(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"'{what}' cannot be read ({why}); no frame was removed", "run: mstore backup check DEST"
    )


# --- marks


def sweeps_at(remote: Remote) -> list[Sweep]:
    """Return what earlier runs marked.

    Raises:
        IntegrityError: a mark cannot be read.
    """
    return [_sweep(remote, found) for found in remote.list(PREFIX)]


def _sweep(remote: Remote, found: Found) -> Sweep:
    try:
        value = parse_mapping(remote.get(found.key), found.key)
        if value["schema"] != SCHEMA:
            raise ValueError(f"it has schema {value['schema']!r}")
        return Sweep(found.key, found.modified, frozenset(map(parse_digest, value["frames"])))
    except NotFoundError:
        return Sweep(found.key, found.modified, frozenset())
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(found.key, str(error)[:100]) from error


class _Sweeping:
    """Marks what is not needed, and removes what was marked long ago."""

    def __init__(self, remote: Remote, done: Pruned, patience: timedelta) -> None:
        self._patience = patience
        self._remote = remote
        self._done = done

    def run(self) -> None:
        """Look at everything again, remove what is due, and mark the rest."""
        plan = plan_prune(self._remote, None)
        if not plan.unneeded:
            _delete(self._remote, [sweep.key for sweep in plan.sweeps])
            return
        now = self._mark(plan)
        frames = RemoteFrames(self._remote)
        due = self._due(plan, frames, now)
        self._require_unchanged(plan)
        self._remove(due, frames)
        old = (one.key for one in plan.sweeps if now - _told(self._remote, one) >= self._patience)
        _delete(self._remote, old)
        waiting = plan.unneeded.keys() - set(due)
        self._done.waiting = len(waiting)
        self._done.size = sum(plan.unneeded[digest] for digest in waiting)

    def _mark(self, plan: PrunePlan) -> datetime:
        """Mark everything that is not needed; return the time by the remote's clock."""
        stamp = moments.stamp(moments.now())
        key = f"{PREFIX}/{stamp}-{os.urandom(4).hex()}.json"
        marks = canonical({"schema": SCHEMA, "frames": sorted(plan.unneeded)})
        self._remote.put(key, marks)
        found = self._remote.head(key)
        if found is None or found.modified is None:
            raise RemoteError(
                f"'{self._remote.shown}' does not tell what time it is; no frame was removed",
                "frames stay there, and do no harm",
            )
        return found.modified

    def _due(self, plan: PrunePlan, frames: RemoteFrames, now: datetime) -> list[Digest]:
        """Return the frames that go, each before what it is built on.

        A frame that was put after it was marked stays, and what any frame that stays is built on.
        """
        since = _marked_since(self._remote, plan)
        due = {
            digest
            for digest, at in since.items()
            if now - at >= self._patience and _was_there(frames, digest, at)
        }
        frames.look_at(due)
        due -= frames.closure(frames.listed.keys() - due)
        if frames.wrong:
            digest, what = next(iter(frames.wrong.items()))
            raise _unreadable(frame_key(digest), what)
        return sorted(due, key=lambda digest: (-frames.depth(digest), digest))

    def _require_unchanged(self, plan: PrunePlan) -> None:
        names = [one.backup.name for one in plan.verdicts]
        if names_at(self._remote) != names or registries_at(self._remote) != plan.registries:
            raise ConflictError(
                f"somebody wrote to '{self._remote.shown}' meanwhile; no frame was removed",
                "run the command again",
            )

    def _remove(self, due: list[Digest], frames: RemoteFrames) -> None:
        for start in range(0, len(due), _AT_ONCE):
            batch = due[start : start + _AT_ONCE]
            for depth in sorted({frames.depth(digest) for digest in batch}, reverse=True):
                level = [digest for digest in batch if frames.depth(digest) == depth]
                _delete(self._remote, map(frame_key, level))
            self._done.frames += len(batch)
            self._done.freed += sum(frames.listed[digest].size for digest in batch)


def _marked_since(remote: Remote, plan: PrunePlan) -> dict[Digest, datetime]:
    """Return since when each frame was found to be not needed, by every run from then on."""
    since: dict[Digest, datetime] = {}
    left = set(plan.unneeded)
    for sweep in sorted(plan.sweeps, key=lambda one: _told(remote, one), reverse=True):
        left &= sweep.frames
        since.update(dict.fromkeys(left, _told(remote, sweep)))
    return since


def _told(remote: Remote, sweep: Sweep) -> datetime:
    if sweep.modified is None:
        raise RemoteError(f"'{remote.shown}' does not tell when '{sweep.key}' was put")
    return sweep.modified


def _was_there(frames: RemoteFrames, digest: Digest, marked: datetime) -> bool:
    modified = frames.listed[digest].modified
    return modified is not None and modified < marked


def _delete(remote: Remote, keys: Iterable[str]) -> None:
    wanted = list(keys)
    if not wanted:
        return
    try:
        remote.delete(wanted)
    except RemoteError as error:
        raise RemoteError(
            f"'{remote.shown}' refuses to delete: {error.message}",
            "where that is meant (append-only), prune from where deleting is allowed",
        ) from error
