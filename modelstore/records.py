"""The records of one registry, wherever an intact copy of them lies.

`refs/` holds one file per change and decides. The journal repeats every record byte for byte, so
where a record in `refs/` is damaged or missing, its line in the journal stands in: its own checksum
says that it is whole, and the digests of the chain say that it is the one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.canonical import parse_mapping
from modelstore.errors import IntegrityError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.reading import read_file
from modelstore.state import apply, follows, open_record
from modelstore.view import open_view

_TAIL = 1 << 16
_NAME = re.compile(r"(base-)?[0-9]{10}\.json\Z")

Document = Mapping[str, Any]
"""What a registry holds at one moment; see `modelstore.state.State`."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The state that a chain of records leads to.

    Attributes:
        document: that state.
        copies: records that came from the journal, because `refs/` has no intact one, by number.
        newest: the highest number in `refs/`, damaged or not; 0 where there is none.
    """

    document: Document
    copies: Mapping[int, bytes]
    newest: int

    @property
    def ahead(self) -> int:
        """How many changes the journal has beyond `refs/`, as after pulling it through Git."""
        return sum(seq > self.newest for seq in self.copies)

    @property
    def mended(self) -> list[int]:
        """The records that `refs/` should have and has not."""
        return [seq for seq in self.copies if seq <= self.newest]


class Records:
    """Reads the records of one registry.

    Args:
        model: its name, for messages.
        refs: the directory of its records.
        journal: the file that repeats them.
    """

    def __init__(self, model: ModelName, refs: Path, journal: Path) -> None:
        self.model = model
        self.refs = refs
        self.journal = journal

    def numbers(self) -> dict[int, Path]:
        """Return the files of single records, damaged or not, by number."""
        return {int(name[:-5]): self.refs / name for name in self._names() if name[0] != "b"}

    def bases(self) -> dict[int, Path]:
        """Return the files of whole states, damaged or not, by number, the newest first."""
        names = sorted((name for name in self._names() if name[0] == "b"), reverse=True)
        return {int(name[5:-5]): self.refs / name for name in names}

    def newest(self) -> int:
        """Return the highest number of a record or a whole state; 0 where there is none."""
        return max((int(name[-15:-5]) for name in self._names()), default=0)

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.refs) if _NAME.match(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk.explain(error, self.refs, "read") from error

    def base(self) -> Document | None:
        """Return the newest whole state that is intact, None where there is none."""
        opened = (open_view(read(path), path.name) for path in self.bases().values())
        return next((document for document in opened if document is not None), None)

    def copies(self) -> dict[int, list[bytes]]:
        """Return the intact records that the journal holds, by number.

        Where locks do not hold, or histories were merged, a number may come more than once.
        """
        found: dict[int, list[bytes]] = {}
        for row in (read(self.journal) or b"").split(b"\n"):
            payload = row + b"\n"
            with suppress(IntegrityError):
                record = open_record(payload, self.journal.name)
                if record is not None and payload not in found.setdefault(record["seq"], []):
                    found[record["seq"]].append(payload)
        return found

    def chain(self, head: Digest) -> dict[int, bytes]:
        """Return the records that lead to ``head``, by number, wherever an intact copy of them lies."""
        payloads = [read(path) for path in self.numbers().values()]
        payloads += [line for lines in self.copies().values() for line in lines]
        known = {digest_of(payload): payload for payload in payloads if payload is not None}
        chain: dict[int, bytes] = {}
        while head in known:
            record = open_record(known[head], "a record")
            if record is None:
                break
            chain[record["seq"]] = known[head]
            head = Digest(record.get("prev", ""))
        return chain

    def forward(self, document: Document, wanted: Document | None = None) -> Replayed:
        """Apply the records that follow ``document``.

        Args:
            wanted: the intact view. If it is beyond `refs/`, changes that only the journal has are
                applied if they lead to it.

        Raises:
            IntegrityError: a record is damaged or missing, and no copy of it is intact.
        """
        walk = _Walk(self, document)
        newest = walk.to_end()
        if self._ends_at(walk.document):
            return Replayed(walk.document, walk.copies, newest)
        beyond = walk.beyond()
        claimed = walk.seq if wanted is None else wanted["seq"]
        if (
            wanted is not None
            and claimed > walk.seq
            and beyond.heads.get(claimed) != wanted["head"]
        ):
            return Replayed(walk.document, walk.copies, newest)
        return Replayed(beyond.document, {**walk.copies, **beyond.copies}, newest)

    def _ends_at(self, document: Document) -> bool:
        """Tell, mostly by the last line, whether the journal has nothing beyond ``document``."""
        data = tail(self.journal)
        last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
        return bool(digest_of(last) == document["head"] or last_seq(data) <= document["seq"])

    def vouch_for(self, document: Document) -> bool:
        """Tell whether `refs/` says that ``document`` is a state of this registry.

        The record of its last change has its digest; or the next one names that; or it is there,
        damaged, and the newest, so that nothing else can be meant.
        """
        seq, head = document["seq"], document["head"]
        payload = read(record_path(self.refs, seq))
        if payload is not None and digest_of(payload) == head:
            return True
        base = open_view(read(base_path(self.refs, seq)), self.model)
        if base is not None:
            return bool(base["head"] == head)
        after = read(record_path(self.refs, seq + 1))
        following = None if after is None else open_record(after, f"record {seq + 1}")
        if following is not None:
            return follows(following, document)
        damaged = payload is not None and open_record(payload, f"record {seq}") is None
        return damaged and seq == self.newest()


class _Walk:
    """A way along the chain: the state so far, and what it took from the journal."""

    def __init__(self, records: Records, document: Document) -> None:
        self._records = records
        self._lines: dict[int, list[bytes]] | None = None
        self.document = document
        self.copies: dict[int, bytes] = {}
        self.heads: dict[int, str] = {}

    @property
    def seq(self) -> int:
        return int(self.document["seq"])

    def to_end(self) -> int:
        """Go as far as `refs/` reaches; return the highest number there is in it."""
        newest: int | None = None
        while True:
            payload = read(record_path(self._records.refs, self.seq + 1))
            if payload is not None and self._step(payload):
                continue
            if newest is None:  # listed only now, and what is missing is looked for once more
                newest = self._records.newest()
                continue
            if newest <= self.seq:
                return self.seq
            if not self._step_by_copy():
                raise IntegrityError(
                    f"record {self.seq + 1} of {self._records.model} is damaged or missing, "
                    "and so is its copy in the journal",
                    "run: mstore fsck --repair",
                )

    def beyond(self) -> _Walk:
        """Return the way on through the journal alone."""
        walk = _Walk(self._records, self.document)
        walk._lines = self._lines
        while walk._step_by_copy():
            walk.heads[walk.seq] = walk.document["head"]
        return walk

    def _step(self, payload: bytes) -> bool:
        """Apply the record ``payload``; return whether it is intact and has the number it should.

        Raises:
            IntegrityError: it is intact and follows something else.
        """
        what = f"record {self.seq + 1} of {self._records.model}"
        record = open_record(payload, what)
        if record is None or record["seq"] != self.seq + 1:
            return False
        if not follows(record, self.document):
            raise IntegrityError(f"{what} does not follow the one before it", "run: mstore fsck")
        self.document = apply(self.document, record, digest_of(payload))
        return True

    def _step_by_copy(self) -> bool:
        """Apply the journal's line for the next record; return whether there is one that follows."""
        if self._lines is None:
            self._lines = self._records.copies()
        seq = self.seq + 1
        for payload in reversed(self._lines.get(seq, [])):  # the last is what was made here
            record = open_record(payload, f"line {seq} of {self._records.journal.name}")
            if record is None or not follows(record, self.document):
                continue
            after = apply(self.document, record, digest_of(payload))
            if not self._contradicted(after):
                self.document = after
                self.copies[seq] = payload
                return True
        return False

    def _contradicted(self, document: Document) -> bool:
        """Tell whether `refs/` has an intact record of the next change that follows something else."""
        seq = document["seq"] + 1
        payload = read(record_path(self._records.refs, seq))
        record = None if payload is None else open_record(payload, f"record {seq}")
        return record is not None and record["seq"] == seq and not follows(record, document)


def record_path(refs: Path, seq: int) -> Path:
    """Return where the record of change ``seq`` lies, or would lie."""
    return refs / f"{seq:010d}.json"


def base_path(refs: Path, seq: int) -> Path:
    """Return where the whole state after change ``seq`` lies, or would lie."""
    return refs / f"base-{seq:010d}.json"


def read(path: Path) -> bytes | None:
    """Return the bytes of a file, None where there is none.

    Raises:
        StoreError: it is there and cannot be read.
    """
    try:
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise disk.explain(error, path, "read") from error


def tail(path: Path) -> bytes:
    """Return the end of a file, long enough to hold its last whole line and what follows it."""
    if not path.exists():
        return b""
    with disk.explained(path, "read"), path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        size = _TAIL
        while True:
            file.seek(max(0, end - size))
            data = file.read()
            if size >= end or data.count(b"\n") > 1:
                return data
            size *= 8  # the record of an adoption has all versions in one line


def last_seq(data: bytes) -> int:
    """Return the number of the last record in ``data`` that can be read, 0 where there is none."""
    for row in reversed(data.split(b"\n")):
        with suppress(IntegrityError, KeyError, ValueError, TypeError):
            return int(parse_mapping(row, "a line of the journal")["seq"])
    return 0


def whole(data: bytes) -> int:
    """Return the length of ``data`` without what was being written when the machine stopped.

    That is half a line, or lines with zeros in them where the file had grown before its bytes came.
    """
    end = data.rfind(b"\n") + 1
    while end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if b"\0" not in data[start:end]:
            break
        end = start
    return end
