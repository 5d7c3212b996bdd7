"""Checking one registry, and mending it: records, whole states, view and journal.

They say the same four times, and the digests of the chain prove which bytes are the right ones; so
whatever is damaged is made again from the others, byte for byte. The damaged original is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from modelstore import disk
from modelstore.errors import IntegrityError, NewerFormatError, NotFoundError
from modelstore.hashing import Digest, digest_of
from modelstore.names import ModelName
from modelstore.ops.findings import Finding
from modelstore.records import Document, Records, base_path, read, record_path
from modelstore.registry import JOURNAL, VIEW, Registry
from modelstore.state import empty_document, open_record
from modelstore.store import META, Store
from modelstore.view import open_view, render


def check_registry(store: Store, model: ModelName) -> list[Finding]:
    """Return what is wrong with the registry of ``model``; changes nothing."""
    registry = store.registry(model)
    findings = [*_records(registry.records), *_bases(registry.records)]
    try:
        state = registry.state()
        found = registry.replayed()
    except (IntegrityError, NotFoundError, NewerFormatError) as error:
        return [*findings, Finding("registry", f"{model}", f"cannot be read: {error.message}")]
    if found is None:
        if _has_content(store, state.document):
            what = (
                "is missing, as a killed pull --rebase leaves it; the next change writes it again"
            )
            return [*findings, _note(f"{META}/refs/{model}", what)]
        # a Git clone: the view is all there is, and it is intact
        notice = f": {state.notice}" if state.notice else ""
        return [*findings, _note(f"{META}/refs/{model}", f"is not here{notice}")]
    if found.ahead:
        name = f"{model}/{JOURNAL}"
        findings.append(_note(name, f"has changes that {META}/refs/ lacks: {found.ahead}"))
    alone = _alone(registry.records)
    if registry.has_records() and not found.ahead and not findings and not _is(alone, state.head):
        what = "do not tell the state, which the view or the journal tells"
        findings.append(Finding("registry", f"{META}/refs/{model}", what))
    document = alone if alone is not None and _is(alone, state.head) else found.document
    return [*findings, *_view(registry, document), *_journal(registry, document)]


def mend_registry(store: Store, model: ModelName) -> None:
    """Make whatever is damaged of a registry again; the damaged bytes go to quarantine/.

    Every file holds something whole at any moment, so a crash at any step leaves no less than
    there was.

    Raises:
        IntegrityError: what is left of it does not tell the state.
    """
    with store.lock():
        registry = store.registry(model)
        registry.take_over()
        found = registry.replayed()
        document = registry.state().document if found is None else found.document
        if found is None and not _has_content(store, document):
            return
        _Mending(registry, document, Quarantine(store.meta)).run()


def _has_content(store: Store, document: Document) -> bool:
    """Tell whether the versions that a view tells of are here: then its records were lost."""
    names = {values.get("id") for values in document["versions"].values()} - {None}
    return bool(names) and all(name in store.blobs for name in names)


class Quarantine:
    """Where damaged bytes are kept.

    Args:
        meta: the store's `.mstore` directory.
    """

    def __init__(self, meta: Path) -> None:
        self._directory = meta / "quarantine"

    def keep(self, path: Path, name: str) -> None:
        """Give the bytes at ``path`` a further name in quarantine/, durably."""
        disk.make_dir(self._directory)
        disk.link(path, self._place(name))
        disk.sync_dir(self._directory)

    def take(self, path: Path, name: str) -> None:
        """Move ``path`` to quarantine/, durably."""
        disk.make_dir(self._directory)
        disk.move_new(path, self._place(name))
        disk.sync_dir(path.parent)

    def _place(self, name: str) -> Path:
        return self._directory / f"{name}.{os.urandom(4).hex()}"


class _Mending:
    """Mends one registry whose newest state is known."""

    def __init__(self, registry: Registry, document: Document, quarantine: Quarantine) -> None:
        self._registry = registry
        self._records = registry.records
        self._document = document
        self._quarantine = quarantine

    def run(self) -> None:
        """Mend the records first, which decide, then what follows from them."""
        chain = self._records.chain(self._document["head"])
        numbers = self._records.numbers()
        lowest = min(numbers, default=self._document["seq"] + 1)
        for seq in range(lowest, self._document["seq"] + 1):
            if seq in chain:
                self._put(record_path(self._records.refs, seq), chain[seq])
        if not _is(_alone(self._records), self._document["head"]):
            disk.make_dir(self._records.refs)
            self._put(base_path(self._records.refs, self._document["seq"]), render(self._document))
        for path in [p for seq, p in numbers.items() if _intact(p, seq) is None]:
            self._quarantine.take(path, self._name(path))
        for seq, path in self._records.bases().items():
            if not _is_base(path, seq):
                self._quarantine.take(path, self._name(path))
        if open_view(self._registry.view(), VIEW) != self._document:
            self._registry.write_view(self._document)
        self._put(self._records.journal, whole_journal(self._records, self._document["head"]))

    def _put(self, path: Path, payload: bytes) -> None:
        """Make ``path`` hold ``payload``, and keep what it held instead."""
        there = read(path)
        if there == payload:
            return
        if there is not None:
            self._quarantine.keep(path, self._name(path))
        disk.replace(path, payload)

    def _name(self, path: Path) -> str:
        return f"{self._registry.model}-{path.name}"


# --- what is right


def whole_journal(records: Records, head: Digest) -> bytes:
    """Return the journal as it should be: the chain that leads to ``head``.

    Older intact lines that nothing links to it any more go before it.
    """
    chain = records.chain(head)
    first = min(chain, default=None)
    older = {n: lines for n, lines in records.copies().items() if first is None or n < first}
    rows = [line for _, lines in sorted(older.items()) for line in lines]
    return b"".join([*rows, *(payload for _, payload in sorted(chain.items()))])


def _alone(records: Records) -> Document | None:
    """Return the state that refs/ tells without the journal, None where it does not."""
    without = Records(records.model, records.refs, records.refs / "no journal")
    try:
        return without.forward(records.base() or empty_document(records.model)).document
    except IntegrityError:
        return None


def _is(document: Document | None, head: Digest) -> bool:
    return document is not None and bool(document["head"] == head)


# --- what is wrong


def _records(records: Records) -> Iterator[Finding]:
    numbers = records.numbers()
    base = records.base()
    covered = 0 if base is None else base["seq"]
    before: tuple[int, Digest] | None = None
    for seq in range(min(numbers, default=1), max(numbers, default=0) + 1):
        name = f"{META}/refs/{records.model}/{record_path(records.refs, seq).name}"
        if seq not in numbers:
            whole = "is missing; a later whole state makes up for it"
            yield _note(name, whole) if seq <= covered else Finding("registry", name, "is missing")
            continue
        record = _intact(numbers[seq], seq)
        if record is None:
            yield Finding("registry", name, "is damaged")
            continue
        if before is not None and before[0] == seq - 1 and record.get("prev") != before[1]:
            yield Finding("registry", name, "does not follow the record before it")
        before = seq, digest_of(read(numbers[seq]) or b"")


def _intact(path: Path, seq: int) -> Mapping[str, object] | None:
    """Return the record at ``path`` if it is intact and the one that its name says."""
    try:
        record = open_record(read(path) or b"", path.name)
    except IntegrityError:
        return None
    return record if record is not None and record["seq"] == seq else None


def _bases(records: Records) -> Iterator[Finding]:
    numbers = records.numbers()
    for seq, path in records.bases().items():
        name = f"{META}/refs/{records.model}/{path.name}"
        if not _is_base(path, seq):
            yield Finding("registry", name, "is damaged")
        elif seq in numbers and _intact(numbers[seq], seq) is not None:
            document = open_view(read(path), path.name)
            if not _is(document, digest_of(read(numbers[seq]) or b"")):
                yield Finding("registry", name, "is of another history than the records")


def _is_base(path: Path, seq: int) -> bool:
    document = open_view(read(path), path.name)
    return document is not None and bool(document["seq"] == seq)


def _view(registry: Registry, document: Document) -> Iterator[Finding]:
    name = f"{registry.model}/{VIEW}"
    view = registry.view()
    said = open_view(view, VIEW)
    if said == document:
        return
    if view is None:
        yield _note(name, "is missing; the next change writes it")
    elif said is None:
        yield Finding("registry", name, "is not what mstore wrote: it was edited, or is damaged")
    elif said["seq"] < document["seq"] and registry.records.vouch_for(said):
        yield _note(name, "is older than the records; the next change writes it again")
    else:
        yield Finding("registry", name, "does not say what the records say")


def _journal(registry: Registry, document: Document) -> Iterator[Finding]:
    name = f"{registry.model}/{JOURNAL}"
    data = read(registry.records.journal)
    whole = whole_journal(registry.records, document["head"])
    if data == whole or (data is None and not whole):
        return
    lost = whole.removeprefix(data or b"").count(b"\n") if whole.startswith(data or b"") else 0
    if 0 < lost <= len(registry.records.numbers()):
        lines = "its newest line" if lost == 1 else f"its newest {lost} lines"
        yield _note(name, f"lacks {lines}, as after a crash; the next change adds what is missing")
    elif data is None:
        yield Finding("registry", name, "is missing")
    else:
        yield Finding("registry", name, "is not the records in order: it was edited, or is damaged")


def _note(name: str, what: str) -> Finding:
    return Finding("registry", name, what, serious=False)
