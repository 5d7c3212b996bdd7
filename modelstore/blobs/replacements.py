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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from types import TracebackType

from modelstore import disk
from modelstore.blobs.choice import Choice, choose
from modelstore.blobs.encode import Encoding
from modelstore.blobs.frame import FactorNames, FrameHeader
from modelstore.blobs.lineage import Lineage
from modelstore.blobs.open_factors import OpenFactors
from modelstore.blobs.parallel import in_order
from modelstore.blobs.reader import BlobReader, opened
from modelstore.blobs.source import BytesSource, RawSource
from modelstore.blobs.staging import Staging
from modelstore.blobs.store import BlobStore
from modelstore.codecs import ids
from modelstore.codecs.factors import Factors
from modelstore.errors import IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest, Hasher, digest_of
from modelstore.numeric import DType


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A frame that is staged, and known to decode to its blob.

    Attributes:
        path, header: the frame.
        factors: frames of further blobs that it is built on, as yet in no store.
    """

    path: Path
    header: FrameHeader
    factors: tuple[NewFrame, ...] = ()

    @property
    def stored_size(self) -> int:
        """Bytes of the frame, and of its factors'."""
        return self.header.stored_size + sum(frame.stored_size for frame in self.factors)


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
        """Encode a blob anew, and prove that what was written decodes to it.

        Args:
            digest, source: the blob and its raw bytes.
            dtype, columns: as in `Transaction.add`.
            choice: how to encode it; its base is open, published, and not built on the blob.

        Raises:
            ConflictError: the source's bytes are not those that ``digest`` names.
            DiskFullError: there is no room to stage it.
            StoreError: a codec did not give back what it was given.
        """
        path = self._staging.new_path(digest)
        encoding = Encoding(digest, source, dtype, choice, self._blobs.block_log2, columns)
        header = encoding.write(path, self._blobs.threads)
        frame = NewFrame(path, header)
        self._prove(frame)
        return frame

    def write_product(
        self,
        digest: Digest,
        source: RawSource,
        dtype: DType,
        columns: int,
        base: BlobReader,
        factors: Factors,
    ) -> NewFrame:
        """Encode a blob anew, as steps from what a product makes of a base.

        Args:
            digest, source, dtype, columns: as in `write`.
            base: open, published, and not built on the blob.
            factors: of the product; they become blobs.

        Raises: as `write` does.
        """
        recipe = factors.recipe
        left = self._write_factor(factors.left.tobytes(), recipe.left, factors.rows)
        right = self._write_factor(factors.right.tobytes(), recipe.right, recipe.columns)
        staged = {frame.header.digest: frame for frame in (left, right)}
        names = FactorNames(left.header.digest, right.header.digest, recipe.to_bytes())
        with (
            opened(self._locate(staged), names.left) as one,
            opened(self._locate(staged), names.right) as other,
        ):
            choice = Choice(ids.LOWRANK, base, dtype, OpenFactors(names, one, other))
            path = self._staging.new_path(digest)
            encoding = Encoding(digest, source, dtype, choice, self._blobs.block_log2, columns)
            header = encoding.write(path, self._blobs.threads)
        frame = NewFrame(path, header, tuple(staged.values()))
        self._prove(frame)
        return frame

    def _write_factor(self, raw: bytes, dtype: DType, columns: int) -> NewFrame:
        source = BytesSource(raw)
        choice = choose(source, dtype, (), columns=columns)
        return self.write(digest_of(raw), source, dtype, choice, columns)

    def drop(self, frame: NewFrame) -> None:
        """Remove a staged frame that is not wanted after all."""
        for each in (frame, *frame.factors):
            disk.remove(each.path)

    def keep(self, frame: NewFrame) -> None:
        """Let the next `publish` put a frame in the place of the one its blob has."""
        for each in (frame, *frame.factors):
            self._staging.add(each.path)
        self._kept.append(frame)

    def _locate(self, staged: Mapping[Digest, NewFrame]) -> Callable[[Digest], Path]:
        return lambda name: staged[name].path if name in staged else self._blobs.path(name)

    def _prove(self, frame: NewFrame) -> None:
        digest = frame.header.digest
        staged = {each.header.digest: each for each in (frame, *frame.factors)}
        hasher = Hasher()
        with opened(self._locate(staged), digest) as reader:
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
        self._staging.add(self._staging.directory)
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
            target = self._blobs.path(factor.header.digest)
            disk.link(factor.path, target)  # one that is there is as good
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
