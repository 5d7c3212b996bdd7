"""Stores that push to, and pull from, a remote; and remotes that count, fail or lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore.errors import RemoteError
from modelstore.names import ModelName
from modelstore.ops.commit import CommitOptions, Committed, commit
from modelstore.ops.fsck import Level, fsck
from modelstore.ops.lines import read_line
from modelstore.ops.pull import Pulled, pull
from modelstore.ops.push import Pushed, push
from modelstore.ops.remotes import Place
from modelstore.remotes.base import GET_LIMIT, Found, Remote, Tag
from modelstore.remotes.content import Source, content_of
from modelstore.store import Store
from tests.models import write_model

LINE = ModelName("m")

CALLS = ("get", "get_tagged", "get_range", "stream", "head", "list", "put", "put_if_absent", "swap")


class Watched:
    """Another remote, which notes every call, and may fail or answer otherwise.

    Attributes:
        calls: the name and the key of every call.
        written: bytes that were put, by key.
        before: called with the name and the key before a call; may raise.
    """

    def __init__(self, inner: Remote, before: Callable[[str, str], None] | None = None) -> None:
        self._inner = inner
        self.before = before or (lambda name, key: None)
        self.calls: list[tuple[str, str]] = []
        self.written: dict[str, int] = {}
        self.shown = inner.shown
        self.writable = inner.writable

    def _note(self, name: str, key: str) -> None:
        self.calls.append((name, key))
        self.before(name, key)

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """See `Remote`."""
        self._note("get", key)
        return self._inner.get(key, limit)

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """See `Remote`."""
        self._note("get_tagged", key)
        return self._inner.get_tagged(key, limit)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Remote`."""
        self._note("get_range", key)
        return self._inner.get_range(key, start, stop)

    def stream(self, key: str) -> Iterator[bytes]:
        """See `Remote`."""
        self._note("stream", key)
        return self._inner.stream(key)

    def head(self, key: str) -> Found | None:
        """See `Remote`."""
        self._note("head", key)
        return self._inner.head(key)

    def list(self, prefix: str = "") -> Iterator[Found]:
        """See `Remote`."""
        self._note("list", prefix)
        return self._inner.list(prefix)

    def put(self, key: str, source: Source) -> None:
        """See `Remote`."""
        self._note("put", key)
        self._inner.put(key, source)
        self.written[key] = content_of(source).size

    def put_if_absent(self, key: str, source: Source) -> bool:
        """See `Remote`."""
        self._note("put_if_absent", key)
        put = self._inner.put_if_absent(key, source)
        if put:
            self.written[key] = content_of(source).size
        return put

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """See `Remote`."""
        self._note("swap", key)
        tag = self._inner.swap(key, data, expected)
        self.written[key] = len(data)
        return tag

    def delete(self, keys: Iterable[str]) -> None:
        """See `Remote`."""
        self._inner.delete(keys)

    def close(self) -> None:
        """See `Remote`."""
        self._inner.close()


class Broken:
    """Lets a number of calls pass, and fails at the next."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, name: str, key: str) -> None:
        """Count a call."""
        self.left -= 1
        if self.left < 0:
            raise RemoteError(f"the connection broke at {name} of {key}")


def place(remote: Remote, name: str = "") -> Place:
    """Return a remote as push and pull take it."""
    return Place(name, name or remote.shown, remote)


def commit_model(store: Store, path: Path, *, step: float = 0.0, **options: Any) -> Committed:
    """Commit a model that training moved by ``step``."""
    source = write_model(path, step=step)
    return commit(store, source, LINE, CommitOptions(message=f"step {step}", **options))


def push_to(store: Store, remote: Remote, **options: Any) -> Pushed:
    """Push the one model there is, and return what came of it; raise what failed."""
    [done] = push(store, place(remote), [LINE], **options)
    if done.error is not None:
        raise done.error
    return done


def pull_from(store: Store, remote: Remote, **options: Any) -> Pulled:
    """Pull the one model there is."""
    [done] = pull(store, place(remote), [LINE], **options)
    return done


def files_out(store: Store, version: str) -> dict[str, bytes]:
    """Return the files of a version, decoded."""
    entry = store.state(LINE).entry(version)
    assert entry is not None
    manifest = store.manifest(LINE, entry)
    return {
        file.path: b"".join(store.blobs.read(span.blob) for span in file.spans)
        for file in manifest.files
    }


def assert_sound(store: Store) -> None:
    """Every byte of the store is right, and nothing in it contradicts anything else."""
    found = fsck(store, Level.FULL)
    assert [finding for finding in found.problems if finding.serious] == []


def assert_quick(store: Store) -> None:
    """Registries, directories and headers contradict nothing."""
    found = fsck(store, Level.QUICK)
    assert [finding for finding in found.problems if finding.serious] == []


def remote_document(remote: Remote) -> Mapping[str, Any]:
    """Return what the registry at the remote says."""
    line = read_line(remote, LINE)
    assert line is not None
    return line.document


def made(path: Path) -> Path:
    """Make a directory; return it."""
    path.mkdir()
    return path
