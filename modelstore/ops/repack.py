"""Repack: frames are encoded anew where that makes them smaller; nothing else changes.

Versions that were committed out of order, without a parent, or by an older mstore have frames that
are larger than they need be. Manifests, names and registries stay as they are; only how a blob
lies on the disk changes. Frames that no version needs are left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from modelstore.blobs import FrameHeader, remove_abandoned
from modelstore.blobs.choice import Choice
from modelstore.blobs.drafts import NewFrame
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.parallel import in_order
from modelstore.blobs.replacements import Replacements, is_better
from modelstore.errors import ConflictError, IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest
from modelstore.locks import gc_lock, locked
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops.repack_kin import Kin
from modelstore.ops.repack_lowrank import find_product
from modelstore.ops.repack_ways import WAYS, Effort, Subject, Trial, opened_trial
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.store import Store

_SMALL = 4 << 20
"""Bytes of a blob that has too few blocks to keep all threads busy by itself."""

_SEARCHED = 32 << 20
"""The same where factors are searched: one thread does that for a blob, in about as much memory."""

_AT_ONCE = 256 << 20
"""Bytes of new frames that wait for a sync of the disk."""

_PAUSE = 0.5
"""Seconds until we look again whether the others have ended."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What was won.

    Attributes:
        examined: how many frames were looked at.
        recoded: how many of them have a better frame now.
        before, after: bytes of all that were looked at.
    """

    examined: int = 0
    recoded: int = 0
    before: int = 0
    after: int = 0

    @property
    def won(self) -> int:
        """Bytes that are free now."""
        return self.before - self.after

    def plus(self, examined: int, recoded: int, before: int, after: int) -> Gain:
        """Return the sum of this and other figures."""
        return Gain(
            self.examined + examined,
            self.recoded + recoded,
            self.before + before,
            self.after + after,
        )


@dataclass(frozen=True, slots=True)
class Repacked:
    """What a repack did, or would do.

    Attributes:
        models: what was won for each; a blob counts for the first model that has it.
        left: better frames that were not put in place because others were at work.
        unreadable: what could not be read, one sentence each.
    """

    models: Mapping[ModelName, Gain]
    left: int
    unreadable: tuple[str, ...]

    @property
    def total(self) -> Gain:
        """What was won in all."""
        total = Gain()
        for gain in self.models.values():
            total = total.plus(gain.examined, gain.recoded, gain.before, gain.after)
        return total


def repack(
    store: Store,
    versions: Sequence[Resolved] | None = None,
    *,
    effort: Effort = Effort.NORMAL,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Repacked:
    """Encode the frames of versions anew where that makes them smaller.

    Every blob can be read at any moment. A commit at the same time goes on; frames that cannot be
    replaced while it runs are waited for, as long as for a lock, and then left as they are.

    Args:
        versions: those whose blobs are looked at; None: all of the store.
        effort: how much is tried for each blob.
        dry_run: encode, count and change nothing.

    Raises:
        LockTimeoutError: another repack, or a gc, is running.
        DiskFullError: no room for new frames; what was won before stays won.
    """
    store.prepare()
    with locked(gc_lock(store.meta), timeout=store.lock_timeout):
        remove_abandoned(store.meta)
        lineage = Lineage(store.blobs)
        with Replacements(store.blobs, lineage) as replacements:
            run = _Run(store, lineage, replacements, effort, dry_run=dry_run)
            return run.over(versions, progress)


@dataclass(frozen=True, slots=True)
class _Found:
    """What trying one blob came to: its present frame, and a better one if there is one."""

    old: FrameHeader
    new: NewFrame | None


class _Run:
    """One repack."""

    def __init__(
        self,
        store: Store,
        lineage: Lineage,
        replacements: Replacements,
        effort: Effort,
        *,
        dry_run: bool,
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._replacements = replacements
        self._effort = effort
        self._dry_run = dry_run
        self._kin = Kin(store)
        self._seen: set[Digest] = set()
        self._old: dict[Digest, tuple[ModelName, int]] = {}
        self._staged = 0
        self._patience = store.lock_timeout
        self._models: dict[ModelName, Gain] = {}
        self._left = 0
        self._unreadable = list(lineage.unreadable.values())

    def over(self, versions: Sequence[Resolved] | None, progress: Progress) -> Repacked:
        """Look at every blob of ``versions`` once."""
        wanted = None if versions is None else {version.id for version in versions}
        chosen = [one for one in self._kin.versions if wanted is None or one.id in wanted]
        sizes = [int(one.entry.mapping("sizes").get("logical", 0)) for one in chosen]
        total = sum(sizes)
        for version, before in zip(chosen, accumulate(sizes, initial=0), strict=False):
            done = before
            for size in self._version(version):
                done += size
                progress("repack", min(done, total), total)
        progress("repack", total, total)
        return Repacked(self._models, self._left, tuple(self._unreadable))

    def _version(self, version: Resolved) -> Iterator[int]:
        """Look at the blobs of a version that were not seen yet; yield the size of each."""
        try:
            manifest = self._store.manifest(version.model, version.entry)
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            self._unreadable.append(f"{version}: {error.message}")
            return
        self._models.setdefault(version.model, Gain())
        subjects = list(self._subjects(version, manifest))
        for subject, found in self._tried(subjects):
            if isinstance(found, _Found):
                self._count(version.model, found)
            else:
                self._unreadable.append(found)
            yield subject.span.size
        self._publish()

    def _subjects(self, version: Resolved, manifest: Manifest) -> Iterator[Subject]:
        near = self._kin.near(version, self._effort.kin)
        search = self._kin.search(version, near) if near else None  # the first stay as they are
        for file in manifest.files:
            for span in file.spans:
                if span.blob not in self._seen:
                    self._seen.add(span.blob)
                    yield Subject(span, tuple(self._kin.bases(span, near)), search)

    # --- one blob

    def _tried(self, subjects: Sequence[Subject]) -> Iterator[tuple[Subject, _Found | str]]:
        """Try every blob: small ones side by side, large ones one by one."""
        most = _SEARCHED if self._effort is Effort.MAX else _SMALL
        small = [subject for subject in subjects if subject.span.size <= most]
        tried = in_order(self._try, small, self._store.blobs.threads)
        yield from zip(small, tried, strict=True)
        large = [subject for subject in subjects if subject.span.size > most]
        yield from zip(large, map(self._try, large), strict=True)

    def _try(self, subject: Subject) -> _Found | str:
        """Return the best frame that was found for a blob, or what is wrong with the one it has."""
        deeper = self._lineage.may_become_deeper(subject.span.blob)
        try:
            with opened_trial(self._store.blobs, subject, deeper=deeper) as trial:
                return _Found(trial.reader.header, self._best(trial))
        except ConflictError:
            return f"blob '{subject.span.blob}' is damaged: its bytes are not those it is named by"
        except (IntegrityError, NotFoundError, NewerFormatError) as error:
            return error.message

    def _best(self, trial: Trial) -> NewFrame | None:
        best: NewFrame | None = None
        present = trial.reader.header
        digest = present.digest
        tried = set() if self._effort is Effort.MAX else {(present.info.id, present.base)}
        for way in WAYS[self._effort]:
            choice = way(trial)
            if choice is None or _key(choice) in tried:
                continue
            tried.add(_key(choice))
            frame = self._replacements.write(digest, trial, trial.dtype, choice, trial.columns)
            best = self._better(best, frame, trial)
        product = find_product(trial) if self._effort is Effort.MAX else None
        if product is not None:
            merged = self._replacements.write_product(
                digest, trial, trial.dtype, trial.columns, *product
            )
            best = best if merged is None else self._better(best, merged, trial)
        return best

    def _better(self, best: NewFrame | None, new: NewFrame, trial: Trial) -> NewFrame | None:
        """Return the best frame so far, None where that is the present one; drop the other."""
        wins = is_better(new, best or trial.reader.header)
        beaten = best if wins else new
        if beaten is not None:
            self._replacements.drop(beaten)
        return new if wins else best

    # --- what came of it

    def _count(self, model: ModelName, found: _Found) -> None:
        size = found.old.stored_size
        self._add(model, examined=1, before=size, after=size)
        if found.new is None:
            return
        self._old[found.old.digest] = model, size
        if self._dry_run:
            self._replaced(found.new)
            self._replacements.drop(found.new)
            return
        self._replacements.keep(found.new)
        self._staged += found.new.stored_size
        if self._staged >= _AT_ONCE:
            self._publish()

    def _publish(self) -> None:
        """Put the new frames in place; wait for others, but not for ever."""
        self._staged = 0
        while True:
            for frame in self._replacements.publish():
                self._replaced(frame)
            if not self._replacements.waiting or self._patience <= 0:
                break
            time.sleep(_PAUSE)
            self._patience -= _PAUSE
        self._left += self._replacements.give_up()
        self._old.clear()

    def _replaced(self, new: NewFrame) -> None:
        model, size = self._old[new.header.digest]
        self._add(model, recoded=1, after=new.stored_size - size)

    def _add(
        self, model: ModelName, *, examined: int = 0, recoded: int = 0, before: int = 0, after: int
    ) -> None:
        self._models[model] = self._models[model].plus(examined, recoded, before, after)


def _key(choice: Choice) -> tuple[int, Digest | None]:
    """Return what makes two choices give the same frame."""
    return choice.codec.id, None if choice.base is None else choice.base.header.digest
