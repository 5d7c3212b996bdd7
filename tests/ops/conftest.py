"""A store, and a model directory to commit to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.store import Store, create
from tests.models import write_model


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A directory as a trainer leaves it: weights, config, tokenizer."""
    return write_model(tmp_path / "run", seed=1)
