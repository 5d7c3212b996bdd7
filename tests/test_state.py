from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import IntegrityError, NewerFormatError, UsageError
from modelstore.hashing import digest_of
from modelstore.names import parse_model, parse_version
from modelstore.state import Change, Entry, State, apply, empty_document, make_record, parse_record
from modelstore.view import SCHEMA, is_ours, open_view, render

AT = "2026-01-01T00:00:00Z"
MODEL = parse_model("llama_1b")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | text
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
version_names = st.builds("v{}.{}".format, st.integers(0, 2), st.integers(0, 3))
ids = text.map(str.encode).map(digest_of)
entry_values = st.builds(
    lambda own, more: {**more, **own},
    st.fixed_dictionaries({"seq": st.integers(0, 9)}, optional={"id": ids}),
    st.dictionaries(text.map("x{}".format), json_values, max_size=2),
)  # fmt: skip
changes = st.builds(
    Change,
    st.sampled_from(["commit", "note", "rm"]),
    st.dictionaries(version_names, st.none() | entry_values, max_size=2),
    st.dictionaries(text.map("x{}".format), json_values, max_size=2),
    st.none() | version_names,
    text,
)


def after(state: State, change: Change) -> tuple[State, bytes]:
    """Return the state after ``change`` and the bytes of its record."""
    record, payload = make_record(state, change, AT)
    return State(apply(state.document, record, digest_of(payload))), payload


@given(st.lists(changes, max_size=4))
def test_records_and_views_tell_the_same_state(drawn: list[Change]) -> None:
    """Every state is read back from its view, and again from the records before it."""
    state = State(empty_document(MODEL))
    rebuilt: Any = empty_document(MODEL)
    for change in drawn:
        state, payload = after(state, change)
        rebuilt = apply(rebuilt, parse_record(payload, rebuilt), digest_of(payload))
        assert rebuilt == state.document
    assert open_view(render(state.document), "x") == state.document
    assert state.seq == len(drawn)


@given(st.lists(changes, min_size=1, max_size=3))
def test_a_view_has_one_version_per_line(drawn: list[Change]) -> None:
    """It is JSON, so that people and Git can read it; the marks say what active_version says."""
    state = State(empty_document(MODEL))
    for change in drawn:
        state, _ = after(state, change)
    view = render(state.document)
    value = json.loads(view)
    assert value["schema"] == SCHEMA
    for name, values in value["versions"].items():
        assert values["is_active"] == (name == state.active)
        rows = [row for row in view.split(b"\n") if row.startswith(b'"%s":{' % name.encode())]
        assert len(rows) == 1
    assert is_ours(view)


def test_a_mark_that_comes_in_is_not_kept() -> None:
    """Which version is active is said by active_version alone, whatever an entry carried."""
    change = Change("adopt", {"v1.0": {"is_active": True, "x": 1}, "v1.1": {}}, active="v1.1")
    state, _ = after(State(empty_document(MODEL)), change)
    view = json.loads(render(state.document))
    assert view["versions"]["v1.0"] == {"is_active": False, "x": 1}
    assert view["versions"]["v1.1"] == {"is_active": True}
    assert state.entry("v1.0") == Entry(parse_version("v1.0"), {"x": 1})


@given(st.data())
def test_any_edit_of_a_view_is_noticed(data: st.DataObject) -> None:
    """One byte more, less or other, and it is not what mstore wrote."""
    state, _ = after(State(empty_document(MODEL)), Change("commit", {"v1.0": {"x": "é"}}))
    view = render(state.document)
    at = data.draw(st.integers(0, len(view) - 1))
    byte = data.draw(st.binary(max_size=1))
    for edited in (view[:at] + byte + view[at + 1 :], view[:at], view + byte + b"\n"):
        if edited != view:
            assert open_view(edited, "x") is None


def _sealed(document: dict[str, Any]) -> bytes:
    """Return a view with a right checksum over whatever ``document`` says."""
    body = json.dumps(document)[:-1].encode() + b","
    return body + b'\n"checksum":"' + digest_of(body).encode() + b'"\n}\n'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seq", "1"),
        ("head", "x"),
        ("versions", []),
        ("versions", {"../x": {}}),
        ("versions", {"v1.0": []}),
        ("versions", {"v1.0": {"id": "x"}}),
        ("versions", {"v1.0": {"seq": "x"}}),
        ("versions", {"v1.0": {"parents": "x"}}),
        ("versions", {"v1.0": {"parents": [1]}}),
        ("active_version", ["v1.0"]),
        ("aliases", []),
        ("aliases", {"prod": 1}),
        ("active_history", [1]),
        ("active_history", [{}]),
        ("removed", ["v1.1"]),
        ("removed", {"../x": {}}),
    ],
)
def test_a_view_with_a_right_checksum_and_a_wrong_shape_is_refused(key: str, value: object) -> None:
    """The checksum is no secret, and a view may come out of somebody else's Git."""
    document = empty_document(MODEL)
    assert open_view(_sealed(document), "x") == document
    assert open_view(_sealed({**document, key: value}), "x") is None
    del document["seq"]
    assert open_view(_sealed(document), "x") is None


def test_a_newer_view_is_said_to_be_newer() -> None:
    """Its checksum is right, so it is no edit."""
    newer = _sealed({**empty_document(MODEL), "schema": "mstore/registry/2"})
    with pytest.raises(NewerFormatError, match="registry/2"):
        open_view(newer, "x")


def test_what_is_ours() -> None:
    """A view that claims to be ours, even reformatted; not the old tool's."""
    assert not is_ours(None)
    assert not is_ours(b'{"model_type": "llama_1b", "versions": {}}')
    assert is_ours(json.dumps(empty_document(MODEL), indent=4).encode())


@given(st.data())
def test_any_damage_to_a_record_is_noticed(data: st.DataObject) -> None:
    """The last record has no successor to vouch for it, so it carries a checksum of itself."""
    empty = State(empty_document(MODEL))
    _, payload = after(empty, Change("commit", {"v1.0": {"notes": "abc"}}, active="v1.0"))
    at = data.draw(st.integers(0, len(payload) - 1))
    byte = data.draw(st.binary(max_size=1))
    damaged = payload[:at] + byte + payload[at + 1 :]
    if damaged != payload:
        with pytest.raises((IntegrityError, NewerFormatError)):
            parse_record(damaged, empty.document)


def test_a_record_follows_the_one_before_it() -> None:
    """By number and by digest."""
    empty = State(empty_document(MODEL))
    one, first = after(empty, Change("init"))
    two, second = after(one, Change("note", why="x"))
    assert parse_record(second, one.document)["prev"] == digest_of(first) == one.head
    for wrong in (empty, two):
        with pytest.raises(IntegrityError, match="does not follow"):
            parse_record(second, wrong.document)
    other, _ = after(empty, Change("init", why="other"))
    with pytest.raises(IntegrityError, match="does not follow"):
        parse_record(second, other.document)


@pytest.mark.parametrize(
    "change", [{"versions": {"../x": {}}}, {"versions": []}, {"values": []}, {"active": 1}]
)
def test_a_record_with_a_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    """Its checksum is right and yet it is refused."""
    empty = empty_document(MODEL)
    good, payload = make_record(State(empty), Change("x"), AT)
    assert parse_record(payload, empty) == good
    body = json.dumps({**good, **change})[:-1].encode()
    bad = body + b', "checksum": "' + digest_of(body).encode() + b'"}\n'
    with pytest.raises(IntegrityError, match="is malformed"):
        parse_record(bad, empty)


def test_a_record_of_a_newer_mstore_is_said_to_be_newer() -> None:
    """The hint is to upgrade."""
    empty = empty_document(MODEL)
    _, payload = make_record(State(empty), Change("x"), AT)
    body = payload[: payload.rindex(b', "checksum"')].replace(b"record/1", b"record/2")
    newer = body + b', "checksum": "' + digest_of(body).encode() + b'"}\n'
    with pytest.raises(NewerFormatError, match="record/2"):
        parse_record(newer, empty)


def test_text_that_is_not_utf8_is_a_usage_error() -> None:
    """A message typed in another encoding."""
    with pytest.raises(UsageError, match="is not UTF-8"):
        make_record(State(empty_document(MODEL)), Change("note", why="caf\udce9"), AT)


def test_a_removed_key_is_gone_and_unknown_keys_stay() -> None:
    """None removes; what is not named is not touched."""
    state = State(empty_document(MODEL))
    state, _ = after(state, Change("x", {"v1.0": {"theirs": [1]}}, {"a": 1, "theirs": {"b": 2}}))
    state, _ = after(state, Change("x", {"v1.1": {}}, {"a": None}))
    assert "a" not in state.document
    assert state.document["theirs"] == {"b": 2}
    assert state.entry("v1.0") == Entry(parse_version("v1.0"), {"theirs": [1]})
    state, _ = after(state, Change("rm", {"v1.0": None}))
    assert state.entry("v1.0") is None


def test_the_moves_of_active_are_kept() -> None:
    """Oldest first, with the change that made each."""
    state = State(empty_document(MODEL))
    for op, version in (("commit", "v1.0"), ("note", None), ("rollback", "v0.9")):
        state, _ = after(state, Change(op, active=version, why=op))
    assert state.active == "v0.9"
    assert [(m["seq"], m["version"], m["op"]) for m in state.history] == [
        (1, "v1.0", "commit"),
        (3, "v0.9", "rollback"),
    ]


def test_what_a_state_tells() -> None:
    """Versions in the order of their numbers, entries in the order they came, ids and texts."""
    one, two = digest_of(b"1"), digest_of(b"2")
    change = Change(
        "adopt",
        {
            "v1.10": {"seq": 1, "id": one, "notes": None},
            "v1.2": {"seq": 3, "id": two, "parents": [one], "metrics": {"loss": 1}},
            "v1.3": {"seq": 2},
        },
        {"aliases": {"prod": "v1.2"}, "base_model": "llama3.2:1b"},
        removed={"v1.1": {}},
    )
    state, _ = after(State(empty_document(MODEL)), change)
    assert [str(v) for v in state.versions()] == ["v1.2", "v1.3", "v1.10"]
    assert [str(e.version) for e in state.entries()] == ["v1.10", "v1.3", "v1.2"]
    assert state.entry("v1.2.0") == state.entry("1.2") == state.entry("v1.2") == state.with_id(two)
    assert state.entry("v1") is state.entry("") is state.entry("prod") is None
    assert state.with_id(digest_of(b"3")) is None
    entry = state.entry("v1.2")
    assert entry is not None
    assert (entry.id, entry.parents, entry.seq) == (two, (one,), 3)
    assert (entry.text("notes"), entry.mapping("metrics")) == ("", {"loss": 1})
    assert entry.mapping("notes") == {}
    missing = state.entry("v1.3")
    assert missing is not None
    assert missing.id is None
    assert state.aliases == {"prod": "v1.2"}
    assert state.removed() == [parse_version("v1.1")]
    assert (state.base_model, state.active) == ("llama3.2:1b", "")


@given(data=st.data())
def test_rows_that_are_taken_over_are_those_that_would_be_written(data: st.DataObject) -> None:
    """A view made from the one before it has the same bytes as one made from nothing."""
    document: Mapping[str, Any] = empty_document(MODEL)
    view = render(document)
    for seq in range(1, data.draw(st.integers(1, 6)) + 1):
        read = open_view(view, "a view")
        assert read is not None
        name = f"v1.{data.draw(st.integers(0, 3))}"
        note = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
        record = {
            "seq": seq,
            "at": "2026-01-01T00:00:00Z",
            "op": "commit",
            "versions": {name: data.draw(st.none() | st.just({"notes": note, "seq": seq}))},
            "active": data.draw(st.none() | st.just(name)),
        }
        document = apply(read, record, digest_of(b"%d" % seq))

        assert render(document, view) == render(document)
        view = render(document, view)


def test_a_removed_version_keeps_its_entry_until_it_is_put_back() -> None:
    """The entry moves from the versions to the removed ones and back, through records and views."""
    entry = {"seq": 1, "id": digest_of(b"1"), "notes": "good"}
    first, _ = after(State(empty_document(MODEL)), Change("commit", {"v1.0": entry}))
    second, _ = after(first, Change("rm", {"v1.0": None}, removed={"v1.0": entry}))
    assert second.versions() == []
    assert second.removed() == [parse_version("v1.0")]
    kept = second.removed_entry("1.0.0")
    assert kept == first.entry("v1.0")
    assert second.removed_entry("v1.1") is second.removed_entry("prod") is None
    assert open_view(render(second.document), "x") == second.document
    third, _ = after(second, Change("undelete", {"v1.0": entry}, removed={"v1.0": None}))
    assert third.entry("v1.0") == kept
    assert third.removed() == []
    assert open_view(render(third.document), "x") == third.document
