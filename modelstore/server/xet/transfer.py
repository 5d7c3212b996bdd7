"""A transfer: the xorbs of one upload, and the files that shards make of them.

A client remembers what it sent to an address, and sends that no more. So every upload has an address
of its own, which ends with the commit: what a client remembers of it is never asked for again.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
from array import array
from dataclasses import dataclass
from pathlib import Path

from modelstore import disk
from modelstore.blobs.source import FileSource
from modelstore.server.inbox import Inbox, Sending
from modelstore.server.xet.shard import BadShardError, ShardFile, Term, files

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Xorb:
    """A xorb that has come.

    Attributes:
        path: where the bytes of its chunks lie, one after the other.
        ends: where each of them ends.
    """

    path: Path
    ends: array[int]

    def window(self, term: Term) -> tuple[int, int]:
        """Return where the bytes of ``term`` lie.

        Raises:
            BadShardError: it has no such chunks.
        """
        if not 0 <= term.start < term.stop <= len(self.ends):
            raise BadShardError(f"the xorb {term.xorb} has no chunks {term.start} to {term.stop}")
        start = self.ends[term.start - 1] if term.start else 0
        stop = self.ends[term.stop - 1]
        if stop - start != term.size:
            raise BadShardError(f"chunks of the xorb {term.xorb} have not {term.size} bytes")
        return start, stop


class Transfer(Sending):
    """One upload; several threads may use it at once."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self._inbox = inbox
        self._xorbs: dict[str, Xorb] = {}
        self._made: dict[str, str] = {}
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def add(self, name: str, xorb: Xorb) -> bool:
        """Keep a xorb; return whether it was not there."""
        with self._lock:
            known = self._xorbs.setdefault(name, xorb)
        if known is not xorb:
            disk.remove(xorb.path)
        return known is xorb

    def parts(self) -> list[Path]:
        """Return the files of the xorbs that came."""
        with self._lock:
            return [xorb.path for xorb in self._xorbs.values()]

    def take_shard(self, path: Path) -> None:
        """Put together the files of a shard, unless they are there.

        A client that waits in vain sends its shard again, so what was made is made once.

        Raises:
            BadShardError: it is none, or names what did not come.
            DiskFullError: there is no room for a file.
        """
        if not path.stat().st_size:
            raise BadShardError("the shard is empty")
        with self._making, path.open("rb") as handle:
            # no copy is made of what may be 64 MiB; it is closed with the last view of it
            for file in files(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)):
                made = self._made.get(file.name)
                if made is None or self._inbox.file(made) is None:
                    self._made[file.name] = self._make(file)

    def _make(self, file: ShardFile) -> str:
        """Put a file together and return its SHA-256."""
        self._inbox.require_room(file.size)
        path = self._inbox.new_path()
        sha256 = hashlib.sha256()
        with disk.NewFile(path) as new:
            for term in file.terms():
                self._copy(term, new, sha256)
        found = sha256.hexdigest()
        if file.sha256 not in ("", found):
            disk.remove(path)
            raise BadShardError(f"the file {file.name} has not the SHA-256 {file.sha256}")
        self._inbox.keep(found, path)
        return found

    def _copy(self, term: Term, new: disk.NewFile, sha256: hashlib._Hash) -> None:
        xorb = self._xorbs.get(term.xorb)
        if xorb is None:
            raise BadShardError(f"the xorb {term.xorb} was not sent; upload the file again")
        start, stop = xorb.window(term)
        self._inbox.note_use()
        with FileSource(xorb.path) as source:
            for at in range(start, stop, _PIECE):
                piece = source.read(at, min(at + _PIECE, stop))
                new.write(piece)
                sha256.update(piece)
