"""Doctor says what is wrong with the machine, or with the place of the store."""

from __future__ import annotations

import os
import shutil

import pytest

from modelstore.locks import locked, store_lock
from modelstore.ops.doctor import NOTE, OK, PROBLEM, Diagnosis, doctor
from modelstore.store import Store


def about(found: list[Diagnosis], name: str) -> Diagnosis:
    """Return what was found about one thing."""
    (one,) = [one for one in found if one.name == name]
    return one


def test_here_all_is_well(store: Store) -> None:
    """Nothing that the tests run on is a problem."""
    found = doctor(store)
    assert [one for one in found if one.state == PROBLEM] == []
    for name in ("durability", "hard links", "locks", "file times", "compiled loops"):
        assert about(found, name).state == OK


def test_a_lock_that_is_held_is_told(store: Store) -> None:
    """With the process that holds it."""
    with locked(store_lock(store.meta)):
        assert str(os.getpid()) in about(doctor(store), "at work").what


def test_leftovers_are_told(store: Store) -> None:
    """And the command that takes them away."""
    (store.meta / "tmp/0123456789abcdef").mkdir()
    assert "mstore gc" in about(doctor(store), "leftovers").what


def test_a_store_that_everybody_may_write_to_is_a_problem(store: Store) -> None:
    """Whoever writes to it decides what others load."""
    store.root.chmod(0o777)
    assert about(doctor(store), "owner").state == PROBLEM


def test_a_clone_without_content_is_a_note(store: Store) -> None:
    """And nothing is written to it."""
    (store.root / "m").mkdir()
    (store.root / "m/model_registry.json").write_text('{"schema": "mstore/registry/1"}')
    shutil.rmtree(store.meta)
    assert about(doctor(store), "content").state == NOTE
    assert not store.meta.exists()


def test_a_clock_that_was_never_set_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost by it."""
    monkeypatch.setattr("time.time", lambda: 3600.0)
    assert about(doctor(), "clock").state == NOTE
