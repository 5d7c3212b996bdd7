from __future__ import annotations

from pathlib import Path

import pytest

from modelstore import groupsync
from modelstore.errors import StoreError


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("count", [0, 2, 9])
def test_group_sync_syncs_files_and_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, count: int
) -> None:
    """By one call or one by one; a file that has gone is an error only where it is looked at."""
    kind = groupsync._statfs_type(tmp_path)
    monkeypatch.setattr(groupsync, "_SYNCFS_TRUSTED", {kind: "this"} if trusted else {})
    assert groupsync.durability(tmp_path) == ("syncfs" if trusted else "fsync")
    with groupsync.GroupSync(tmp_path) as group:
        for n in range(count):
            (tmp_path / str(n)).write_bytes(b"x")
            group.add(tmp_path / str(n))
        group.add(tmp_path)
        group.sync()
        group.sync()
        group.add(tmp_path / "none")
        with pytest.raises(StoreError, match="none"):
            group.sync()
