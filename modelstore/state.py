"""What a registry holds at one moment: values, how a change moves them, and the text of the view.

The view, `model_registry.json`, has one version per line, so that it is quick to write and that
Git can merge it, and ends in a checksum of itself, so that an edit is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelstore.canonical import line, parse_mapping, utf8
from modelstore.errors import IntegrityError, NewerFormatError
from modelstore.hashing import Digest, check_digests, digest_of, parse_digest
from modelstore.names import ModelName, Version, is_version, parse_version

SCHEMA = "mstore/registry/1"
RECORD_SCHEMA = "mstore/record/1"

_NO_DIGEST = Digest("0" * 64)
_CHECKSUM = b'\n"checksum":"'
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
        return [parse_version(text) for text in self.document.get("removed", [])]

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
        op: the verb: init, adopt, commit, set-active, rollback, alias, note, rm, undelete.
        versions: entries that are added or replaced; None removes one.
        values: keys of the registry that are set; None removes one.
        active: the version that becomes ACTIVE, or None to leave it.
        why: what the user said.
    """

    op: str
    versions: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    active: str | None = None
    why: str = ""


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


def render(document: Mapping[str, Any], old: bytes | None = None) -> bytes:
    """Return the view: JSON with one version, and one move of ACTIVE, per line, and a checksum.

    The checksum is the BLAKE3 of all bytes before the line break that precedes it.

    Args:
        old: the view that ``document`` was made from; the rows of unchanged versions are taken over.
    """
    rows = []
    for key, value in document.items():
        if key == "versions":
            rows.append(b'"versions":{' + _lines(_version_rows(document, old)) + b"}")
        elif key == "active_history":
            rows.append(b'"active_history":[' + _lines([_row(move) for move in value]) + b"]")
        else:
            rows.append(_row(key) + b":" + _row(value))
    body = b"{\n" + b",\n".join(rows) + b","
    return body + _CHECKSUM + digest_of(body).encode("ascii") + b'"\n}\n'


def _row(value: object) -> bytes:
    return line(value).encode("utf-8")


def _lines(rows: Sequence[bytes]) -> bytes:
    return b"\n" + b",\n".join(rows) + b"\n" if rows else b"\n"


def _version_rows(document: Mapping[str, Any], old: bytes | None) -> list[bytes]:
    versions, active = document["versions"], document.get("active_version")
    kept = _kept_rows(document, old)
    rows = []
    for name in sorted(versions, key=lambda name: parse_version(name).order()):
        row = kept.get(name)
        if row is None:
            row = _row(name) + b":" + _row({"is_active": name == active, **versions[name]})
        rows.append(row)
    return rows


def _kept_rows(document: Mapping[str, Any], old: bytes | None) -> dict[str, bytes]:
    """Return the rows of ``old`` that ``document`` would have too, by version.

    A version that a change did not touch is the very object that was parsed from the old view.
    """
    before = _opened(old) if old is not None else None
    if old is None or before is None:
        return {}
    start = old.index(b'\n"versions":{\n') + len(b'\n"versions":{\n')
    rows = old[start : old.index(b"\n}", start)].split(b",\n")
    flipped = {document.get("active_version"), before.get("active_version")}
    now = document["versions"]
    return {
        name: row
        for (name, values), row in zip(before["versions"].items(), rows, strict=False)
        if now.get(name) is values and name not in flipped
    }


def open_view(data: bytes | None, what: str) -> Mapping[str, Any] | None:
    """Return the document of a view that is exactly as mstore wrote it, else None.

    Raises:
        NewerFormatError: its schema is not one that this mstore knows.
    """
    document = _opened(data) if data is not None and is_ours(data) else None
    if document is not None and document["schema"] != SCHEMA:
        raise NewerFormatError(f"{what} has schema {document['schema']!r}", "pip install -U mstore")
    return document


_documents: dict[Digest, dict[str, Any]] = {}
"""The last few views that were read: one command reads the same several times, 0.1 s at 10,000 versions.

By digest, which is ten times as fast as the hash that Python keeps a cache of bytes by.
"""


def _opened(data: bytes) -> dict[str, Any] | None:
    cut = data.rfind(_CHECKSUM)
    digest = digest_of(memoryview(data)[: max(0, cut)])
    if cut < 0 or data[cut:] != _CHECKSUM + digest.encode("ascii") + b'"\n}\n':
        return None
    if digest not in _documents:
        document = _parsed(data)
        if document is None:
            return None
        if len(_documents) >= _KEPT:
            _documents.clear()
        _documents[digest] = document
    return _documents[digest]


_KEPT = 4


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        document = parse_mapping(data, "a registry", sealed=True)
        if document["schema"] == SCHEMA:
            check_document(document)
    except (IntegrityError, KeyError, TypeError, ValueError, AttributeError):
        return None  # a checksum is no secret: whoever writes to the user's Git can make one
    document.pop("checksum", None)
    for values in document["versions"].values():
        values.pop("is_active", None)
    return document


def check_document(document: Mapping[str, Any]) -> None:
    """Check that ``document`` has the shape that `State` and `Entry` rely on.

    Raises:
        TypeError, ValueError, KeyError, AttributeError: it has not.
    """
    _check_is(document["seq"], int)
    parse_digest(document["head"])
    _check_versions(document["versions"])
    _check_is(document.get("active_version") or "", str)
    for name, version in document.get("aliases", {}).items():
        _check_is(name, str)
        _check_is(version, str)
    for move in document.get("active_history", []):
        _check_is(move["version"], str)
    for version in document.get("removed", []):
        parse_version(version)


def _check_versions(versions: Mapping[str, Any]) -> None:
    digests: list[str] = []
    for name, values in versions.items():
        if values is None:
            continue
        parse_version(name)
        parents = values.get("parents", [])
        if not (isinstance(values.get("seq", 0), int) and isinstance(parents, list)):
            raise TypeError(f"the entry of {name} is malformed")
        digests += parents
        if values.get("id") is not None:
            digests.append(values["id"])
    check_digests(digests)


def _check_is(value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of type {kind.__name__}")


def is_ours(data: bytes | None) -> bool:
    """Tell whether ``data`` claims to be a view that mstore wrote, intact or not."""
    return data is not None and b'"schema":"mstore/registry/' in data[:256].replace(b" ", b"")


def make_record(before: State, change: Change, at: str) -> tuple[dict[str, Any], bytes]:
    """Return the record of ``change`` after ``before``, as a value and as the bytes of its file.

    The file is the value as one line of JSON, whose last key is the BLAKE3 of the bytes before it.

    Raises:
        UsageError: a string in the change is not UTF-8.
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
    }
    record = {key: value for key, value in record.items() if value not in (None, "", {})}
    body = utf8(line(record)[:-1])
    return record, body + _RECORD_CHECKSUM + digest_of(body).encode("ascii") + b'"}\n'


def parse_record(payload: bytes, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that ``payload`` spells, which must follow the state ``before``.

    Raises:
        IntegrityError: it is damaged, or follows another record.
        NewerFormatError: its schema is not one that this mstore knows.
    """
    what = f"record {before['seq'] + 1} of {before['model_type']}"
    record = parse_mapping(payload, what)
    cut = payload.rfind(_RECORD_CHECKSUM)
    if record.get("schema") != RECORD_SCHEMA:
        raise NewerFormatError(
            f"{what} has schema {record.get('schema')!r}", "pip install -U mstore"
        )
    sealed = _RECORD_CHECKSUM + digest_of(payload[: max(0, cut)]).encode("ascii") + b'"}\n'
    if cut < 0 or payload[cut:] != sealed:
        raise IntegrityError(f"{what} is damaged", "put an intact copy back")
    try:
        _check_versions(record.get("versions", {}))
        _check_is(record.get("values", {}), dict)
        _check_is(record.get("active", ""), str)
    except (TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{what} is malformed: {error}") from error
    del record["checksum"]
    if record.get("seq") != before["seq"] + 1 or record.get("prev") != before["head"]:
        raise IntegrityError(f"{what} does not follow the one before it", "put an intact copy back")
    return record
