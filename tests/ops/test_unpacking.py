"""Files that are unpacked while their blobs are proved."""

from __future__ import annotations

from pathlib import Path

from modelstore.hashing import digest_of
from modelstore.manifest import BlobSpan, FileEntry
from modelstore.ops.unpacking import Unpacking

FIRST, SECOND = b"first" * 100, b"second" * 100


def entry(*pieces: bytes) -> FileEntry:
    """Return a file that is made up of pieces, each a blob."""
    whole = b"".join(pieces)
    spans = tuple(BlobSpan(digest_of(piece), len(piece)) for piece in pieces)
    return FileEntry("f", len(whole), digest_of(whole), "", "", "bytes", False, spans)


def test_pieces_come_in_any_order(tmp_path: Path) -> None:
    """A file is whole once every blob came, however often, also one that it has twice."""
    file, target = entry(FIRST, SECOND, FIRST), tmp_path / "out"
    unpacking = Unpacking(tmp_path, [file])
    unpacking.take(digest_of(SECOND), 7, SECOND[7:])
    unpacking.take(digest_of(FIRST), 0, FIRST)
    assert not unpacking.has(file)
    assert not unpacking.move(file, target)
    unpacking.take(digest_of(SECOND), 0, SECOND[:7])
    unpacking.take(digest_of(FIRST), 0, FIRST)
    assert unpacking.move(file, target)
    assert target.read_bytes() == FIRST + SECOND + FIRST
    assert not unpacking.move(file, tmp_path / "again")
    unpacking.close()


def test_wrong_bytes_do_not_count(tmp_path: Path) -> None:
    """What is not the file that is wanted is not moved."""
    file = entry(FIRST)
    unpacking = Unpacking(tmp_path, [file])
    unpacking.take(digest_of(FIRST), 0, FIRST[::-1])
    assert not unpacking.move(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_moved_is_removed(tmp_path: Path) -> None:
    """Nothing is left of files that nobody took, nor of those that are none of ours."""
    unpacking = Unpacking(tmp_path, [entry(FIRST, SECOND)])
    unpacking.take(digest_of(FIRST), 0, FIRST)
    unpacking.take(digest_of(b"x"), 0, b"x")
    unpacking.close()
    assert not list(tmp_path.iterdir())
