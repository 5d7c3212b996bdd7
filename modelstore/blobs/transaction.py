"""Adding blobs: staged aside, made durable together, and only then given their names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from modelstore import disk
from modelstore.blobs.frame import FrameHeader
from modelstore.blobs.source import BytesSource, RawSource
from modelstore.blobs.staging import Staging
from modelstore.blobs.trash import Trash
from modelstore.errors import ConflictError, IntegrityError, NotFoundError, StoreError
from modelstore.hashing import Digest, digest_of
from modelstore.locks import DEFAULT_TIMEOUT
from modelstore.numeric import BYTES, DType

if TYPE_CHECKING:
    from modelstore.blobs.drafts import NewFrame
    from modelstore.blobs.product import Product
    from modelstore.blobs.reader import BlobReader


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the tensor that a blob is.

    Attributes:
        columns: values in a row, 0 where that is unknown.
        others: blobs it may be made against, looked at only where no base is worth it.
        product: what was added to one of its bases; becomes blobs too if that saves bytes.
    """

    columns: int = 0
    others: Iterable[Digest] = ()
    product: Product | None = None


NOTHING = Known()


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a blob that was added.

    Attributes:
        stored_size: bytes of its frame, and of those of a product that were made with it.
        new: how many frames were made now; 0 if the store, or the transaction, had it.
        codec: the name of the frame's codec.
        built_on: the blobs that are needed to decode it.
    """

    stored_size: int
    new: int
    codec: str
    built_on: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class _Staged:
    path: Path
    header: FrameHeader


class Transaction:
    """Blobs that are staged, and published together or not at all.

    Use as a context manager. `add` may be called by several threads at once; `publish` by one,
    when no `add` is running.

    Attributes:
        directory: where its frames are staged; removed at the end with all that is in it.

    Args:
        root: the store's `.mstore` directory.
        locate: where the frame of a blob lies, or would lie.
        threads: how many blocks of a blob are encoded at once.
        block_log2: log2 of the values in a block.
        lock_timeout: seconds to wait for the store's lock.
    """

    def __init__(
        self,
        root: Path,
        locate: Callable[[Digest], Path],
        *,
        threads: int,
        block_log2: int,
        lock_timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._area = Staging(root, lock_timeout)
        self.directory = self._area.directory
        self._locate_published = locate
        self._root = root
        self._threads = threads
        self._block_log2 = block_log2
        self._staged: dict[Digest, _Staged] = {}
        self._staging = threading.Lock()

    def __enter__(self) -> Transaction:
        self._area.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._area.__exit__(kind, error, trace)

    # --- adding

    def add_bytes(self, data: bytes) -> Digest:
        """Add literal bytes; return their digest."""
        digest = digest_of(data)
        self.add(digest, BytesSource(data), dtype=BYTES)
        return digest

    def add(
        self,
        digest: Digest,
        source: RawSource,
        *,
        dtype: DType,
        bases: Iterable[Digest] = (),
        known: Known = NOTHING,
    ) -> Added:
        """Encode and stage a blob, unless the store or this transaction has it in good order.

        Args:
            digest: the blob's name.
            source: its raw bytes; not read if it is there already.
            dtype: how they are read as numbers, if they are a whole number of them.
            bases: blobs it may be made against; those absent, damaged or unfit are passed over.
            known: what else is known of the tensor that it is.

        Raises:
            ConflictError: the source's bytes are not those that ``digest`` names.
            DiskFullError: there is no room to stage it.
        """
        there = self._header(digest)
        if there is not None:
            return _added(there)
        if source.size % dtype.width:
            dtype, known = BYTES, Known(0, known.others)
        # What others may be built on is never made deeper: a damaged frame is replaced by one
        # without a base.
        if self._locate_published(digest).exists():
            bases, known = (), Known(known.columns)
        return self._stage(digest, source, dtype, bases, known)

    # --- frames that come as such

    def new_path(self, digest: Digest) -> Path:
        """Return a new place for a frame of ``digest`` that `take` may be told of."""
        return self._area.new_path(digest)

    def take(self, path: Path, header: FrameHeader) -> None:
        """Let `publish` name a frame that was written to a `new_path` and proved to be sound.

        All that it is built on is published, or was taken before it, and is less deep.
        """
        with self._staging:
            self._area.add(path)
            self._staged[header.digest] = _Staged(path, header)

    def locate(self, digest: Digest) -> Path:
        """Return where the frame of ``digest`` lies, or would lie: staged here, or published."""
        staged = self._staged.get(digest)
        return self._locate_published(digest) if staged is None else staged.path

    def _header(self, digest: Digest) -> FrameHeader | None:
        """Return the header of a frame that this transaction or the store has in good order."""
        staged = self._staged.get(digest)
        return self._sound_header(digest) if staged is None else staged.header

    def _sound_header(self, digest: Digest) -> FrameHeader | None:
        """Return the header of a blob that is published and can be read, after checking that."""
        if not self._locate_published(digest).exists():
            return None
        from modelstore.blobs.reader import opened  # loads numpy

        try:
            with opened(self._locate_published, digest) as reader:
                reader.check()
                return reader.header
        except (IntegrityError, NotFoundError):
            return None

    def _stage(
        self, digest: Digest, source: RawSource, dtype: DType, bases: Iterable[Digest], known: Known
    ) -> Added:
        from modelstore.blobs.choice import choose  # these load numpy
        from modelstore.blobs.drafts import Drafts

        others = known.others
        if known.product is not None:  # what it may have been added to is looked at twice
            bases = list(bases)
            others = others if bases else list(others)
        drafts = Drafts(
            self._area.new_path, self.locate, self._has, self._threads, self._block_log2
        )
        with ExitStack() as stack:
            offered = (self._readers(digest, found, stack) for found in (bases, others))
            choice = choose(source, dtype, next(offered), known.columns, next(offered))
            best = drafts.write(digest, source, dtype, choice, known.columns)
            if known.product is not None:
                from modelstore.blobs.product import find_merges, smallest

                readers = self._readers(digest, bases or others, stack)
                tensor = source, dtype, known.columns
                merges = find_merges(*tensor, readers, known.product, self._has)
                best = smallest(best, drafts, *tensor, merges)
        return self._keep(best)

    def _keep(self, frame: NewFrame) -> Added:
        """Let `publish` name a frame, and further ones that it is built on."""
        made = (*frame.factors, frame)
        with self._staging:
            for each in made:
                self._area.add(each.path)
                there = self._staged.get(each.header.digest)
                # what is built on it, here or in another thread, bears a less deep one
                if there is None or each.header.depth < there.header.depth:
                    self._staged[each.header.digest] = _Staged(each.path, each.header)
        header = frame.header
        return Added(frame.stored_size, len(made), header.codec, header.built_on)

    def _has(self, digest: Digest) -> bool:
        return self._header(digest) is not None

    def _readers(
        self, digest: Digest, bases: Iterable[Digest], stack: ExitStack
    ) -> Iterator[BlobReader]:
        """Open the ``bases`` that ``digest`` can have, each when it is asked for."""
        from modelstore.blobs.reader import open_reader  # loads numpy

        for base in bases:
            try:
                reader = open_reader(self.locate, base)
            except StoreError:  # lost, damaged or of a newer mstore: it is passed over
                continue
            stack.callback(reader.close)
            if all(ancestor.header.digest != digest for ancestor in reader.chain()):
                yield reader

    # --- publishing

    def publish(self) -> None:
        """Make everything staged durable, and then visible; what was there already is kept.

        Raises:
            ConflictError: a blob that staged ones are built on was taken away or replaced.
            IntegrityError: a frame that appeared meanwhile is damaged; adding it again heals it.
            StoreError: the disk did not take everything; nothing may be trusted.
        """
        self._area.sync()
        with self._area.lock():  # while it is held no base becomes deeper
            trash = Trash(self._root, self._locate_published)
            for staged in sorted(self._staged.values(), key=lambda staged: staged.header.depth):
                self._require_base(staged.header, trash)
                self._name(staged)
            trash.sync()
        self._area.sync()
        self._staged.clear()

    def _require_base(self, header: FrameHeader, trash: Trash) -> None:
        """Raise unless all that a frame is built on is there, if need be back from the trash."""
        for base in header.built_on:
            if not (trash.has_above(base, header.depth) or trash.give_back(base, header.depth)):
                raise ConflictError(
                    f"blob '{base}', a base of this commit, was removed or replaced meanwhile",
                    "run the command again",
                )

    def _name(self, staged: _Staged) -> None:
        target = self._locate_published(staged.header.digest)
        disk.make_dir(target.parent)
        self._area.add(target.parent)
        if disk.link(staged.path, target):
            return
        there = self._sound_header(staged.header.digest)
        if there is None and staged.header.depth > 0:
            raise IntegrityError(
                f"blob '{staged.header.digest}' was damaged meanwhile", "run the command again"
            )
        # What is there may be deeper than ours; then what we staged on ours would not fit it.
        if there is None or there.depth > staged.header.depth:
            disk.rename_unsynced(staged.path, target)


def _added(there: FrameHeader) -> Added:
    return Added(there.stored_size, 0, there.codec, there.built_on)
