"""Replacing frames by better ones of the same blobs.

A new frame is staged, decoded against the blob's digest, made durable, and only then renamed over
the old one; so every blob can be read at any moment, and who has the old frame open goes on with
it. What the rules of depth (docs/format.md, "Frames") demand is checked under the store's lock:

- a new frame is deeper than the frame its base has *then*;
- it is not deeper than the frame it replaces, unless nothing is built on that, and nobody is
  staging a frame that might be.

A frame is read against published bases only, so whichever of several renames a power cut leaves
done, no chain is broken.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from types import TracebackType

from modelstore import disk
from modelstore.blobs.choice import Choice
from modelstore.blobs.drafts import Drafts, NewFrame
from modelstore.blobs.frame import FrameHeader
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.parallel import in_order
from modelstore.blobs.reader import BlobReader, opened
from modelstore.blobs.source import RawSource
from modelstore.blobs.staging import Staging
from modelstore.blobs.store import BlobStore
from modelstore.codecs.factors import Factors
from modelstore.errors import IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest, Hasher
from modelstore.numeric import DType


class _Verdict(Enum):
    """What is to be done with a new frame now."""

    PUT = auto()
    WAIT = auto()
    DROP = auto()


class Replacements:
    """New frames for blobs that the store has.

    Use as a context manager. `write` and `drop` may be called by several threads at once.

    Args:
        blobs: the blob store.
        lineage: what is built on what in it.
    """

    def __init__(self, blobs: BlobStore, lineage: Lineage) -> None:
        self._blobs = blobs
        self._lineage = lineage
        self._staging = Staging(blobs.root, blobs.lock_timeout)
        self._drafts = Drafts(
            self._staging.new_path, blobs.path, blobs.is_sound, blobs.threads, blobs.block_log2
        )
        self._kept: list[NewFrame] = []

    def __enter__(self) -> Replacements:
        self._staging.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._staging.__exit__(kind, error, trace)

    # --- staging

    def write(
        self, digest: Digest, source: RawSource, dtype: DType, choice: Choice, columns: int
    ) -> NewFrame:
        """Encode a blob anew as `Drafts.write` does, and prove that what was written decodes to it.

        Args:
            choice: how to encode it; its base is published, too.
        """
        return self._proved(self._drafts.write(digest, source, dtype, choice, columns))

    def write_product(
        self,
        digest: Digest,
        source: RawSource,
        dtype: DType,
        columns: int,
        base: BlobReader,
        factors: Factors,
    ) -> NewFrame | None:
        """Do the same with `Drafts.write_product`."""
        frame = self._drafts.write_product(digest, source, dtype, columns, base, factors)
        return None if frame is None else self._proved(frame)

    def drop(self, frame: NewFrame) -> None:
        """Remove a staged frame that is not wanted after all."""
        self._drafts.drop(frame)

    def keep(self, frame: NewFrame) -> None:
        """Let the next `publish` put a frame in the place of the one its blob has."""
        for each in (frame, *frame.factors):
            self._staging.add(each.path)
        self._kept.append(frame)

    def _proved(self, frame: NewFrame) -> NewFrame:
        for each in (*frame.factors, frame):
            self._prove(each, frame.factors)
        return frame

    def _prove(self, frame: NewFrame, below: Iterable[NewFrame]) -> None:
        digest = frame.header.digest
        paths = {each.header.digest: each.path for each in (*below, frame)}
        hasher = Hasher()
        with opened(lambda name: paths.get(name) or self._blobs.path(name), digest) as reader:
            count = reader.header.block_count
            for block in in_order(reader.block, range(count), min(count, self._blobs.threads)):
                hasher.update(block)
        if hasher.digest() != digest:
            raise StoreError(
                f"blob '{digest}' was encoded to something else", "report this as a bug in mstore"
            )

    # --- publishing

    @property
    def waiting(self) -> int:
        """How many frames the next `publish` would look at."""
        return len(self._kept)

    def publish(self) -> list[NewFrame]:
        """Put the frames that were kept in place, durably; return those that are.

        Frames that must wait because others are at work stay kept; those that no longer fit, or
        no longer win, are dropped.

        Raises:
            StoreError: the disk did not take everything; frames in place stay as they are.
        """
        if not self._kept:
            return []
        self._staging.sync()
        frames, self._kept = sorted(self._kept, key=lambda frame: frame.header.depth), []
        with self._staging.lock():
            self._link_factors(frames)
            placed = self._place(frames)
        self._staging.sync()
        return placed

    def give_up(self) -> int:
        """Drop the frames that still wait; return how many they were."""
        frames, self._kept = self._kept, []
        for frame in frames:
            self.drop(frame)
        return len(frames)

    def _link_factors(self, frames: list[NewFrame]) -> None:
        """Publish the factors, durably, before anything is built on them."""
        factors = [factor for frame in frames for factor in frame.factors]
        for factor in factors:
            digest = factor.header.digest
            target = self._blobs.path(digest)
            if not disk.link(factor.path, target) and not self._blobs.is_sound(digest):
                disk.rename_unsynced(factor.path, target)
            self._staging.add(target.parent)
        if factors:
            self._staging.sync()

    def _place(self, frames: list[NewFrame]) -> list[NewFrame]:
        deeper = any(frame.header.depth for frame in frames)
        if deeper:
            self._lineage.refresh()
        alone = deeper and self._staging.is_alone()
        placed = []
        for frame in frames:
            verdict = self._judge(frame, alone=alone)
            if verdict is _Verdict.PUT:
                target = self._blobs.path(frame.header.digest)
                disk.rename_unsynced(frame.path, target)
                self._staging.add(target.parent)
                self._lineage.note(frame.header)
                placed.append(frame)
            elif verdict is _Verdict.WAIT:
                self._kept.append(frame)
            else:
                self.drop(frame)
        return placed

    def _judge(self, frame: NewFrame, *, alone: bool) -> _Verdict:
        new = frame.header
        try:
            old = self._blobs.header(new.digest)
            depths = [self._blobs.header(digest).depth for digest in new.built_on]
        except (IntegrityError, NotFoundError):
            return _Verdict.DROP
        if max(depths, default=-1) >= new.depth or not is_better(frame, old):
            return _Verdict.DROP
        if new.depth <= old.depth:
            return _Verdict.PUT
        if not self._lineage.may_become_deeper(new.digest):
            return _Verdict.DROP
        return _Verdict.PUT if alone else _Verdict.WAIT


def is_better(new: NewFrame, old: FrameHeader | NewFrame) -> bool:
    """Tell whether a frame is worth replacing another of the same blob: smaller, or less deep."""
    depth = old.header.depth if isinstance(old, NewFrame) else old.depth
    return (new.stored_size, new.header.depth) < (old.stored_size, depth)
