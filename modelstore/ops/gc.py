"""Gc: what no version needs leaves the store, first for the trash, and later for good.

All is marked that any version needs; then, under the store's lock, the versions are looked at
anew, so that whatever was published meanwhile counts, and only what is still needed by none is
renamed into the trash. The next gc that runs 14 days later removes it for good. Until then an
undelete, or a commit that needs it after all, takes it back.

There is no limit to how much may go at once: a store that lost a registry looks as if nobody
needed its blobs, but until the purge nothing is lost, and `modelstore.ops.live` refuses to mark
what is not whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from modelstore import disk
from modelstore.blobs import remove_abandoned
from modelstore.blobs.closure import stamp_of
from modelstore.blobs.trash import KEPT, Trashed
from modelstore.errors import ConflictError, DiskFullError, NotFoundError
from modelstore.hashing import Digest
from modelstore.locks import gc_lock, locked
from modelstore.names import ModelName
from modelstore.ops import debris, in_use, pins, rm
from modelstore.ops.live import Live, roots
from modelstore.ops.resolve import Resolved
from modelstore.ops.retention import Policy, reasons
from modelstore.store import Store

EVERYTHING = Policy()
"""The policy that keeps every version."""

_AT_ONCE = 1000
"""Frames that are moved while the store's lock is held: some 10 ms."""

_ATTEMPTS = 5
"""How often a policy is asked anew because somebody changed a model in the same moment."""

_DIRECTORY = re.compile(r"[0-9a-f]{2}\Z")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of a version: why it stays; if there is no reason, it goes."""

    resolved: Resolved
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What a gc would do.

    Attributes:
        policy: what it follows.
        verdicts: on every version that the policy looked at; () without one.
        frames: those that would go to the trash, by size in bytes.
        purged: what would be removed from the trash for good, by size in bytes.
        debris: what killed processes left half written.
        unknown: files among the frames and in the trash that are not mstore's; they stay.
        purge_now: whether all of the trash goes, and what goes there.
        live: what was read to find that out.
    """

    policy: Policy
    verdicts: tuple[Verdict, ...]
    frames: dict[Digest, int]
    purged: dict[Path, int]
    debris: tuple[Path, ...]
    unknown: tuple[Path, ...]
    purge_now: bool
    live: Live = field(repr=False)

    @property
    def dropped(self) -> list[Resolved]:
        """The versions that the policy would remove."""
        return [verdict.resolved for verdict in self.verdicts if not verdict.reasons]


@dataclass(slots=True)
class Collected:
    """What a gc did.

    Attributes:
        versions: those that the policy removed.
        frames, size: how many frames went to the trash, and their bytes.
        purged, freed: how much was removed from the trash for good, and the bytes that are free now.
        debris: how many leftovers of killed processes were removed.
        waiting: bytes that lie in the trash now.
    """

    versions: tuple[Resolved, ...] = ()
    frames: int = 0
    size: int = 0
    purged: int = 0
    freed: int = 0
    debris: int = 0
    waiting: int = 0


def plan_gc(
    store: Store,
    policy: Policy = EVERYTHING,
    *,
    model: ModelName | None = None,
    purge_now: bool = False,
) -> GcPlan:
    """Return what a gc would do; changes nothing and takes no lock.

    Args:
        policy: which versions stay.
        model: the policy is for this model only.
        purge_now: remove for good what is in the trash, however new, and what would go there.

    Raises:
        IntegrityError: something cannot be read or is missing, so that nobody can tell what is
            needed; nothing may be deleted.
        StoreError: a directory cannot be read; the same.
    """
    live = Live(store)
    needed = live.blobs()
    verdicts = tuple(_verdicts(store, policy, model)) if policy else ()
    dropped = [verdict.resolved for verdict in verdicts if not verdict.reasons]
    if dropped:
        needed = live.blobs_without(dropped)
    frames, unknown = _frames(store)
    content = store.blobs.trash().content()
    return GcPlan(
        policy=policy,
        verdicts=verdicts,
        frames={digest: size for digest, size in frames.items() if digest not in needed},
        purged={item.path: item.size() for item in content if _is_due(item, purge_now=purge_now)},
        debris=tuple(debris.debris(store)),
        unknown=(*unknown, *store.blobs.trash().unknown()),
        purge_now=purge_now,
        live=live,
    )


def gc(store: Store, plan: GcPlan) -> Collected:
    """Do what ``plan`` says, as far as it still holds.

    Needs no free space unless the policy removes versions, which is a change of their registries;
    the trash is purged, and other frames go, before that.

    Raises:
        IntegrityError, StoreError: as for `plan_gc`; nothing was deleted.
        LockTimeoutError: another gc, or a repack, is running.
        ConflictError, NotFoundError: others change a model again and again while versions of it are
            to be removed.
        DiskFullError: not even a rename found room; purging at once needs none.
    """
    roots(store)  # first: what is completed next must not look like a store without versions
    store.prepare()
    done = Collected()
    with locked(gc_lock(store.meta), timeout=store.lock_timeout):
        _mend(store, plan.live)
        _purge(store, done, purge_now=plan.purge_now)
        _clear(store, done)
        _sweep(store, plan, done)
        if plan.dropped:
            done.versions = _drop(store, plan)
            _sweep(store, plan, done)
        _bring_up(store)
        done.waiting = sum(item.size() for item in store.blobs.trash().content())
    return done


# --- versions


def _verdicts(store: Store, policy: Policy, only: ModelName | None) -> Iterator[Verdict]:
    trained = in_use.training(store)
    for model in [only] if only is not None else store.models():
        state = store.state(model)
        for version, why in reasons(policy, state).items():
            entry = state.entry(version)
            if entry is None:
                continue
            resolved = Resolved(model, entry)
            found = (*in_use.protections(model, state, version, trained), *why)
            if not found and in_use.local_changes(store, resolved) is not None:
                found = ("local changes",)
            yield Verdict(resolved, found)


def _drop(store: Store, plan: GcPlan) -> tuple[Resolved, ...]:
    """Remove the versions of the plan that the policy still does not keep."""
    models = sorted({one.model for one in plan.dropped})
    return tuple(one for model in models for one in _drop_of(store, plan, model, _ATTEMPTS))


def _drop_of(store: Store, plan: GcPlan, model: ModelName, attempts: int) -> Sequence[Resolved]:
    """Remove those of one model; where somebody else changes it meanwhile, look anew."""
    verdicts = _verdicts(store, plan.policy, model)
    still = {str(verdict.resolved) for verdict in verdicts if not verdict.reasons}
    chosen = tuple(one for one in plan.dropped if one.model == model and str(one) in still)
    if not chosen:
        return ()
    try:
        return rm.rm(store, rm.RmPlan(chosen, ()), why="gc").versions
    except (ConflictError, NotFoundError):
        if attempts == 1:
            raise
    return _drop_of(store, plan, model, attempts - 1)


# --- frames


def _frames(store: Store) -> tuple[dict[Digest, int], list[Path]]:
    """Return the bytes of every frame, and what lies among them and is none."""
    sizes: dict[Digest, int] = {}
    unknown: list[Path] = []
    blobs = store.meta / "blobs"
    with disk.explained(blobs, "read"):
        for directory in sorted(blobs.iterdir()):
            if not (_DIRECTORY.match(directory.name) and directory.is_dir()):
                unknown.append(directory)
                continue
            for path in sorted(directory.iterdir()):
                stamp = stamp_of(path)
                if not store.blobs.is_name(path):
                    unknown.append(path)
                elif stamp is not None:  # else it went just now
                    sizes[Digest(path.name)] = stamp[-1]
    return sizes, unknown


def _mend(store: Store, live: Live) -> None:
    """Take back from the trash what a version needs after all; raise if something is missing."""
    with store.lock():
        live.blobs(store.blobs.trash())


def _bring_up(store: Store) -> None:
    """Let every view say what its records do; the disk may be too full for that even now."""
    with suppress(DiskFullError):
        for model in store.models():
            store.bring_up(model)


def _sweep(store: Store, plan: GcPlan, done: Collected) -> None:
    """Move every frame that no version needs to the trash, and on from there if that is asked."""
    needed = plan.live.blobs()
    waiting = sorted(set(store.blobs.iter_digests()) - needed)
    for start in range(0, len(waiting), _AT_ONCE):
        with store.lock():
            _take(store, plan, waiting[start : start + _AT_ONCE], done)
        if plan.purge_now:
            _purge(store, done, purge_now=True)


def _take(store: Store, plan: GcPlan, candidates: Sequence[Digest], done: Collected) -> None:
    """Move those of ``candidates`` that are needed by no version that there is at this moment."""
    trash = store.blobs.trash()
    needed = plan.live.blobs(trash)
    for digest in candidates:
        path = store.blobs.path(digest)
        stamp = stamp_of(path)
        if digest in needed or stamp is None:
            continue
        done.size += stamp[-1]
        done.frames += 1
        try:
            trash.put(digest)
        except DiskFullError:  # a directory has no room for another name
            if not plan.purge_now:
                raise
            disk.remove(path)
            done.freed += stamp[-1]
    trash.sync()


# --- the rest


def _is_due(item: Trashed, *, purge_now: bool) -> bool:
    return purge_now or item.age >= KEPT


def _purge(store: Store, done: Collected, *, purge_now: bool) -> None:
    trash = store.blobs.trash()
    due = [item for item in trash.content() if _is_due(item, purge_now=purge_now)]
    for item in due:
        done.freed += trash.purge(item)
        done.purged += 1
    if due:
        disk.sync_dir(trash.directory)


def _clear(store: Store, done: Collected) -> None:
    """Remove what killed processes left, and finish removals that they began."""
    done.debris += remove_abandoned(store.meta) + pins.clear(store)
    with store.lock():
        done.debris += debris.clear(debris.debris(store))
    for model in store.models():
        rm.put_away(store, rm.left_behind(store, model))
