"""A store, a model directory to commit to it, and a directory of models made without mstore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore.remotes.base import Remote
from modelstore.remotes.cloud import memory_remote
from modelstore.remotes.directory import DirectoryRemote
from modelstore.store import Store, create
from tests import old_tool
from tests.models import write_model
from tests.old_tool import MODEL


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "tuned_models")


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A directory as a trainer leaves it: weights, config, tokenizer."""
    return write_model(tmp_path / "run", seed=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of models, still empty."""
    root = tmp_path / "tuned_models"
    root.mkdir()
    return root


@pytest.fixture
def model(root: Path) -> Path:
    """A model with v1.0 and v1.1, and no registry yet."""
    old_tool.version(root / MODEL, "v1.0", seed=1)
    old_tool.version(root / MODEL, "v1.1", seed=2)
    return root / MODEL


@pytest.fixture(params=["directory", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    """An empty remote of either kind."""
    if request.param == "memory":
        pytest.importorskip("obstore")
        yield memory_remote()
        return
    (tmp_path / "remote").mkdir()
    directory = DirectoryRemote(tmp_path / "remote")
    yield directory
    directory.close()


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second store."""
    return create(tmp_path / "other" / "tuned_models")
