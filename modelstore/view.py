"""The view of a registry: the text of `model_registry.json`, and back.

It has one version per line, so that it is quick to write and that Git can merge it, and ends in a
checksum of itself, so that an edit is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelstore.canonical import line, parse_mapping
from modelstore.errors import IntegrityError, NewerFormatError
from modelstore.hashing import Digest, check_digests, digest_of, parse_digest
from modelstore.names import parse_alias, parse_version

SCHEMA = "mstore/registry/1"

_CHECKSUM = b'\n"checksum":"'
OWN_KEYS = frozenset(
    {"schema", "seq", "head", "versions", "active_version", "active_history", "removed", "checksum"}
)
"""Keys that every change keeps by itself."""


def render(document: Mapping[str, Any], old: bytes | None = None) -> bytes:
    """Return the view: JSON with a version, removed or not, or a move of ACTIVE per line; a checksum.

    The checksum is the BLAKE3 of all bytes before the line break that precedes it.

    Args:
        old: the view that ``document`` was made from; the rows of unchanged versions are taken over.
    """
    rows = []
    for key, value in document.items():
        if key == "versions":
            rows.append(b'"versions":{' + _lines(_version_rows(document, old)) + b"}")
        elif key == "removed":
            entries = [_row(name) + b":" + _row(entry) for name, entry in value.items()]
            rows.append(b'"removed":{' + _lines(entries) + b"}")
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
        if document["schema"] != SCHEMA:
            return document  # a newer one's: nobody here looks at more than that
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
    check_is(document["seq"], int)
    parse_digest(document["head"])
    check_versions(document["versions"])
    check_is(document.get("active_version") or "", str)
    check_values({key: document[key] for key in document.keys() - OWN_KEYS})
    for move in document.get("active_history", []):
        check_is(move["version"], str)
    check_versions(document.get("removed", {}))
    for values in (*document["versions"].values(), *document.get("removed", {}).values()):
        check_is(values, dict)  # only a record has None, for one that is removed


def check_values(values: Mapping[str, Any]) -> None:
    """Check keys of a registry that a change may set; None stands for one removed.

    Raises:
        TypeError, ValueError, AttributeError: one is not of the shape that readers rely on, or is
            kept by changes themselves.
    """
    own = OWN_KEYS & values.keys()
    if own:
        raise ValueError(f"{', '.join(sorted(own))} cannot be set")
    aliases = values.get("aliases")
    for name, version in ({} if aliases is None else aliases).items():
        parse_alias(name)
        check_is(version, str)


def check_versions(versions: Mapping[str, Any]) -> None:
    """Check that entries of versions have the shape that `Entry` relies on; None stands for one removed.

    Raises:
        TypeError, ValueError, AttributeError: one has not.
    """
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


def check_is(value: object, kind: type) -> None:
    """Raise a TypeError unless ``value`` is of type ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of type {kind.__name__}")


def is_ours(data: bytes | None) -> bool:
    """Tell whether ``data`` claims to be a view that mstore wrote, intact or not."""
    return data is not None and b'"schema":"mstore/registry/' in data[:256].replace(b" ", b"")
