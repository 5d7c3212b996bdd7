from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import ConflictError, StoreError
from modelstore.remotes.content import PIECE, FileContent, MadeContent, content_of, held


def test_bytes_of_any_kind_are_a_content() -> None:
    """Bytes, a bytearray and a view of one are taken as they are now."""
    data = bytearray(b"abc")
    content = content_of(data)
    data[:] = b"xyz"
    assert held(content) == b"abc"
    assert held(content_of(memoryview(b"abc"))) == b"abc"


def test_a_file_comes_in_pieces_and_again(tmp_path: Path) -> None:
    """A file is never in memory as a whole, and can be had from the beginning twice."""
    path = tmp_path / "f"
    path.write_bytes(bytes(2 * PIECE + 5))
    content = content_of(path)
    assert content.size == 2 * PIECE + 5
    assert [len(piece) for piece in content.pieces()] == [PIECE, PIECE, 5]
    assert held(content) == path.read_bytes()


@pytest.mark.parametrize("size", [0, 9, 11])
def test_a_file_that_changes_is_told(tmp_path: Path, size: int) -> None:
    """A file whose size is another when it is sent is an error."""
    path = tmp_path / "f"
    path.write_bytes(bytes(10))
    content = FileContent(path)
    path.write_bytes(bytes(size))
    with pytest.raises(ConflictError):
        held(content)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(StoreError, match="missing"):
        content_of(tmp_path / "missing")


def test_what_is_made_has_its_size() -> None:
    """Pieces that are more or fewer bytes than was said are an error."""
    assert held(MadeContent(3, lambda: iter([b"a", b"bc"]))) == b"abc"
    for size in (2, 4):
        with pytest.raises(ConflictError):
            held(MadeContent(size, lambda: iter([b"a", b"bc"])))
