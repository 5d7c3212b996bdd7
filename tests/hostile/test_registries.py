"""Records and views with right checksums that say what none may say; most were found by fuzzing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelstore.errors import IntegrityError, NewerFormatError, UsageError
from modelstore.hashing import digest_of
from modelstore.names import parse_model
from modelstore.ops.foreign import read_registry
from modelstore.state import Change, State, empty_document, make_record, parse_record
from modelstore.view import open_view
from tests.hostile.forged import MODEL

BEFORE = empty_document(parse_model("m"))
OWN = ["schema", "seq", "head", "versions", "active_version", "active_history", "removed"]
BAD_VERSIONS: list[Any] = [
    *({"../x": {}}, {"v1.0\n": {}}, {"v1.0": []}, {"v1.0": {"id": "x"}}, {"v1.0": {"seq": "1"}}),
    *({"v1.0": {"parents": "x"}}, {"v1.0": {"parents": [1]}}, [], "v1.0"),
]


def sealed_record(**values: object) -> bytes:
    """Return a first record with a right checksum."""
    record = {"schema": "mstore/record/1", "seq": 1, "prev": "0" * 64, **values}
    body = json.dumps(record)[:-1].encode()
    return body + b', "checksum": "' + digest_of(body).encode() + b'"}\n'


def sealed_view(text: bytes) -> bytes:
    """Return a view with a right checksum, whose keys are ``text``."""
    body = b"{\n" + text
    return body + b'\n"checksum":"' + digest_of(body).encode() + b'"\n}\n'


def test_a_plain_record_is_fine() -> None:
    """What the others are made from is read."""
    assert parse_record(sealed_record(op="init"), BEFORE)["op"] == "init"


@pytest.mark.parametrize("key", OWN)
@pytest.mark.parametrize("value", [None, 1, {}])
def test_a_record_sets_only_what_is_to_be_set(key: str, value: object) -> None:
    """The keys that changes keep by themselves cannot be set or removed by a record."""
    with pytest.raises(IntegrityError, match="cannot be set"):
        parse_record(sealed_record(values={key: value}), BEFORE)
    with pytest.raises(UsageError, match="cannot be set"):
        make_record(State(BEFORE), Change("adopt", values={key: value}), "")


@pytest.mark.parametrize("versions", BAD_VERSIONS)
def test_a_record_has_entries_that_are_some(versions: Any) -> None:
    """A record that readers would refuse is not written either: it could never be taken back."""
    for where in ("versions", "removed"):
        with pytest.raises(IntegrityError, match="malformed"):
            parse_record(sealed_record(**{where: versions}), BEFORE)
    if isinstance(versions, dict):
        with pytest.raises(UsageError, match="malformed"):
            make_record(State(BEFORE), Change("adopt", versions), "")


@pytest.mark.parametrize(
    "values",
    [
        {"op": 1},
        {"at": []},
        {"why": {}},
        {"active": 1},
        {"values": []},
        {"values": {"aliases": {"a b\x1b": "v1.0"}}},
        {"values": {"aliases": {"prod": 1}}},
        {"seq": True + 1},
        {"seq": "1"},
        {"prev": None},
    ],
)
def test_a_record_of_another_shape(values: dict[str, Any]) -> None:
    """Types matter, and so does the place in the chain."""
    with pytest.raises(IntegrityError):
        parse_record(sealed_record(**values), BEFORE)


def test_a_view_of_a_newer_format_may_have_any_shape() -> None:
    """Nothing but the schema is looked at, which is named in the error."""
    with pytest.raises(NewerFormatError, match="mstore/registry/10"):
        open_view(sealed_view(b'"schema":"mstore/registry/10",'), "x")


@pytest.mark.parametrize(
    "text",
    [
        b'"schema":"mstore/registry/1",',
        b'"schema":"mstore/registry/1","seq":0,"head":"' + b"0" * 64 + b'","versions":[],',
        b'"schema":"mstore/registry/1","seq":' + b"9" * 4000 + b',"head":"x","versions":{},',
        b'"schema":"mstore/registry/1","versions":' + b"[" * 100_000 + b",",
    ],
)
def test_a_view_of_another_shape_is_none(text: bytes) -> None:
    """It counts as edited: the records are asked."""
    assert open_view(sealed_view(text), "x") is None


@pytest.mark.parametrize(
    "data", [b"[" * 10**6, b"9" * 10**6, b'{"versions":' * 10**5, b"\xff", b""]
)
def test_a_foreign_registry_that_is_none(data: bytes) -> None:
    """Another tool's registry may be anything at all."""
    found = read_registry(data, "x", MODEL)
    assert found is None or not found.versions
