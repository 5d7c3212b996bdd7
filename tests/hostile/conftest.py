"""An empty store, and what lies around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelstore.store import Store, create


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create(tmp_path / "store")


@pytest.fixture
def surroundings(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """Return what tells all that lies beside the store, and in its directories of models."""
    (tmp_path / "precious").write_bytes(b"of the user")

    def look() -> dict[str, bytes]:
        return {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and ".mstore" not in path.parts
        }

    return look
