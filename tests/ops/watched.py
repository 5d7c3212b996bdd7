"""A remote that counts what is asked of it, and fails or does something else when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from modelstore.errors import RemoteError
from modelstore.remotes.base import GET_LIMIT, Found, Remote, Tag
from modelstore.remotes.content import Source, content_of

Before = Callable[[int, str, str], None]
"""Told the number of a call, its name and its key; may raise."""


class WatchedRemote:
    """Another remote, with every call told to `before` first.

    Attributes:
        calls: the names and keys of the calls so far.
        put_bytes: bytes that were put, by key.
    """

    def __init__(self, inner: Remote, before: Before | None = None) -> None:
        self._inner = inner
        self._before = before
        self.shown = inner.shown
        self.writable = inner.writable
        self.calls: list[tuple[str, str]] = []
        self.put_bytes: dict[str, int] = {}

    def _told(self, name: str, key: str) -> None:
        self.calls.append((name, key))
        if self._before is not None:
            self._before(len(self.calls), name, key)

    def count(self, name: str) -> int:
        """Return how many calls of that name there were."""
        return sum(name == one for one, _ in self.calls)

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Watch `Remote.get`."""
        self._told("get", key)
        return self._inner.get(key, limit)

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Watch `Remote.get_tagged`."""
        self._told("get_tagged", key)
        return self._inner.get_tagged(key, limit)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Watch `Remote.get_range`."""
        self._told("get_range", key)
        return self._inner.get_range(key, start, stop)

    def stream(self, key: str) -> Iterator[bytes]:
        """Watch `Remote.stream`."""
        self._told("stream", key)
        yield from self._inner.stream(key)

    def head(self, key: str) -> Found | None:
        """Watch `Remote.head`."""
        self._told("head", key)
        return self._inner.head(key)

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Watch `Remote.list`."""
        self._told("list", prefix)
        yield from self._inner.list(prefix)

    def put(self, key: str, source: Source) -> None:
        """Watch `Remote.put`."""
        self._told("put", key)
        self._inner.put(key, source)
        self.put_bytes[key] = content_of(source).size

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Watch `Remote.put_if_absent`."""
        self._told("put_if_absent", key)
        put = self._inner.put_if_absent(key, source)
        if put:
            self.put_bytes[key] = content_of(source).size
        return put

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Watch `Remote.swap`."""
        self._told("swap", key)
        tag = self._inner.swap(key, data, expected)
        self.put_bytes[key] = len(data)
        return tag

    def delete(self, keys: Iterable[str]) -> None:
        """Watch `Remote.delete`."""
        wanted = list(keys)
        self._told("delete", ", ".join(wanted))
        self._inner.delete(wanted)

    def close(self) -> None:
        """Close the remote inside."""
        self._inner.close()


def failing_at(number: int) -> Before:
    """Return what makes the call of that number, and all after it, fail."""

    def fail(count: int, name: str, key: str) -> None:
        if count >= number:
            raise RemoteError(f"the network is gone at {name} of {key}")

    return fail


def refusing(*names: str) -> Before:
    """Return what refuses calls of these names."""

    def refuse(_: int, name: str, key: str) -> None:
        if name in names:
            raise RemoteError(f"403: {name} of {key} is not allowed")

    return refuse


def keys_of(remote: Any) -> dict[str, int]:
    """Return the sizes of all values at a remote, by key."""
    return {found.key: found.size for found in remote.list()}
