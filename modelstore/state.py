"""What a registry holds at one moment, and how a change moves it; `modelstore.view` is its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelstore.canonical import line, parse_mapping, utf8
from modelstore.errors import IntegrityError, NewerFormatError, UsageError
from modelstore.hashing import Digest, digest_of, parse_digest
from modelstore.names import ModelName, Version, is_version, parse_version
from modelstore.view import SCHEMA, check_is, check_values, check_versions

RECORD_SCHEMA = "mstore/record/1"

_NO_DIGEST = Digest("0" * 64)
_RECORD_CHECKSUM = b', "checksum": "'


@dataclass(frozen=True, slots=True)
class Entry:
    """One version as its registry knows it.

    Attributes:
        version: its number.
        values: everything the registry holds of it: the keys of the seed (created_at,
            training_parameters, metrics, notes, description, path), ours (id, seq, parents,
            message, sizes, generated), and whatever a registry had before it was adopted.
    """

    version: Version
    values: Mapping[str, Any]

    @property
    def id(self) -> Digest | None:
        """The digest of the manifest; None for a version that was registered but is missing."""
        text = self.values.get("id")
        return parse_digest(text) if text else None

    @property
    def seq(self) -> int:
        """The sequence number of the change that added it; orders versions in time."""
        return int(self.values.get("seq", 0))

    @property
    def parents(self) -> tuple[Digest, ...]:
        """Ids of the versions it was made from."""
        return tuple(parse_digest(text) for text in self.values.get("parents", ()))

    def text(self, key: str) -> str:
        """Return the value at ``key`` as text, "" where there is none."""
        value = self.values.get(key)
        return "" if value is None else str(value)

    def mapping(self, key: str) -> dict[str, Any]:
        """Return the object at ``key``, {} where there is none."""
        value = self.values.get(key)
        return dict(value) if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class State:
    """A registry at one sequence number.

    Attributes:
        document: the view without its checksum and without is_active marks.
        notice: what a reader should know about the files it was read from, one sentence, or "".
    """

    document: Mapping[str, Any]
    notice: str = ""

    @property
    def seq(self) -> int:
        """The number of changes made so far."""
        return int(self.document["seq"])

    @property
    def head(self) -> Digest:
        """The digest of the last change's record."""
        return Digest(self.document["head"])

    @property
    def active(self) -> str:
        """The ACTIVE version, or "" before the first."""
        return self.document.get("active_version") or ""

    @property
    def aliases(self) -> dict[str, str]:
        """Aliases and the versions they name."""
        return dict(self.document.get("aliases", {}))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The moves of ACTIVE, oldest first: seq, version, at, op, why."""
        return list(self.document.get("active_history", []))

    @property
    def base_model(self) -> str:
        """The model that the line starts from, as the user spells it."""
        return str(self.document.get("base_model") or "")

    def versions(self) -> list[Version]:
        """Return all versions, in the order of their numbers."""
        return sorted(map(parse_version, self.document["versions"]), key=Version.order)

    def removed(self) -> list[Version]:
        """Return the numbers that were removed, and are not given again."""
        return [parse_version(text) for text in self.document.get("removed", {})]

    def removed_entry(self, version: str) -> Entry | None:
        """Return the entry that a removed version had; v1.1.0 finds v1.1."""
        if not is_version(version):
            return None
        wanted = parse_version(version)
        for text, values in self.document.get("removed", {}).items():
            if parse_version(text) == wanted:
                return Entry(parse_version(text), values)
        return None

    def entry(self, version: str) -> Entry | None:
        """Return the entry of ``version``; v1.1.0 finds v1.1."""
        values = self.document["versions"].get(version)
        if values is not None:
            return Entry(parse_version(version), values)
        if not is_version(version):
            return None
        wanted = parse_version(version)
        for text, found in self.document["versions"].items():
            if text.startswith(f"v{wanted.major}.{wanted.minor}") and parse_version(text) == wanted:
                return Entry(parse_version(text), found)
        return None

    def entries(self) -> list[Entry]:
        """Return all versions in the order they were added."""
        found = (Entry(parse_version(k), v) for k, v in self.document["versions"].items())
        return sorted(found, key=lambda entry: (entry.seq, entry.version))

    def newest_stored(self) -> Entry | None:
        """Return the version that was added last, of those whose content is known."""
        versions = self.document["versions"]
        stored = [text for text, values in versions.items() if values.get("id")]
        last = max((versions[text].get("seq", 0) for text in stored), default=0)
        newest = [text for text in stored if versions[text].get("seq", 0) == last]
        return self.entry(max(newest, key=parse_version)) if newest else None

    def with_id(self, digest: Digest) -> Entry | None:
        """Return the first version whose manifest has this digest."""
        for text, values in self.document["versions"].items():
            if values.get("id") == digest:
                return Entry(parse_version(text), values)
        return None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a registry, as its record holds it.

    Attributes:
        op: the verb: init, adopt, commit, set-active, rollback, alias, note, rm, undelete, pull.
        versions: entries that are added or replaced; None removes one.
        values: keys of the registry that are set; None removes one.
        active: the version that becomes ACTIVE, or None to leave it.
        why: what the user said.
        removed: entries of versions that are removed, kept for undelete; None is one put back.
        merged: the head of another chain of records, all of which this one takes over; or "".
    """

    op: str
    versions: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    active: str | None = None
    why: str = ""
    removed: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    merged: str = ""


def empty_document(model: ModelName) -> dict[str, Any]:
    """Return the state before the first change."""
    return {
        "schema": SCHEMA,
        "model_type": str(model),
        "active_version": None,
        "seq": 0,
        "head": _NO_DIGEST,
        "versions": {},
    }


def apply(document: Mapping[str, Any], record: Mapping[str, Any], head: Digest) -> dict[str, Any]:
    """Return the state after ``record``, whose own digest is ``head``."""
    after = dict(document)
    after["seq"] = record["seq"]
    after["head"] = head
    for key, value in record.get("values", {}).items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    if record.get("versions"):
        after["versions"] = _with_versions(after["versions"], record["versions"])
    if record.get("removed"):
        after["removed"] = _with_versions(after.get("removed", {}), record["removed"])
    if record.get("active"):
        after["active_version"] = record["active"]
        keys = ("seq", "at", "op", "why")
        move = {"version": record["active"], **{k: record[k] for k in keys if record.get(k)}}
        after["active_history"] = [*after.get("active_history", []), move]
    return after


def _with_versions(
    versions: Mapping[str, Any], changed: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, Any]:
    after = dict(versions)
    for name, values in changed.items():
        if values is None:
            after.pop(name, None)
        else:  # which version is active is said once, by active_version
            after[name] = {key: value for key, value in values.items() if key != "is_active"}
    return after


def make_record(before: State, change: Change, at: str) -> tuple[dict[str, Any], bytes]:
    """Return the record of ``change`` after ``before``, as a value and as the bytes of its file.

    The file is the value as one line of JSON, whose last key is the BLAKE3 of the bytes before it.

    Raises:
        UsageError: a string in the change is not UTF-8, or a reader would refuse the record.
    """
    record = {
        "schema": RECORD_SCHEMA,
        "seq": before.seq + 1,
        "prev": before.head,
        "at": at,
        "op": change.op,
        "why": change.why,
        "active": change.active,
        "values": dict(change.values),
        "versions": dict(change.versions),
        "removed": dict(change.removed),
        "merged": change.merged,
    }
    record = {key: value for key, value in record.items() if value not in (None, "", {})}
    try:
        _check(record)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"what is to be recorded is malformed: {error}") from error
    body = utf8(line(record)[:-1])
    return record, body + _RECORD_CHECKSUM + digest_of(body).encode("ascii") + b'"}\n'


def open_record(payload: bytes, what: str) -> dict[str, Any] | None:
    """Return the record that ``payload`` spells, None unless it is exactly as it was written.

    Args:
        what: the record's name, for the message.

    Raises:
        NewerFormatError: it is intact, and its schema is not one that this mstore knows.
        IntegrityError: it is intact, and yet not what a record is.
    """
    cut = payload.rfind(_RECORD_CHECKSUM)
    sealed = _RECORD_CHECKSUM + digest_of(payload[: max(0, cut)]).encode("ascii") + b'"}\n'
    if cut < 0 or payload[cut:] != sealed:
        return None
    record = parse_mapping(payload, what, sealed=True)
    if record.get("schema") != RECORD_SCHEMA:
        raise NewerFormatError(
            f"{what} has schema {record.get('schema')!r}", "pip install -U mstore"
        )
    try:
        _check(record)
    except (TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{what} is malformed: {error}") from error
    del record["checksum"]
    return record


def _check(record: Mapping[str, Any]) -> None:
    """Raise a TypeError, ValueError or AttributeError unless readers can rely on the record."""
    check_is(record.get("seq"), int)
    check_versions(record.get("versions", {}))
    check_versions(record.get("removed", {}))
    check_values(record.get("values", {}))
    for key in ("active", "at", "op", "why", "merged"):
        check_is(record.get(key, ""), str)


def parse_record(payload: bytes, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that ``payload`` spells, which must follow the state ``before``.

    Raises:
        IntegrityError: it is damaged, or follows another record.
        NewerFormatError: its schema is not one that this mstore knows.
    """
    what = f"record {before['seq'] + 1} of {before['model_type']}"
    record = open_record(payload, what)
    if record is None:
        raise IntegrityError(f"{what} is damaged", "run: mstore fsck --repair")
    if not follows(record, before):
        raise IntegrityError(f"{what} does not follow the one before it", "run: mstore fsck")
    return record


def follows(record: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Tell whether ``record`` is the next after the state ``before``."""
    return bool(record["seq"] == before["seq"] + 1 and record.get("prev") == before["head"])
