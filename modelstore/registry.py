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

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelstore import disk
from modelstore.canonical import parse_mapping
from modelstore.errors import ConflictError, IntegrityError, NotFoundError
from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.records import (
    Records,
    Replayed,
    base_path,
    last_seq,
    read,
    record_path,
    tail,
    whole,
)
from modelstore.state import Change, State, apply, empty_document, make_record
from modelstore.view import is_ours, open_view, render

VIEW = "model_registry.json"
JOURNAL = "journal.jsonl"

COMPACT_EVERY = 256
"""Changes between two whole states in refs/, and the number of single records kept behind one."""

_ABSENT = (
    "only the registry of {model} is here, as in a Git clone; get its content with: mstore pull, "
    "or take in what its directories hold with: mstore adopt"
)
_KEPT_DIGITS = 16
_KEPT_SO = "every change writes it again, and this one is kept in .mstore/adopted/"


class Registry:
    """Reads and changes the registry of one model.

    Attributes:
        records: its records, damaged or not.

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
        self.records = Records(model, refs, directory / JOURNAL)

    def exists(self) -> bool:
        """Tell whether the model has a registry of mstore, whatever state it is in."""
        if self.has_records() or is_ours(read(self.directory / VIEW)):
            return True
        return self._replay_journal() is not None

    def has_records(self) -> bool:
        """Tell whether there is more than the view, which is all that a Git clone brings."""
        return self._refs.is_dir() and any(self._refs.glob("*.json"))

    def is_foreign(self) -> bool:
        """Tell whether there is a `model_registry.json` that mstore did not make, and no other."""
        return read(self.directory / VIEW) is not None and not self.exists()

    def state(self) -> State:
        """Return the newest state; takes no lock.

        Raises:
            NotFoundError: the model has no registry of mstore.
            IntegrityError: neither the view nor the records can be read.
        """
        view = read(self.directory / VIEW)
        try:
            found = self._replay(view)
        except IntegrityError:
            if self._moved(view):  # what we were about to read was compacted meanwhile
                return self.state()
            raise
        if found is None:
            return State(*self._without_records(view))
        if found.copies and self._moved(view):
            return self.state()
        return State(found.document, self._notice(view, found))

    def replayed(self) -> Replayed | None:
        """Return the newest state as the records tell it; None where there are none.

        Raises:
            IntegrityError: a record is damaged, and so is its copy.
        """
        return self._replay(self.view())

    def ahead(self) -> int:
        """Return how many changes the journal has that refs/ has not, as after git pull."""
        found = self.replayed() if self.has_records() else None
        return found.ahead if found is not None else 0

    def take_over(self) -> int:
        """Put records that the journal proves and `refs/` lacks there; the caller holds the lock.

        They are changes that were pulled through Git, or files that were lost. Damaged ones stay
        for `mstore fsck --repair`.

        Returns:
            how many were put there.
        """
        found = self.replayed() if self.has_records() else None
        taken = 0
        for seq, payload in sorted(found.copies.items()) if found is not None else ():
            path = record_path(self._refs, seq)
            if not path.exists():
                disk.create(path, payload)
                taken += 1
        if taken:
            disk.sync_dir(self._refs)
        return taken

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
        if before.seq and not self.chains(before.document):
            self.take_over()
        if before.seq and not self.chains(before.document):
            disk.replace(base_path(self._refs, before.seq), render(before.document))
        record, payload = make_record(before, change, at)
        after = apply(before.document, record, digest_of(payload))
        try:
            disk.create(record_path(self._refs, after["seq"]), payload)
        except FileExistsError as error:
            raise ConflictError(
                f"another process changed {self.model} at the same moment", "run the command again"
            ) from error
        disk.sync_dir(self._refs)
        self.append_journal(after["seq"], payload)
        self.write_view(after)
        if after["seq"] % COMPACT_EVERY == 0:
            self._compact(after)
        return State(after, before.notice)

    def lags(self) -> bool:
        """Tell whether a crash kept the newest changes from the view."""
        view = self.view()
        document = open_view(view, str(self.model))
        if document is None:
            return view is None and self.has_records()
        return bool(document["seq"] < self.state().seq)

    def bring_up(self) -> None:
        """Write what a crash kept from the journal and the view; the caller holds the store's lock.

        For whoever finds that a change was made already, and would say so beside an old view.
        """
        if not self.lags():
            return
        document = self.state().document
        payload = read(record_path(self._refs, document["seq"]))
        if payload is not None and last_seq(tail(self.directory / JOURNAL)) < document["seq"]:
            self.append_journal(document["seq"], payload)
        disk.make_dir(self.directory)
        self.write_view(document)

    def view(self) -> bytes | None:
        """Return the bytes that are in the view's place, whoever wrote them; None for none."""
        return read(self.directory / VIEW)

    def edited_views(self) -> list[bytes]:
        """Return the views that somebody edited: the one in place, then replaced ones, newest first.

        What the registry was before it was adopted is the oldest of them.
        """
        kept = sorted(self._kept_views(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        found = [self.view(), *map(read, kept)]
        return [view for view in found if view is not None and open_view(view, VIEW) is None]

    def journal(self) -> list[dict[str, Any]]:
        """Return every change there was, oldest first, as far as the journal reaches.

        Raises:
            IntegrityError: a line of it is no record.
        """
        data = read(self.directory / JOURNAL) or b""
        rows = [row for row in data[: whole(data)].split(b"\n") if row]
        records = {}
        for row in rows:
            record = parse_mapping(row, JOURNAL)
            if not isinstance(record.get("seq"), int):
                raise IntegrityError(f"'{self.directory / JOURNAL}' holds a line that is no record")
            record.pop("checksum", None)
            records[record["seq"]] = record  # where locks do not hold, a line may come twice
        return [records[seq] for seq in sorted(records)]

    # --- reading

    def _replay(self, view: bytes | None) -> Replayed | None:
        """Return the newest state as the records tell it; None where there are none.

        The view saves reading most of them, if its head is the record that refs/ holds under its
        number.
        """
        document = open_view(view, str(self.model))
        if document is not None and self.chains(document):
            return self.records.forward(document, document)
        if not self.has_records():
            return self._replay_journal() if document is None else None
        start = self.records.base() or empty_document(self.model)
        try:
            return self.records.forward(start, document)
        except IntegrityError:
            if document is None or not self.records.vouch_for(document):
                raise
            return self.records.forward(document, document)

    def _replay_journal(self) -> Replayed | None:
        """Return what the journal alone tells; None where it does not begin at the beginning."""
        found = self.records.forward(empty_document(self.model))
        return found if found.copies else None

    def _without_records(self, view: bytes | None) -> tuple[Mapping[str, Any], str]:
        """Return the state, and the notice, where the view is all there is, as in a Git clone."""
        said = open_view(view, str(self.model))
        if said is not None:
            document = self.records.forward(said).document  # the journal may reach further
            had_some = any(values.get("id") for values in document["versions"].values())
            return document, _ABSENT.format(model=self.model) if had_some else ""
        if view is not None and not is_ours(view):
            raise NotFoundError(
                f"'{self.directory / VIEW}' was not made by mstore", "run: mstore adopt"
            )
        if view is None:
            raise NotFoundError(f"there is no model {self.model!r}", "run: mstore list")
        raise IntegrityError(
            f"'{self.directory / VIEW}' is damaged, and so is the journal beside it",
            f"get both back, as with: git -C '{self.directory}' checkout {VIEW} {JOURNAL}",
        )

    def chains(self, document: Mapping[str, Any]) -> bool:
        """Tell whether the view's head is the record that refs/ holds under its number."""
        seq = document["seq"]
        record = read(record_path(self._refs, seq))
        if record is not None:
            return bool(digest_of(record) == document["head"])
        base = open_view(read(base_path(self._refs, seq)), VIEW)
        return base is not None and bool(base["head"] == document["head"])

    def _moved(self, view: bytes | None) -> bool:
        return read(self.directory / VIEW) != view

    def _notice(self, view: bytes | None, found: Replayed) -> str:
        """Return what a reader should know about the files that the state was read from."""
        if found.mended:
            numbers = ", ".join(map(str, found.mended))
            return (
                f"record {numbers} of {self.model} is damaged or missing in .mstore/refs, and was "
                "read from the journal; mend it with: mstore fsck --repair"
            )
        if found.ahead:
            changes = "1 change" if found.ahead == 1 else f"{found.ahead} changes"
            return (
                f"the journal of {self.model} has {changes} that .mstore has not, as after "
                "git pull; the next change takes them over, and so does: mstore adopt"
            )
        document = open_view(view, VIEW)
        if view is not None and document is not None and self.records.vouch_for(document):
            return self._lag(view, document, found)
        return self._not_used(view, document, found.document)

    def _not_used(
        self, view: bytes | None, said: Mapping[str, Any] | None, document: Mapping[str, Any]
    ) -> str:
        path = self.directory / VIEW
        if view is None:
            return f"'{path}' was missing; every change writes it again"
        if said is not None and read(record_path(self._refs, said["seq"])) is not None:
            what = f"is of another history: its change {said['seq']} is not the one made here"
            return f"'{path}' {what}; it is not used, {_KEPT_SO}"
        if said is not None:
            what = "was an older copy, or that of another store, and is not used"
            return f"'{path}' {what}; {_KEPT_SO}"
        return (
            f"'{path}' is not what mstore wrote, it was edited, and is not used; "
            "take over what it says with: mstore adopt "
            "(every change writes it again, and the edited one is kept in .mstore/adopted/)"
        )

    def _lag(self, view: bytes, said: Mapping[str, Any], found: Replayed) -> str:
        """Return the notice for a view that was put back to how it was before the newest records.

        Between a record and its view there is a moment, and may be a crash; such a view is older
        than the record that it lacks.
        """
        path = self.directory / VIEW
        if said["seq"] >= found.document["seq"]:
            return ""
        record = record_path(self._refs, said["seq"] + 1)
        try:
            put_back = path.stat().st_mtime_ns > record.stat().st_mtime_ns
        except FileNotFoundError:
            return ""
        if not put_back or self._moved(view):  # or a change was made since it was read
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

    def append_journal(self, seq: int, payload: bytes) -> None:
        """Append the record, after mending what a crash left: a torn line, or missing ones."""
        path = self.directory / JOURNAL
        data = tail(path)
        end = whole(data)
        if end < len(data):
            disk.truncate(path, path.stat().st_size - len(data) + end)
            data = tail(path)
        last = last_seq(data)
        missing = [read(record_path(self._refs, n)) for n in range(last + 1, seq)]
        disk.append(path, b"".join(m for m in missing if m) + payload)

    def write_view(self, document: Mapping[str, Any]) -> None:
        """Write the view of ``document``; the caller holds the lock. Bytes of others are kept."""
        path = self.directory / VIEW
        old = read(path)
        known = open_view(old, VIEW)
        if old is not None and (known is None or not self.chains(known)):
            disk.make_dir(self._kept)
            kept = self._kept / f"{self.model}-{digest_of(old)[:_KEPT_DIGITS]}.json"
            if not kept.exists():
                disk.create(kept, old)
                disk.sync_dir(self._kept)
        disk.replace(path, render(document, old))

    def _compact(self, document: Mapping[str, Any]) -> None:
        with suppress(
            FileExistsError
        ):  # its name is synced with the next record's, a round too early
            disk.create(base_path(self._refs, document["seq"]), render(document))
        for path in self._refs.iterdir():
            number = path.stem.removeprefix("base-")
            # the base of one round ago stays, and with it the records that follow it
            last = document["seq"] - COMPACT_EVERY - path.stem.startswith("base-")
            if number.isdigit() and int(number) <= last:
                disk.remove(path)
