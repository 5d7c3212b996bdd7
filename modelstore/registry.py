"""The registry of one model: the ref database behind `model_registry.json`.

Three files say the same, each for its own reader:

* ``.mstore/refs/<model>/<seq>.json``: the authority. One record per change, created exclusively,
  each with the digest of the record before it. Every 256 changes the whole state is written as
  ``base-<seq>.json`` and older records go.
* ``<model>/model_registry.json``: the published view, which people, scripts and Git read.
* ``<model>/journal.jsonl``: the records, one per line, for ever (git's reflog).

A change is decided when its record exists. The journal and the view follow; whatever a crash left
behind is brought up by the next writer, and readers see through it without a lock.
A view that somebody edited is noticed and never obeyed; its bytes are kept in ``adopted/``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.canonical import parse_mapping
from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.state import (
    Change,
    State,
    apply,
    empty_document,
    make_record,
    parse_record,
)
from modelstore.view import is_ours, open_view, render

VIEW = "model_registry.json"
JOURNAL = "journal.jsonl"

COMPACT_EVERY = 256
"""Changes between two whole states in refs/, and the number of single records kept behind one."""

_TAIL = 1 << 16
_KEPT_DIGITS = 16


class Registry:
    """Reads and changes the registry of one model.

    Args:
        model: its name.
        directory: the model's directory, which holds the view and the journal.
        refs: the directory of its records.
        kept: where the bytes of edited views are kept.
    """

    def __init__(self, model: ModelName, directory: Path, refs: Path, kept: Path) -> None:
        self.model = model
        self.directory = directory
        self._refs = refs
        self._kept = kept

    def exists(self) -> bool:
        """Tell whether the model has a registry of mstore, whatever state it is in."""
        return self.has_records() or is_ours(_read(self.directory / VIEW))

    def has_records(self) -> bool:
        """Tell whether there is more than the view, which is all that a Git clone brings."""
        return self._refs.is_dir() and any(self._refs.glob("*.json"))

    def is_foreign(self) -> bool:
        """Tell whether there is a `model_registry.json` that mstore did not make, and no other."""
        view = _read(self.directory / VIEW)
        return view is not None and not is_ours(view) and not self.has_records()

    def state(self) -> State:
        """Return the newest state; takes no lock.

        Raises:
            NotFoundError: the model has no registry of mstore.
            IntegrityError: neither the view nor the records can be read.
        """
        view = _read(self.directory / VIEW)
        document = open_view(view, str(self.model))
        if view is not None and document is not None and self._chains(document):
            return State(self._forward(document), self._lag(view, document))
        rebuilt = self._rebuild()
        if rebuilt is not None:
            return State(rebuilt, self._notice(view))
        if document is not None:  # a Git clone of the small files: the view is all there is
            absent = (
                f"the content of {self.model} is not here, only its registry; "
                "take in what its directories hold with: mstore adopt"
            )
            had_some = any(values.get("id") for values in document["versions"].values())
            return State(document, absent if had_some else "")
        if view is not None and not is_ours(view):
            raise NotFoundError(
                f"'{self.directory / VIEW}' was not made by mstore", "run: mstore adopt"
            )
        if view is None:
            raise NotFoundError(f"there is no model {self.model!r}", "run: mstore list")
        raise IntegrityError(f"'{self.directory / VIEW}' is damaged", "put an intact copy back")

    def change(
        self, decide: Callable[[State], Change], at: str, *, adopting: bool = False
    ) -> State:
        """Make one change; the caller holds the store's lock.

        Args:
            decide: given the newest state, returns the change; may raise to leave all as it is.
            at: the time to record, RFC 3339.
            adopting: take the place of a registry that mstore did not make, and keep its bytes.

        Returns:
            The state after the change, which is durable, with the notice of the one before it:
            what was found in place of the view has just been written over.

        Raises:
            ConflictError: the registry is another tool's, or another process was faster.
        """
        if not adopting and self.is_foreign():  # before `decide`, which may put files in place
            raise ConflictError(
                f"'{self.directory / VIEW}' was not made by mstore", "run: mstore adopt"
            )
        before = self.state() if self.exists() else State(empty_document(self.model))
        change = decide(before)
        disk.make_dir(self.directory)
        disk.make_dir(self._refs)
        if before.seq and not self._chains(before.document):
            disk.replace(self._refs / _base_name(before.seq), render(before.document))
        record, payload = make_record(before, change, at)
        after = apply(before.document, record, digest_of(payload))
        try:
            disk.create(self._refs / _record_name(after["seq"]), payload)
        except FileExistsError as error:
            raise ConflictError(
                f"another process changed {self.model} at the same moment", "run the command again"
            ) from error
        disk.sync_dir(self._refs)
        self._append_journal(after["seq"], payload)
        self._publish(after)
        if after["seq"] % COMPACT_EVERY == 0:
            self._compact(after)
        return State(after, before.notice)

    def view(self) -> bytes | None:
        """Return the bytes that are in the view's place, whoever wrote them; None for none."""
        return _read(self.directory / VIEW)

    def edited_views(self) -> list[bytes]:
        """Return the views that somebody edited: the one in place, then replaced ones, newest first.

        What the registry was before it was adopted is the oldest of them.
        """
        kept = sorted(self._kept_views(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        found = [self.view(), *map(_read, kept)]
        return [view for view in found if view is not None and open_view(view, VIEW) is None]

    def journal(self) -> list[dict[str, Any]]:
        """Return every change there was, oldest first, as far as the journal reaches.

        Raises:
            IntegrityError: a line of it is no record.
        """
        data = _read(self.directory / JOURNAL) or b""
        rows = [row for row in data.split(b"\n")[:-1] if row]
        records = {}
        for row in rows:
            record = parse_mapping(row, JOURNAL)
            if not isinstance(record.get("seq"), int):
                raise IntegrityError(f"'{self.directory / JOURNAL}' holds a line that is no record")
            record.pop("checksum", None)
            records[record["seq"]] = record  # where locks do not hold, a line may come twice
        return [records[seq] for seq in sorted(records)]

    # --- reading

    def _chains(self, document: Mapping[str, Any]) -> bool:
        """Tell whether the view's head is the record that refs/ holds under its number."""
        seq = document["seq"]
        record = _read(self._refs / _record_name(seq))
        if record is not None:
            return bool(digest_of(record) == document["head"])
        base = open_view(_read(self._refs / _base_name(seq)), _base_name(seq))
        return base is not None and bool(base["head"] == document["head"])

    def _forward(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Apply the records that a crash kept from the view."""
        while True:
            payload = _read(self._refs / _record_name(document["seq"] + 1))
            if payload is None:
                return document
            record = parse_record(payload, document)
            document = apply(document, record, digest_of(payload))

    def _rebuild(self) -> Mapping[str, Any] | None:
        """Return the state that refs/ alone tells, None where it holds nothing."""
        if not self.has_records():
            return None
        bases = sorted(self._refs.glob("base-*.json"), reverse=True)
        for base in bases:
            document = open_view(_read(base), base.name)
            if document is not None:
                return self._forward(document)
        if not (self._refs / _record_name(1)).exists():
            raise IntegrityError(
                f"the records of {self.model} are damaged", "put an intact copy back"
            )
        return self._forward(empty_document(self.model))

    def _notice(self, view: bytes | None) -> str:
        path = self.directory / VIEW
        if view is None:
            return f"'{path}' was missing; every change writes it again"
        if open_view(view, VIEW) is not None:
            return (
                f"'{path}' was an older copy, or that of another store, and is not used; "
                "every change writes it again, and this one is kept in .mstore/adopted/"
            )
        return (
            f"'{path}' is not what mstore wrote, it was edited, and is not used; "
            "take over what it says with: mstore adopt "
            "(every change writes it again, and the edited one is kept in .mstore/adopted/)"
        )

    def _lag(self, view: bytes, document: Mapping[str, Any]) -> str:
        """Return the notice for a view that was put back to how it was before the newest records.

        Between a record and its view there is a moment, and may be a crash; such a view is older
        than the record that it lacks.
        """
        path = self.directory / VIEW
        record = self._refs / _record_name(document["seq"] + 1)
        try:
            put_back = path.stat().st_mtime_ns > record.stat().st_mtime_ns
        except FileNotFoundError:
            return ""
        if not put_back or _read(path) != view:  # or a change was made since it was read
            return ""
        return (
            f"'{path}' is older than the records of {self.model} and is not used; "
            "the next change writes it again"
        )

    def _kept_views(self) -> list[Path]:
        """Return the copies of views that changes replaced."""
        prefix = f"{self.model}-"  # of model "a" this begins those of model "a-b" too
        return [
            path
            for path in self._kept.glob(f"{prefix}*.json")
            if len(path.stem) == len(prefix) + _KEPT_DIGITS
        ]

    # --- writing

    def _append_journal(self, seq: int, payload: bytes) -> None:
        """Append the record, after mending what a crash left: a torn line, or missing ones."""
        path = self.directory / JOURNAL
        data = _tail(path)
        if not data.endswith(b"\n"):
            torn = len(data) - (data.rfind(b"\n") + 1)
            if torn:
                disk.truncate(path, path.stat().st_size - torn)
            data = _tail(path)
        last = _last_seq(data)
        missing = [_read(self._refs / _record_name(n)) for n in range(last + 1, seq)]
        disk.append(path, b"".join(m for m in missing if m) + payload)

    def _publish(self, document: Mapping[str, Any]) -> None:
        path = self.directory / VIEW
        old = _read(path)
        known = open_view(old, VIEW)
        if old is not None and (known is None or not self._chains(known)):
            disk.make_dir(self._kept)
            kept = self._kept / f"{self.model}-{digest_of(old)[:_KEPT_DIGITS]}.json"
            if not kept.exists():
                disk.create(kept, old)
                disk.sync_dir(self._kept)
        disk.replace(path, render(document, old))

    def _compact(self, document: Mapping[str, Any]) -> None:
        disk.replace(self._refs / _base_name(document["seq"]), render(document))
        for path in self._refs.iterdir():
            number = path.stem.removeprefix("base-")
            # the base of one round ago stays, and with it the records that follow it
            last = document["seq"] - COMPACT_EVERY - path.stem.startswith("base-")
            if number.isdigit() and int(number) <= last:
                disk.remove(path)


def _record_name(seq: int) -> str:
    return f"{seq:010d}.json"


def _base_name(seq: int) -> str:
    return f"base-{seq:010d}.json"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        raise disk.explain(error, path, "read") from error


def _tail(path: Path) -> bytes:
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


def _last_seq(data: bytes) -> int:
    """Return the number of the last record in ``data`` that can be read, 0 where there is none."""
    for row in reversed(data.split(b"\n")):
        with suppress(IntegrityError, KeyError, ValueError, TypeError):
            return int(parse_mapping(row, JOURNAL)["seq"])
    return 0
