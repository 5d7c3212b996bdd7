"""A destination that is full says so, and says which disk."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from modelstore.errors import DiskFullError
from modelstore.remotes.directory import create_directory
from modelstore.syscalls import Syscalls
from tests.faults import exchanged


class _Full(Syscalls):
    def pwrite(self, handle: int, data: Any, offset: int) -> int:
        """Say that there is no room."""
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_destination_is_named(tmp_path: Path) -> None:
    """The hint is to make room there: what the store could free would not help."""
    remote = create_directory(tmp_path / "usb")
    remote.put("some", b"thing")
    with exchanged(_Full()), pytest.raises(DiskFullError) as caught:
        remote.put("more", b"thing")
    assert (caught.value.exit_code, "gc" in caught.value.hint) == (8, False)
    assert str(tmp_path / "usb") in caught.value.hint
    remote.close()
