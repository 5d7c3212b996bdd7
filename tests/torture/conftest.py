"""Where worlds are tortured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.length import SHARED_MEMORY


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what is simulated here needs no disk."""
    if not SHARED_MEMORY.is_dir():
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="mstore-torture-", dir=SHARED_MEMORY))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
