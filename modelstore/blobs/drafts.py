"""Drafts: frames that are written aside, for whoever compares some and publishes the best."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore.blobs.choice import DEEPEST, Choice, choose
from modelstore.blobs.encode import Encoding
from modelstore.blobs.frame import FactorNames, FrameHeader
from modelstore.blobs.open_factors import OpenFactors
from modelstore.blobs.reader import BlobReader, opened
from modelstore.blobs.source import BytesSource, RawSource
from modelstore.codecs import ids
from modelstore.codecs.base import Bits
from modelstore.codecs.factors import Factors
from modelstore.hashing import Digest, digest_of
from modelstore.numeric import DType


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A frame that is staged.

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


class Drafts:
    """Writes frames aside; several threads may do so at once.

    Args:
        new_path: gives a new place for a frame of a blob.
        locate: where the frame of a blob lies that is staged or published.
        has: tells whether there is one, in good order.
        threads: how many blocks of a blob are encoded at once.
        block_log2: log2 of the values in a block.
    """

    def __init__(
        self,
        new_path: Callable[[Digest], Path],
        locate: Callable[[Digest], Path],
        has: Callable[[Digest], bool],
        threads: int,
        block_log2: int,
    ) -> None:
        self._new_path = new_path
        self._locate = locate
        self._has = has
        self._threads = threads
        self._block_log2 = block_log2

    def write(
        self, digest: Digest, source: RawSource, dtype: DType, choice: Choice, columns: int
    ) -> NewFrame:
        """Encode a blob.

        Args:
            digest, source: the blob and its raw bytes.
            dtype, columns: as in `Transaction.add`.
            choice: how to encode it; its base is open, and not built on the blob.

        Raises:
            ConflictError: the source's bytes are not those that ``digest`` names.
            DiskFullError: there is no room to stage it.
            StoreError: a codec did not give back what it was given.
        """
        path = self._new_path(digest)
        encoding = Encoding(digest, source, dtype, choice, self._block_log2, columns)
        return NewFrame(path, encoding.write(path, self._threads))

    def write_product(
        self,
        digest: Digest,
        source: RawSource,
        dtype: DType,
        columns: int,
        base: BlobReader,
        factors: Factors,
    ) -> NewFrame | None:
        """Encode a blob as steps from what a product makes of a base.

        None where it would be too deep, or built on itself.

        Args:
            digest, source, dtype, columns: as in `write`.
            base: open, and not built on the blob.
            factors: of the product; they become blobs unless they are some.

        Raises: as `write` does.
        """
        made: dict[Digest, NewFrame] = {}
        recipe = factors.recipe
        left = self._factor(factors.left, recipe.left, factors.left_width, made)
        right = self._factor(factors.right, recipe.right, factors.right_width, made)
        names = FactorNames(left, right, recipe.to_bytes())

        def locate(name: Digest) -> Path:
            return made[name].path if name in made else self._locate(name)

        with ExitStack() as stack:
            open_left, open_right = (
                stack.enter_context(opened(locate, name)) for name in (left, right)
            )
            factored = OpenFactors(names, open_left, open_right)
            choice = Choice(ids.LOWRANK, base, dtype, factored)
            if choice.depth > DEEPEST or digest in (left, right):
                for each in made.values():
                    disk.remove(each.path)
                return None
            frame = self.write(digest, source, dtype, choice, columns)
        return NewFrame(frame.path, frame.header, tuple(made.values()))

    def _factor(
        self, values: Bits, dtype: DType, columns: int, made: dict[Digest, NewFrame]
    ) -> Digest:
        raw = values.tobytes()
        digest = digest_of(raw)
        if digest not in made and not self._has(digest):
            source = BytesSource(raw)
            choice = choose(source, dtype, (), columns=columns)
            made[digest] = self.write(digest, source, dtype, choice, columns)
        return digest

    def drop(self, frame: NewFrame) -> None:
        """Remove a frame that is not wanted after all."""
        for each in (frame, *frame.factors):
            disk.remove(each.path)
