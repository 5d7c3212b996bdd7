"""What clients of the Hugging Face Hub call a version and its files.

Whoever serves a version to them and whoever writes their cache must agree on it: what was downloaded
is then found in the cache, and the other way round.
A file of a version is an LFS file if it holds weights or has no SHA-1; then its SHA-256 names it,
else the SHA-1 that git gives it.
"""

from __future__ import annotations

from modelstore.hashing import Digest
from modelstore.manifest import FileEntry
from modelstore.state import Entry

OWNER = "mstore"
"""The namespace that every line is in, for clients that want one."""

MAIN = "main"
"""The revision that clients ask for unless told otherwise; it is ACTIVE."""

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".onnx")
"""Endings of files that are LFS files however small they are."""

_COMMIT_DIGITS = 40
"""Of an id: clients take longer ones for no commit."""


def is_lfs(file: FileEntry) -> bool:
    """Tell whether clients take a file for one of Git LFS."""
    return not file.git_sha1 or file.path.lower().endswith(WEIGHTS)


def content_name(file: FileEntry) -> str:
    """Return the digest by which clients know the content of a file; their cache's file name."""
    return file.sha256 if is_lfs(file) else file.git_sha1


def commit_id(entry: Entry) -> str:
    """Return the id of a version for clients: the first 40 digits of its own, "" where it has none."""
    return shorten(entry.id) if entry.id is not None else ""


def shorten(digest: Digest) -> str:
    """Return the id of the version ``digest`` for clients."""
    return digest[:_COMMIT_DIGITS]
