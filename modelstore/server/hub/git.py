"""The names that git would give what a version holds, which clients compare with their own.

The name of an LFS file is that of its pointer, and the SHA-256 says what is in it.
Formats: git's objects, and the pointer of Git LFS 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from modelstore.manifest import FileEntry
from modelstore.ops.hub_names import WEIGHTS, content_name, is_lfs

__all__ = ["WEIGHTS", "Directory", "directories", "etag", "is_lfs", "oid", "pointer"]


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a version.

    Attributes:
        path: "" is the version's own.
        oid: the name of its tree.
    """

    path: str
    oid: str


def pointer(file: FileEntry) -> bytes:
    """Return what git itself would hold of an LFS file."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    return text.format(file.sha256, file.size).encode()


def oid(file: FileEntry) -> str:
    """Return the name that git gives a file, or its pointer."""
    return _name(b"blob", pointer(file)) if is_lfs(file) else file.git_sha1


def etag(file: FileEntry) -> str:
    """Return the entity tag of a file, which is a digest of its content, with quotes."""
    return f'"{content_name(file)}"'


def directories(files: Iterable[FileEntry]) -> list[Directory]:
    """Return all directories that files lie in, sorted by path; the first is the version's own."""
    trees: dict[str, dict[bytes, bytes]] = {"": {}}
    for file in files:
        above, _, name = file.path.rpartition("/")
        _add_directories(trees, above)
        mode = b"100755" if file.executable else b"100644"
        trees[above][name.encode()] = _row(mode, name, oid(file))
    found: list[Directory] = []
    for path in sorted(trees, key=lambda path: path.count("/") + bool(path), reverse=True):
        rows = trees[path]
        tree = Directory(path, _name(b"tree", b"".join(rows[key] for key in sorted(rows))))
        found.append(tree)
        if path:
            above, _, name = path.rpartition("/")
            trees[above][name.encode() + b"/"] = _row(b"40000", name, tree.oid)
    return sorted(found, key=lambda directory: directory.path)


def _add_directories(trees: dict[str, dict[bytes, bytes]], path: str) -> None:
    while path not in trees:
        trees[path] = {}
        path = path.rpartition("/")[0]


def _row(mode: bytes, name: str, oid: str) -> bytes:
    return mode + b" " + name.encode() + b"\0" + bytes.fromhex(oid)


def _name(kind: bytes, data: bytes) -> str:
    digest = hashlib.sha1(b"%s %d\0" % (kind, len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()
