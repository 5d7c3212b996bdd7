"""The models that training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import make_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bfloat16 Llama with tied embeddings; not to be changed."""
    pytest.importorskip("torch")
    return make_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose layers are so wide that adapters of them are smaller; not to be changed."""
    pytest.importorskip("torch")
    return make_model(tmp_path_factory.mktemp("base") / "wide", width=256)
