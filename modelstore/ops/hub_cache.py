"""The cache of the Hugging Face Hub's clients: where it lies, and what is where in it.

A model ``owner/name`` has the directory ``models--owner--name`` with ``blobs/<digest of the content>``,
``snapshots/<commit>/<path>``, which are links to blobs, and ``refs/<revision>``, which hold a commit.
Source: huggingface_hub, docs/source/en/guides/manage-cache.md, constants.py and file_download.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelstore.errors import BadNameError
from modelstore.names import parse_path
from modelstore.reading import read_if_readable

_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"(?:{_WORD}/)?{_WORD}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_PREFIX = "models--"
_MOST_REF = 256


def cache_place(environment: Mapping[str, str], home: Path) -> Path:
    """Return where the clients keep their cache."""
    said = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if said:
        return Path(said).expanduser()
    above = environment.get("HF_HOME")
    if above:
        return Path(above).expanduser() / "hub"
    caches = environment.get("XDG_CACHE_HOME")
    return (Path(caches).expanduser() if caches else home / ".cache") / "huggingface" / "hub"


def parse_repo_id(text: str) -> str:
    """Return ``text`` as the id of a model on the Hub: "owner/name" or "name".

    Raises:
        BadNameError: it is not one. ("--" and ".." are what the Hub refuses, too.)
    """
    if not _REPO_ID.match(text) or "--" in text or ".." in text:
        raise BadNameError(
            f"{text!r} cannot be a model on the Hub", "write it as OWNER/NAME: mstore/llama_1b"
        )
    return text


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A model in a cache.

    Attributes:
        directory: where it lies.
        repo_id: the model's id on the Hub.
    """

    directory: Path
    repo_id: str

    @classmethod
    def of(cls, cache: Path, repo_id: str) -> CacheEntry:
        """Return the entry of a model, be it there or not."""
        return cls(cache / f"{_PREFIX}{repo_id.replace('/', '--')}", repo_id)

    @classmethod
    def at(cls, directory: Path) -> CacheEntry | None:
        """Return the entry that a directory is; None where it is none."""
        name = directory.absolute().name
        if not name.startswith(_PREFIX) or not (directory / "snapshots").is_dir():
            return None
        return cls(directory, parse_repo_id(name.removeprefix(_PREFIX).replace("--", "/")))

    @property
    def blobs(self) -> Path:
        """Where the contents lie."""
        return self.directory / "blobs"

    @property
    def snapshots(self) -> Path:
        """Where the commits lie."""
        return self.directory / "snapshots"

    @property
    def refs(self) -> Path:
        """Where the names of commits lie."""
        return self.directory / "refs"

    def commits(self) -> list[str]:
        """Return the commits that it has, those first that came first."""
        if not self.snapshots.is_dir():
            return []
        found = [p for p in self.snapshots.iterdir() if is_commit(p.name) and not p.is_symlink()]
        dated = sorted((path.stat().st_mtime_ns, path.name) for path in found if path.is_dir())
        return [name for _, name in dated]

    def commit(self, revision: str) -> str:
        """Return the commit that a revision means; "" where it has no such revision.

        Args:
            revision: the name of a ref, or a commit, or how one begins.
        """
        begun = [name for name in self.commits() if len(revision) > 5 and name.startswith(revision)]
        return self.ref(revision) or (begun[0] if len(begun) == 1 else "")

    def ref(self, name: str) -> str:
        """Return the commit that a ref holds; "" where there is none of that name."""
        try:
            parse_path(name)
        except BadNameError:
            return ""
        data = read_if_readable(self.refs / name, _MOST_REF)
        said = "" if data is None else data.decode("latin-1").strip()
        return said if is_commit(said) else ""

    def names(self, commit: str) -> list[str]:
        """Return the refs that hold a commit, sorted."""
        found = (path for path in self.refs.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self.refs).as_posix() for path in found)
        return [name for name in names if self.ref(name) == commit]


def is_commit(text: str) -> bool:
    """Tell whether ``text`` is how clients call a commit."""
    return bool(_COMMIT.match(text))
