"""Merging registries: what one side changed is as that side has it, and versions never mix."""

from __future__ import annotations

from typing import Any

from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.ops.merging import merge
from modelstore.state import State, empty_document


def state(versions: dict[str, str], **values: Any) -> State:
    """Return a state with versions of these contents."""
    document = empty_document(ModelName("m"))
    document["versions"] = {
        name: {"id": digest_of(content.encode()), "seq": 1, "notes": values.pop(name, "")}
        for name, content in versions.items()
    }
    return State({**document, **values, "seq": 3})


BASE = state({"v1.0": "a"}, active_version="v1.0", aliases={"x": "v1.0"})


def test_what_only_they_changed_is_theirs() -> None:
    """With nothing changed here nothing is taken over."""
    theirs = state({"v1.0": "a", "v1.1": "b"}, active_version="v1.1", aliases={"y": "v1.1"})
    merged = merge(BASE.document, BASE, theirs)
    assert (merged.change.versions, merged.change.values, merged.change.active) == ({}, {}, None)
    assert merged.said == []


def test_versions_of_one_number_are_both_kept() -> None:
    """Ours gets the next number that nobody has, and aliases and ACTIVE follow it."""
    ours = state(
        {"v1.0": "a", "v1.1": "c", "v1.2": "d"}, active_version="v1.1", aliases={"z": "v1.2"}
    )
    theirs = state({"v1.0": "a", "v1.1": "b"}, active_version="v1.0")
    merged = merge(BASE.document, ours, theirs)
    assert merged.renamed == {"v1.1": "v1.3"}
    assert merged.change.versions.keys() == {"v1.3", "v1.2"}
    assert merged.change.active == "v1.3"
    assert merged.change.values["aliases"] == {"z": "v1.2"}
    assert merged.change.merged == ours.head


def test_the_same_content_under_one_number_is_one_version() -> None:
    """Two that committed the same thing agree."""
    both = state({"v1.0": "a", "v1.1": "b"}, active_version="v1.0")
    merged = merge(BASE.document, both, both)
    assert merged.renamed == {}
    assert merged.change.versions == {}


def test_notes_of_both_sides_are_ours_where_both_changed_them() -> None:
    """A value that one side changed is that side's."""
    ours = state({"v1.0": "a"}, **{"v1.0": "ours"}, active_version="v1.0", description="here")
    theirs = state({"v1.0": "a"}, **{"v1.0": "theirs"}, active_version="v1.0", base_model="there")
    merged = merge(BASE.document, ours, theirs)
    values = merged.change.versions["v1.0"]
    assert values is not None
    assert values["notes"] == "ours"
    assert merged.change.values == {"description": "here"}


def test_removed_versions_stay_removed() -> None:
    """What either side removed is gone on both, and what pointed at it with it."""
    gone = BASE.document["versions"]["v1.0"]
    base = state({"v1.0": "a", "v1.1": "b"}, active_version="v1.1")
    ours = state({"v1.1": "b"}, removed={"v1.0": gone}, active_version="v1.1")
    merged = merge(base.document, ours, base)
    assert merged.change.versions == {"v1.0": None}
    assert merged.change.removed == {"v1.0": gone}
    merged = merge(base.document, base, ours)
    assert merged.change.versions == {}
    assert any("was removed there" in sentence for sentence in merged.said)


def test_active_that_both_moved_is_ours_and_is_said() -> None:
    """Of two moves ours stands, and the user is told of the other."""
    base = state({"v1.0": "a", "v1.1": "b", "v1.2": "c"}, active_version="v1.0")
    ours = state({"v1.0": "a", "v1.1": "b", "v1.2": "c"}, active_version="v1.1")
    theirs = state({"v1.0": "a", "v1.1": "b", "v1.2": "c"}, active_version="v1.2")
    merged = merge(base.document, ours, theirs)
    assert merged.change.active == "v1.1"
    assert any("ACTIVE" in sentence for sentence in merged.said)
