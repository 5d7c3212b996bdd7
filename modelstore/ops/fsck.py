"""Fsck: is everything in the store as mstore left it, and what is lost if not.

Only looks. What is found is collected, not raised, so that one damage does not hide another.
`modelstore.ops.mend` puts right what can be put right.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError, UsageError
from modelstore.hashing import Digest
from modelstore.manifest import Manifest
from modelstore.names import ModelName
from modelstore.ops import fsck_frames, fsck_registry, fsck_small, tracking
from modelstore.ops.findings import Affected, Checked, Finding, in_order
from modelstore.ops.fsck_files import Files
from modelstore.ops.fsck_frames import Frames
from modelstore.ops.mend_lost import check_lost
from modelstore.ops.resolve import Resolved
from modelstore.progress import Progress, silent
from modelstore.sizes import human_size
from modelstore.state import State
from modelstore.store import MANIFEST, Store


class Level(Enum):
    """How much is looked at.

    QUICK: settings, registries, manifests, and that every blob of a version is there with a header
    that fits. DEFAULT: also what frames are built on, all other frames, leftovers, names. FULL:
    also every byte of every frame, decoded once, and the digests of whole files.
    """

    QUICK = "quick"
    DEFAULT = "default"
    FULL = "full"


_DAY = 24 * 3600
_PART = re.compile(r"(\d{1,6})/(\d{1,6})")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)i?B?")
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True)
class Subset:
    """The frames of which every byte is read: one part of several, by their names.

    A frame's part depends on its name only, so all parts together are all frames, each once, and
    nothing has to be remembered between runs.

    Attributes:
        number, of: part ``number`` of ``of``, from 1; 0 for the one that is today's turn.
        size: bytes of frames that one part should have, instead of ``of``; 0 for none.
    """

    number: int
    of: int
    size: int = 0

    def choose(self, sizes: dict[Digest, int]) -> set[Digest]:
        """Return the frames of the part, of those in ``sizes``, which has their bytes."""
        of = max(1, -(-sum(sizes.values()) // self.size)) if self.size else self.of
        number = self.number or int(time.time()) // _DAY % of + 1
        return fsck_frames.part(sizes, number, of)


def parse_subset(text: str) -> Subset:
    """Return the subset that ``text`` says: ``n/t``, ``x%`` or a size as in ``500M``.

    Raises:
        UsageError: it is none of these.
    """
    found = _PART.fullmatch(text)
    if found and 1 <= int(found[1]) <= int(found[2]):
        return Subset(int(found[1]), int(found[2]))
    found = _PERCENT.fullmatch(text)
    if found and 0 < float(found[1]) <= 100:
        return Subset(0, int(-(-100 // float(found[1]))))
    found = _SIZE.fullmatch(text)
    if found and float(found[1]) * _UNITS[found[2]] >= 1:
        return Subset(0, 1, int(float(found[1]) * _UNITS[found[2]]))
    raise UsageError(f"{text!r} is no part of the frames", "say 1/7, 5% or 500M")


def fsck(
    store: Store,
    level: Level = Level.DEFAULT,
    subset: Subset | None = None,
    progress: Progress = silent,
) -> Checked:
    """Check a store; nothing is written.

    Args:
        subset: of the default level: also read and decode this part of the frames.

    Raises:
        StoreError: a directory cannot be read, so that nothing could be concluded.
    """
    return _Check(store, level, subset, progress).run()


def _uncounted(_: int) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class _Check:
    """One check of a store."""

    store: Store
    level: Level
    subset: Subset | None
    progress: Progress
    found: list[Finding] = field(default_factory=list)
    states: dict[ModelName, State] = field(default_factory=dict)
    unreadable: dict[Digest, Finding] = field(default_factory=dict)
    named: set[Digest] = field(default_factory=set)

    def run(self) -> Checked:
        self.found += fsck_small.check_settings(self.store)
        self.found += check_lost(self.store)
        models = self.store.models()
        for model in models:
            self._registry(model)
        frames = Frames(self.store.blobs)
        versions = 0
        for resolved, manifest in self._versions(note=True):
            self._version(frames, resolved, manifest)
            versions += 1
        needed = frames.built_on(self.named)
        if self.level is not Level.QUICK:
            self._around(frames, needed)
        self._read(frames)
        frames.look_again()
        blobs = list(fsck_frames.findings(frames, self._versions(note=False), needed))
        self.found += self._with_manifests(blobs)
        return Checked(
            level=self.level.value,
            models=len(models),
            versions=versions + len(self.unreadable),
            frames=len(frames.sizes),
            bytes_read=frames.bytes_read,
            findings=in_order(self.found),
        )

    # --- registries and manifests

    def _registry(self, model: ModelName) -> None:
        self.found += fsck_registry.check_registry(self.store, model)
        try:
            self.states[model] = self.store.state(model)
        except (IntegrityError, NotFoundError, NewerFormatError):
            return  # it is among the findings

    def _versions(self, *, note: bool) -> Iterator[tuple[Resolved, Manifest]]:
        """Yield every version whose manifest can be read; those that cannot are noted if asked."""
        for model, state in self.states.items():
            for entry in state.entries():
                if entry.id is None:
                    continue  # registered, but its content never was here
                resolved = Resolved(model, entry)
                try:
                    manifest = self.store.manifest(model, entry)
                except (IntegrityError, NotFoundError, NewerFormatError) as error:
                    if note:
                        self._note_unreadable(resolved, entry.id, error.message)
                    continue
                yield resolved, manifest

    def _note_unreadable(self, resolved: Resolved, digest: Digest, message: str) -> None:
        affected = (Affected(str(resolved), MANIFEST),)
        what = f"is the manifest of {resolved}, without which no file can be read: {message}"
        self.unreadable[digest] = Finding("blob", digest, what, affected=affected)
        self.named.add(digest)

    def _version(self, frames: Frames, resolved: Resolved, manifest: Manifest) -> None:
        blobs = manifest.blobs()
        if tracking.lazy(self.store):
            blobs &= frames.sizes.keys()  # the others are at the remote
        self.named |= blobs
        if resolved.id is not None:
            self.named.add(resolved.id)
            frames.require(resolved.id)
            frames.read_all([resolved.id], _uncounted)  # what was read may be the directory's copy
        for file in manifest.files:
            for span in file.spans:
                if span.blob in blobs:
                    frames.require(span.blob, span.size)
        self.found += fsck_small.check_small_files(self.store, resolved, manifest)

    def _with_manifests(self, blobs: Sequence[Finding]) -> Iterator[Finding]:
        """Yield the findings, of a lost manifest only the one that says what it is."""
        yield from (one for one in blobs if one.name not in self.unreadable)
        yield from self.unreadable.values()

    # --- frames

    def _around(self, frames: Frames, needed: set[Digest]) -> None:
        frames.look_at_all()
        self.found += fsck_frames.too_deep(frames)
        self.found += fsck_frames.strange_files(frames, self.store.root)
        self.found += fsck_small.check_leftovers(self.store, self.states)
        self.found += fsck_small.check_names(self.store)
        unneeded = [size for digest, size in frames.sizes.items() if digest not in needed]
        if unneeded and not self.unreadable:
            what = f"{len(unneeded)} that no version needs ({human_size(sum(unneeded))})"
            self.found.append(Finding("unneeded", "frames", what, serious=False))

    def _read(self, frames: Frames) -> None:
        """Read and decode what the level asks for."""
        if self.level is Level.FULL:
            total = 2 * sum(frames.sizes.values())
            count = fsck_frames.report_to(self.progress, "fsck", total)
            frames.read_all(frames.sizes, count)
            files = Files(self._versions(note=False))
            decoded = files.decode(frames, count)
            frames.decode_all(set(frames.sizes) - decoded, count)
            self.found += files.findings()
        elif self.subset is not None:
            chosen = self.subset.choose(frames.sizes)
            total = 2 * sum(frames.sizes[digest] for digest in chosen)
            count = fsck_frames.report_to(self.progress, "fsck", total)
            frames.read_all(chosen, count)
            frames.look_at_all()
            frames.decode_all(chosen, count)
