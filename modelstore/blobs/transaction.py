"""Adding blobs: staged aside, made durable together, and only then given their names.

A transaction owns `tmp/<id>/`, held by the lock `tmp/<id>.lock` that dies with its process. So
what a killed process leaves behind is known for what it is, and nothing of it is in `blobs/`.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from modelstore import disk
from modelstore.blobs.frame import FrameHeader, parse_header
from modelstore.blobs.source import BytesSource, RawSource, open_frame
from modelstore.errors import (
    ConflictError,
    IntegrityError,
    LockTimeoutError,
    NotFoundError,
    StoreError,
)
from modelstore.groupsync import GroupSync
from modelstore.hashing import Digest, digest_of
from modelstore.locks import locked
from modelstore.numeric import BYTES, DType


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a blob that was added.

    Attributes:
        stored_size: bytes of its frame.
        new: whether the frame was made now; False if the store, or the transaction, had it.
        codec: the name of the frame's codec.
        base: the blob the frame is built on, or None.
    """

    stored_size: int
    new: bool
    codec: str
    base: Digest | None


@dataclass(frozen=True, slots=True)
class _Staged:
    path: Path
    header: FrameHeader


class Transaction:
    """Blobs that are staged, and published together or not at all.

    Use as a context manager. `add` may be called by several threads at once; `publish` by one,
    when no `add` is running.

    Attributes:
        directory: `tmp/<id>`; removed at the end with all that is in it.

    Args:
        root: the store's `.mstore` directory.
        locate: where the frame of a blob lies, or would lie.
        threads: how many blocks of a blob are encoded at once.
        block_log2: log2 of the values in a block.
    """

    def __init__(
        self, root: Path, locate: Callable[[Digest], Path], *, threads: int, block_log2: int
    ) -> None:
        self.directory = root / "tmp" / os.urandom(8).hex()
        self._locate_published = locate
        self._threads = threads
        self._block_log2 = block_log2
        self._staged: dict[Digest, _Staged] = {}
        self._staging = threading.Lock()
        self._numbers = itertools.count()
        self._exit = ExitStack()

    def __enter__(self) -> Transaction:
        with ExitStack() as stack:
            stack.callback(_remove_lock, self.directory)
            stack.enter_context(locked(_lock_of(self.directory)))
            disk.make_new_dir(self.directory)
            stack.callback(disk.remove_tree, self.directory)
            self._sync = stack.enter_context(GroupSync(self.directory))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    # --- adding

    def add_bytes(self, data: bytes) -> Digest:
        """Add literal bytes; return their digest."""
        digest = digest_of(data)
        self.add(digest, BytesSource(data), dtype=BYTES)
        return digest

    def add(
        self, digest: Digest, source: RawSource, *, dtype: DType, bases: Sequence[Digest] = ()
    ) -> Added:
        """Encode and stage a blob, unless the store or this transaction has it in good order.

        Args:
            digest: the blob's name.
            source: its raw bytes; not read if it is there already.
            dtype: how they are read as numbers, if they are a whole number of them.
            bases: blobs it may be made against; those absent, damaged or unfit are passed over.

        Raises:
            ConflictError: the source's bytes are not those that ``digest`` names.
            DiskFullError: there is no room to stage it.
        """
        known = self._known(digest)
        if known is not None:
            return known
        damaged = self._locate_published(digest).exists()
        if source.size % dtype.width:
            dtype = BYTES
        # What others may be built on is never made deeper: a damaged frame is replaced by one
        # without a base.
        header = self._stage(digest, source, dtype, () if damaged else bases)
        return _added(header, new=True)

    def _known(self, digest: Digest) -> Added | None:
        staged = self._staged.get(digest)
        if staged is not None:
            return _added(staged.header, new=False)
        header = self._sound_header(digest)
        return None if header is None else _added(header, new=False)

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
        self, digest: Digest, source: RawSource, dtype: DType, bases: Sequence[Digest]
    ) -> FrameHeader:
        from modelstore.blobs.choice import choose  # these load numpy
        from modelstore.blobs.encode import Encoding
        from modelstore.blobs.reader import open_reader

        path = self.directory / f"{digest}.{next(self._numbers)}"
        with ExitStack() as stack:
            candidates = []
            for base in bases:
                try:
                    candidates.append(open_reader(self._locate, base))
                except (IntegrityError, NotFoundError):
                    continue
                stack.callback(candidates[-1].close)
            choice = choose(source, dtype, candidates)
            encoding = Encoding(digest, source, dtype, choice, self._block_log2)
            header = encoding.write(path, self._threads)
        with self._staging:
            self._sync.add(path)
            return self._staged.setdefault(digest, _Staged(path, header)).header

    def _locate(self, digest: Digest) -> Path:
        staged = self._staged.get(digest)
        return self._locate_published(digest) if staged is None else staged.path

    # --- publishing

    def publish(self) -> None:
        """Make everything staged durable, and then visible; what was there already is kept.

        Raises:
            ConflictError: a blob that staged ones are built on was taken away or replaced.
            IntegrityError: a frame that appeared meanwhile is damaged; adding it again heals it.
            StoreError: the disk did not take everything; nothing may be trusted.
        """
        self._sync.add(self.directory)
        self._sync.sync()
        for staged in sorted(self._staged.values(), key=lambda staged: staged.header.depth):
            self._require_base(staged.header)
            self._name(staged)
        self._sync.sync()
        self._staged.clear()

    def _require_base(self, header: FrameHeader) -> None:
        if header.base is None:
            return
        try:
            with open_frame(self._locate_published(header.base), header.base) as source:
                depth = parse_header(source, header.base).depth
        except NotFoundError:
            depth = header.depth
        if depth >= header.depth:
            raise ConflictError(
                f"blob '{header.base}', a base of this commit, was removed or replaced meanwhile",
                "run the command again",
            )

    def _name(self, staged: _Staged) -> None:
        target = self._locate_published(staged.header.digest)
        disk.make_dir(target.parent)
        self._sync.add(target.parent)
        if disk.link(staged.path, target):
            return
        there = self._sound_header(staged.header.digest)
        if there is None and staged.header.depth > 0:
            raise IntegrityError(
                f"blob '{staged.header.digest}' was damaged meanwhile", "run the command again"
            )
        # What is there may be deeper than ours; then what we staged on ours would not fit it.
        if there is None or there.depth > staged.header.depth:
            disk.rename(staged.path, target)


def _added(header: FrameHeader, *, new: bool) -> Added:
    return Added(header.stored_size, new, header.codec, header.base)


# --- what killed processes leave


def _lock_of(directory: Path) -> Path:
    return directory.with_suffix(".lock")


def _remove_lock(directory: Path) -> None:
    with suppress(StoreError):  # what stays is known as abandoned; the error before it matters more
        disk.remove(directory.with_suffix(".lock"))
        disk.remove(directory.with_suffix(".owner"))


def remove_abandoned(root: Path) -> int:
    """Remove what transactions of killed processes left in the store ``root``; return how many.

    A transaction makes its directory when it has its lock, and removes it while it has it. So a
    directory whose lock is to be had is nobody's; a lock without one may be about to be taken.
    """
    removed = 0
    for directory in sorted(path for path in (root / "tmp").glob("*") if path.is_dir()):
        try:
            with locked(_lock_of(directory), timeout=0):
                removed += directory.is_dir()  # else it ended just now
                disk.remove_tree(directory)
        except LockTimeoutError:
            continue
        _remove_lock(directory)
    return removed
