"""Reading small files that may be anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelstore.reading import read_file


def test_a_file_is_read_whole_or_in_part(tmp_path: Path) -> None:
    """As `Path.read_bytes`, or its beginning."""
    (tmp_path / "a").write_bytes(b"\r\n\x1abytes")
    assert read_file(tmp_path / "a") == b"\r\n\x1abytes"
    assert read_file(tmp_path / "a", 3) == b"\r\n\x1a"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "directory", "nothing", "loop"])
def test_what_is_no_file_is_an_error(tmp_path: Path, kind: str) -> None:
    """A pipe is not waited for."""
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to("a")
    with pytest.raises(OSError, match="a"):
        read_file(path)
