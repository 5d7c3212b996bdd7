"""The trash: what was taken out of use, until it is purged.

Everything in it lies directly in `trash/`, under a name that begins with the moment it was taken:
a frame is `<moment>.<digest>`, a directory `<moment>.<8 random digits>.<what it was>`. So what is
taken needs a rename and no new file, which a full disk still has room for.

Frames leave `blobs/`, and come back, only under the store's lock; whoever publishes something that
is built on a frame in the trash takes it back first. Readers look here for what they miss.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk, moments
from modelstore.blobs.frame import MAX_DEPTH, FrameHeader, check_frame, parse_header
from modelstore.blobs.source import open_frame
from modelstore.errors import IntegrityError, NotFoundError
from modelstore.hashing import Digest

KEPT = 14 * 24 * 3600
"""Seconds that something stays in the trash."""

_NAME = re.compile(r"(\d{8}T\d{6}Z)\.(?:([0-9a-f]{64})|[0-9a-f]{8}\.(.+))\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Trashed:
    """Something in the trash.

    Attributes:
        path: where it lies.
        moment: when it was taken, as its name says: UTC, to the second.
        digest: the blob whose frame it is; None for a directory.
        what: what a directory was, "" for a frame.
    """

    path: Path
    moment: str
    digest: Digest | None
    what: str

    @property
    def age(self) -> float:
        """Seconds since it was taken; below 0 if the clock went back, 0 if no clock has such a time."""
        try:
            then = moments.parse_stamp(self.moment)
        except ValueError:
            return 0.0
        return time.time() - then.timestamp()

    def size(self) -> int:
        """Return the bytes of its files; what is going just now counts nothing."""
        try:
            if self.digest is not None:
                return self.path.stat().st_size
            return sum(p.lstat().st_size for p in self.path.rglob("*") if not p.is_dir())
        except OSError:
            return 0


class Trash:
    """The trash of one store.

    What changes it must be called under the store's lock, `purge` excepted; one that gives back is
    good for as long as that lock is held.

    Args:
        root: the store's `.mstore` directory.
        locate: where the frame of a blob lies, or would lie.
    """

    def __init__(self, root: Path, locate: Callable[[Digest], Path]) -> None:
        self.directory = root / "trash"
        self._locate = locate
        self._touched: set[Path] = set()
        self._copies: dict[Digest, list[Path]] | None = None
        self._whole: dict[Digest, int] = {}

    # --- looking

    def content(self) -> list[Trashed]:
        """Return what mstore put here, the oldest first; names of others are passed over.

        Raises:
            StoreError: the trash cannot be listed.
        """
        return [item for item in map(_trashed, self._paths()) if item is not None]

    def unknown(self) -> list[Path]:
        """Return what is here and has no name that mstore gives."""
        return [path for path in self._paths() if _trashed(path) is None]

    def find(self, digest: Digest) -> Path | None:
        """Return where a frame of ``digest`` lies in the trash, the newest one; None for nowhere."""
        found = sorted(self.directory.glob(f"*.{digest}"))
        return found[-1] if found else None

    def _paths(self) -> list[Path]:
        with disk.explained(self.directory, "read"):
            try:
                return sorted(self.directory.iterdir())
            except FileNotFoundError:
                return []

    # --- taking

    def put(self, digest: Digest) -> None:
        """Move the frame of ``digest`` here; `sync` makes that durable."""
        source = self._locate(digest)
        disk.rename_unsynced(source, self.directory / f"{_now()}.{digest}")
        self._touched |= {source.parent, self.directory}

    def put_directory(self, path: Path, what: str) -> None:
        """Move the directory ``path`` here, durably.

        Args:
            what: what it was, as "llama_1b@v1.1"; may be looked for by that.
        """
        disk.make_dir(self.directory)
        disk.move_new(path, self.directory / f"{_now()}.{os.urandom(4).hex()}.{what}")
        disk.sync_dir(path.parent)

    # --- giving back

    def give_back(self, digest: Digest, below: int = MAX_DEPTH + 1) -> bool:
        """See to it that `blobs/` has a frame of ``digest``, with all that it is built on.

        What comes back fits: all that a frame is built on is there and less deep, or comes back
        too. A frame in `blobs/` stays, unless it is damaged or too deep for one that comes back.

        Args:
            below: more than the depth that it may have.

        Returns:
            whether it has. If not, some of what it is built on may have come back, which is harmless.
        """
        if self._whole.get(digest, below) < below:
            return True
        place = self._locate(digest)
        for path in self._candidates(digest):
            header = _header(path, digest)
            if header is None or header.depth >= below:
                continue
            if path != place and place.exists() and not _is_sound(path, digest):
                continue
            if not all(self.give_back(base, header.depth) for base in header.built_on):
                continue
            if path != place:
                disk.rename_unsynced(path, place)
                self._touched |= {place.parent, self.directory}
            self._whole[digest] = header.depth
            return True
        return False

    def sync(self) -> None:
        """Make the names of everything that moved durable."""
        touched, self._touched = self._touched, set()
        for directory in sorted(touched):
            disk.sync_dir(directory)

    def has_above(self, digest: Digest, depth: int) -> bool:
        """Tell whether `blobs/` has a frame of ``digest`` that a frame of ``depth`` can be built on."""
        header = _header(self._locate(digest), digest)
        return header is not None and header.depth < depth

    def _candidates(self, digest: Digest) -> Iterator[Path]:
        """Yield where a frame of ``digest`` may lie: its own place, then here, the newest first."""
        yield self._locate(digest)
        if self._copies is None:  # most of the time nothing is missing
            self._copies = {}
            for item in reversed(self.content()):
                if item.digest is not None:
                    self._copies.setdefault(item.digest, []).append(item.path)
        yield from self._copies.get(digest, [])

    # --- purging

    def purge(self, item: Trashed) -> int:
        """Remove something for good; return the bytes that are free now."""
        size = item.size()
        if item.digest is not None:
            disk.remove(item.path)
        else:
            disk.remove_tree(item.path)
        return size


def directories(content: list[Trashed], what: str) -> Iterator[Path]:
    """Yield the directories in ``content`` that were ``what``, the newest first."""
    yield from (
        item.path for item in reversed(content) if item.digest is None and item.what == what
    )


def _now() -> str:
    return moments.stamp(moments.from_seconds(time.time()))


def _trashed(path: Path) -> Trashed | None:
    match = _NAME.match(path.name)
    if match is None:
        return None
    moment, digest, what = match.groups()
    return Trashed(path, moment, Digest(digest) if digest else None, what or "")


def _header(path: Path, digest: Digest) -> FrameHeader | None:
    """Return the header of the frame at ``path``, None where there is none, or a damaged one."""
    try:
        with open_frame(path, digest) as source:
            return parse_header(source, digest)
    except (IntegrityError, NotFoundError):
        return None


def _is_sound(path: Path, digest: Digest) -> bool:
    """Tell whether no byte of the frame at ``path`` was changed."""
    try:
        with open_frame(path, digest) as source:
            check_frame(source, digest)
    except (IntegrityError, NotFoundError):
        return False
    return True
