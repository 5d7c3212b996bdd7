"""A commit that surely does not fit is refused before anything is written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from modelstore.errors import DiskFullError
from modelstore.hashing import digest_of
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, commit
from modelstore.ops.room import require_room
from modelstore.store import Store, create
from tests.models import files_of, write_model


def digests(count: int) -> list[str]:
    """Return the names of blobs that no store has."""
    return [digest_of(b"%d" % number) for number in range(count)]


def test_what_fits_is_not_refused(store: Store) -> None:
    """A disk with room says nothing; how small frames become is not guessed."""
    require_room(store, digests(10))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [("size=400k,nr_inodes=300", "has room for"), ("size=1300k,nr_inodes=2000", "takes at least")],
)
def test_what_cannot_fit_is_refused_before_it_starts(
    tmp_path: Path, options: str, told: str
) -> None:
    """Too few inodes, or too few blocks, are told at once, and nothing is changed."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk]).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        store = create(disk / "store")
        before = files_of(store.root)
        files = {f"part{number}": str(number) for number in range(400)}
        source = write_model(tmp_path / "run", files=files)
        with pytest.raises(DiskFullError, match=told) as caught:
            commit(store, source, ModelName("m"), CommitOptions())
        assert caught.value.exit_code == 8
        assert "gc" in caught.value.hint
        assert files_of(store.root) == before
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
