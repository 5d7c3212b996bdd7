"""A store with a small history, built once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.init import init
from tests.models import write_model


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    store = init(root / "tuned_models").store
    model = ModelName("llama_1b")
    first = CommitOptions(message="the base\n\nas it was", metrics={"loss": 2.5})
    commit(store, write_model(root / "one"), model, first)
    second = CommitOptions(message="tuned", parameters={"epochs": 3}, metrics={"loss": 1.5})
    commit(store, write_model(root / "two", step=1e-3), model, second)
    return root


@pytest.fixture
def looked_at(_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as `place`, for tests that change nothing: not copied."""
    monkeypatch.chdir(_template)
    return _template


@pytest.fixture
def place(_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: one/ and two/, and tuned_models/ with both as llama_1b v1.0 and v1.1."""
    place = tmp_path / "place"
    shutil.copytree(_template, place)
    monkeypatch.chdir(place)
    return place
