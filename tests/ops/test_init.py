"""Init: a directory becomes a store, and what is in it stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelstore.errors import ConflictError
from modelstore.ops.init import LINES, init
from tests.models import files_of


def test_a_new_store_has_the_two_lines(tmp_path: Path) -> None:
    """Each line has a registry with its base model, its defaults and no versions."""
    made = init(tmp_path / "tuned_models")
    assert (made.created, made.models) == (True, tuple(LINES))
    for name, values in LINES.items():
        path = tmp_path / "tuned_models" / name / "model_registry.json"
        registry = json.loads(path.read_bytes())
        assert registry["versions"] == {}
        assert {key: registry[key] for key in values} == values


def test_again_it_changes_nothing(tmp_path: Path) -> None:
    """A second init finds the store and leaves every byte as it is."""
    init(tmp_path / "tuned_models")
    before = files_of(tmp_path)
    again = init(tmp_path / "tuned_models")
    assert (again.created, again.models) == (False, ())
    assert files_of(tmp_path) == before


def test_what_the_user_wrote_is_kept(tmp_path: Path) -> None:
    """A README.md and a .gitignore that are there already are not touched."""
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".gitignore").write_text("*.bin")
    init(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / ".gitignore").read_text() == "*.bin"


def test_a_registry_of_another_tool_is_left_to_adopt(tmp_path: Path) -> None:
    """A line whose registry mstore did not make is not written over."""
    view = tmp_path / "llama_1b" / "model_registry.json"
    view.parent.mkdir()
    view.write_text('{"model_type": "llama_1b", "versions": {}}')
    made = init(tmp_path)
    assert made.models == ("llama_8b",)
    assert view.read_text() == '{"model_type": "llama_1b", "versions": {}}'


def test_a_bare_store_has_no_lines(tmp_path: Path) -> None:
    """Without lines there is a store, and nothing in it."""
    made = init(tmp_path / "tuned_models", lines=False)
    assert made.models == ()
    assert made.store.models() == []


def test_no_store_within_a_store(tmp_path: Path) -> None:
    """A store inside another one would be content of neither."""
    init(tmp_path / "tuned_models")
    with pytest.raises(ConflictError, match="lies within the store"):
        init(tmp_path / "tuned_models" / "llama_1b")
