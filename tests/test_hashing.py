from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from modelstore import hashing
from modelstore.errors import BadNameError
from modelstore.hashing import FileHasher, Hasher, checksum, digest_of, parse_digest

pieces = st.lists(st.binary(max_size=200), max_size=6)


def test_the_digest_is_blake3_256() -> None:
    """The vector of the BLAKE3 paper's repository for no input."""
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_of(b"") == empty
    assert checksum(b"", 8) == bytes.fromhex(empty)[:8]


@given(pieces)
def test_pieces_hash_as_the_whole(parts: list[bytes]) -> None:
    """Where the pieces are cut makes no difference, nor what holds the bytes."""
    whole = b"".join(parts)
    hasher = Hasher()
    file = FileHasher(len(whole))
    for part in parts:
        hasher.update(memoryview(part))
        file.update(bytearray(part))
    assert hasher.digest() == digest_of(whole) == file.blake3 == blake3(whole).hexdigest()
    assert file.sha256 == hashlib.sha256(whole).hexdigest()
    assert parse_digest(file.blake3) == file.blake3


@pytest.mark.needs("git")
def test_small_files_get_the_name_that_git_gives_them(tmp_path: Path) -> None:
    """Git hash-object is the oracle."""
    data = b"model weights\n" * 1000
    (tmp_path / "f").write_bytes(data)
    git = shutil.which("git") or ""
    said = subprocess.check_output([git, "hash-object", "f"], cwd=tmp_path, text=True).strip()
    file = FileHasher(len(data))
    file.update(data)
    assert file.git_sha1 == said


def test_large_files_get_no_sha1(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are LFS files on every hub."""
    monkeypatch.setattr(hashing, "GIT_SHA1_LIMIT", 10)
    assert FileHasher(11).git_sha1 == ""
    assert len(FileHasher(10).git_sha1) == 40


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "b3:" + "a" * 64, 5, None]
)
def test_what_is_no_digest(text: str) -> None:
    """Exactly 64 lower-case hex digits, or a BadNameError."""
    with pytest.raises(BadNameError, match="is not a digest"):
        parse_digest(text)
