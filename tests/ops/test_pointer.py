"""ACTIVE, aliases and notes: what may change of a version, and what forbids a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import BadNameError, ConflictError, NotFoundError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.pointer import Moved, add_note, remove_alias, rollback, set_active, set_alias
from modelstore.ops.resolve import resolve
from modelstore.state import Change
from modelstore.store import Store
from tests.models import write_model

MODEL = ModelName("llama_1b")


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Store:
    """A store with the versions v1.0 (ACTIVE), v1.1 and v1.2."""
    for n in range(3):
        commit(store, write_model(tmp_path / "run", step=n * 1e-3), MODEL, CommitOptions())
    return store


def test_moving_active_is_recorded(three: Store) -> None:
    """Each move is one change, with the verb and the reason, in the registry and the journal."""
    before = three.state(MODEL).seq
    assert set_active(three, resolve(three, "v1.2"), why="best") == Moved(MODEL, "v1.0", "v1.2")
    state = three.state(MODEL)
    assert (state.active, state.seq) == ("v1.2", before + 1)
    assert {**state.history[-1], "at": ""} == {
        "version": "v1.2", "seq": before + 1, "at": "", "op": "set-active", "why": "best",
    }  # fmt: skip
    assert three.registry(MODEL).journal()[-1]["active"] == "v1.2"


def test_moving_it_to_where_it_is_changes_nothing(three: Store) -> None:
    """Setting ACTIVE to the ACTIVE version is no move."""
    before = three.state(MODEL).document
    assert set_active(three, resolve(three, "v1.0")) == Moved(MODEL, "v1.0", "v1.0")
    assert three.state(MODEL).document == before


def test_compare_and_swap(three: Store) -> None:
    """With an expectation ACTIVE moves only from there, also to where it is already."""
    set_active(three, resolve(three, "v1.1"), expect="v1.0")
    with pytest.raises(ConflictError, match=r"is v1\.1, not v1\.0 as expected"):
        set_active(three, resolve(three, "v1.2"), expect="v1.0")
    with pytest.raises(ConflictError, match=r"not v1\.0 as expected"):
        set_active(three, resolve(three, "v1.1"), expect="v1.0")
    assert three.state(MODEL).active == "v1.1"


def test_a_version_without_files_cannot_be_active(three: Store) -> None:
    """What cannot be checked out is no ACTIVE version."""
    missing = Change("adopt", versions={"v0.9": {"seq": 9}})
    three.change(MODEL, lambda _: missing)
    with pytest.raises(ConflictError, match="its files are missing"):
        set_active(three, resolve(three, "v0.9"))


def test_a_version_that_was_removed_meanwhile(three: Store) -> None:
    """What was resolved before the lock is looked for again under it."""
    resolved = resolve(three, "v1.2")
    three.change(MODEL, lambda _: Change("rm", versions={"v1.2": None}))
    for change in (lambda: set_active(three, resolved), lambda: add_note(three, resolved, "x")):
        with pytest.raises(NotFoundError, match="was removed meanwhile"):
            change()


def test_rollback_goes_where_active_was_and_not_to_a_parent(three: Store) -> None:
    """It undoes moves of ACTIVE, whatever versions descend from what."""
    set_active(three, resolve(three, "v1.2"))
    set_active(three, resolve(three, "v1.1"))
    assert rollback(three, MODEL) == Moved(MODEL, "v1.1", "v1.2")
    assert rollback(three, MODEL, steps=3) == Moved(MODEL, "v1.2", "v1.0")
    assert three.state(MODEL).history[-1]["op"] == "rollback"
    with pytest.raises(NotFoundError, match="moved only 4 times"):
        rollback(three, MODEL, steps=9)


def test_an_alias_moves_and_goes(three: Store) -> None:
    """An alias means one version at a time, and can be removed."""
    assert set_alias(three, "prod", resolve(three, "v1.0")) == Moved(MODEL, "", "v1.0")
    assert set_alias(three, "prod", resolve(three, "v1.1")) == Moved(MODEL, "v1.0", "v1.1")
    assert str(resolve(three, "prod")) == "llama_1b@v1.1"
    assert remove_alias(three, "prod", MODEL) == Moved(MODEL, "v1.1", "")
    with pytest.raises(NotFoundError, match="has no alias 'prod'"):
        remove_alias(three, "prod", MODEL)


@pytest.mark.parametrize("name", ["v1.0", "ACTIVE", "latest", "abcdef", "a b", "", "x" * 65])
def test_names_that_mean_something_already_are_no_aliases(three: Store, name: str) -> None:
    """An alias that could be read as a version, a word or a digest is refused."""
    with pytest.raises(BadNameError):
        set_alias(three, name, resolve(three, "v1.0"))


def test_notes_add_up_and_leave_the_version_as_it_is(three: Store) -> None:
    """Each note is a line more; id and manifest stay."""
    before = resolve(three, "v1.1")
    assert add_note(three, before, "good") == "good"
    assert add_note(three, before, "better") == "good\nbetter"
    after = resolve(three, "v1.1").entry
    assert after.text("notes") == "good\nbetter"
    assert {**after.values, "notes": ""} == dict(before.entry.values)
