"""A remote at which nothing is visible: another remote, with values and names sealed.

Whoever holds the other remote sees how many values there are, in how many directories, when they are
put and read, and roughly how large they are; no names, no contents, and not whether two values are
alike. What is changed, cut, swapped or moved there is noticed when it is read. That a value was
replaced by an older one of the same name is not: registries count their changes and notice it.

The same name is always sealed alike, so what is there already is not sent twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from modelstore.errors import ConflictError, IntegrityError, NotFoundError, RemoteError
from modelstore.remotes.base import GET_LIMIT, Found, Remote, Tag, check_range, check_swap
from modelstore.remotes.content import Content, HeldContent, MadeContent, Source, content_of, held
from modelstore.remotes.keyfile import COST, Secret, unwrap, wrap
from modelstore.remotes.probe import PREFIX
from modelstore.remotes.sealing import (
    MASTER_SIZE,
    PREFIX_SIZE,
    Keys,
    SealedValue,
    keys_of,
    open_name,
    seal,
    seal_name,
    sealed_size,
)

KEY = "sealed.json"
"""The key under which the wrapped master key lies."""

_KEY_LIMIT = 64 << 10


class SealedRemote:
    """A remote whose values and names are sealed, as a `Remote`; `open_sealed` makes one.

    Args:
        inner: the remote that holds what is sealed.
        keys: its keys.
    """

    def __init__(self, inner: Remote, keys: Keys) -> None:
        self._inner = inner
        self._keys = keys
        self.shown = inner.shown
        self.writable = inner.writable

    def close(self) -> None:
        """Close the remote inside."""
        self._inner.close()

    # --- reading

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Return the value of ``key``; see `Remote.get`."""
        return self.get_tagged(key, limit)[0]

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Return the value of ``key`` and its tag; see `Remote.get_tagged`."""
        name = seal_name(self._keys, key)
        with _named(self, key):
            data, tag = self._inner.get_tagged(name, sealed_size(limit))
        value = SealedValue(self._keys, key, data[:PREFIX_SIZE])
        if value.size > limit:
            raise RemoteError(f"'{key}' at '{self.shown}' has {value.size} bytes, over {limit}")
        return b"".join(value.stream(iter((data[PREFIX_SIZE:],)))), tag

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return a part of the value of ``key``, by two requests; see `Remote.get_range`."""
        check_range(start, stop)
        value = self._value(key)
        if stop > value.size:
            raise RemoteError(f"'{key}' at '{self.shown}' ends at {value.size}, before {stop}")
        sealed = self._inner.get_range(seal_name(self._keys, key), *value.where(start, stop))
        return value.part(sealed, start, stop)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the value of ``key``; see `Remote.stream`."""
        with _named(self, key):
            pieces = self._inner.stream(seal_name(self._keys, key))
            prefix = b""
            while len(prefix) < PREFIX_SIZE:
                piece = next(pieces, b"")
                if not piece:
                    break
                prefix += piece
        value = SealedValue(self._keys, key, prefix[:PREFIX_SIZE])
        yield from value.stream(chain((prefix[PREFIX_SIZE:],), pieces))

    def head(self, key: str) -> Found | None:
        """Return what is known of ``key``, by two requests; see `Remote.head`."""
        found = self._inner.head(seal_name(self._keys, key))
        if found is None:
            return None
        size = self._value(key).size
        if found.size != sealed_size(size):
            raise IntegrityError(f"'{key}' at '{self.shown}' is not as long as it was")
        return Found(key, size, found.tag, found.modified)

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Yield the values below ``prefix``; see `Remote.list`.

        Raises:
            IntegrityError: there is a name that was not sealed with this key.
        """
        for found in self._inner.list(seal_name(self._keys, prefix) if prefix else ""):
            if not _is_open(found.key):
                name = open_name(self._keys, found.key)
                yield Found(name, found.size, found.tag, found.modified)

    def _value(self, key: str) -> SealedValue:
        with _named(self, key):
            prefix = self._inner.get_range(seal_name(self._keys, key), 0, PREFIX_SIZE)
        return SealedValue(self._keys, key, prefix)

    # --- writing

    def put(self, key: str, source: Source) -> None:
        """Put a value; see `Remote.put`."""
        self._inner.put(seal_name(self._keys, key), self._sealed(key, content_of(source)))

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Put a value unless there is one; see `Remote.put_if_absent`."""
        name = seal_name(self._keys, key)
        return self._inner.put_if_absent(name, self._sealed(key, content_of(source)))

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Replace a value if it is the expected one; see `Remote.swap`.

        No two sealed values are alike, so finding this one after a lost reply proves whose it is.
        """
        check_swap(data)
        name = seal_name(self._keys, key)
        sealed = held(self._sealed(key, HeldContent(data)))
        with _named(self, key):
            return self._inner.swap(name, sealed, expected)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove values; see `Remote.delete`."""
        self._inner.delete([seal_name(self._keys, key) for key in keys])

    def _sealed(self, key: str, content: Content) -> Content:
        """Return ``content`` sealed; sending it again seals it anew, with another salt."""
        return MadeContent(sealed_size(content.size), lambda: seal(self._keys, key, content))


def _is_open(key: str) -> bool:
    """Tell whether ``key`` lies at a sealed remote without being sealed, as the rules have it."""
    return key == KEY or key.startswith(f"{PREFIX}/")


@contextmanager
def _named(remote: SealedRemote, key: str) -> Iterator[None]:
    """Say ``key`` in errors, and not what it is sealed as."""
    try:
        yield
    except NotFoundError as error:
        raise NotFoundError(f"'{remote.shown}' has no '{key}'") from error
    except ConflictError as error:
        raise ConflictError(
            f"'{key}' at '{remote.shown}' was changed by somebody else meanwhile", error.hint
        ) from error


def create_sealed(inner: Remote, secret: Secret, cost: int = COST) -> SealedRemote:
    """Make the empty remote ``inner`` a sealed one; return it.

    Args:
        inner: holds nothing yet.
        secret: what opens it from now on.
        cost: n of scrypt, for a passphrase.

    Raises:
        ConflictError: it holds something already.
    """
    if any(not _is_open(found.key) or found.key == KEY for found in inner.list()):
        raise ConflictError(
            f"'{inner.shown}' holds something already, and cannot be sealed",
            "choose an empty place",
        )
    inner.swap(KEY, wrap(os.urandom(MASTER_SIZE), secret, cost), None)
    return open_sealed(inner, secret)


def open_sealed(inner: Remote, secret: Secret) -> SealedRemote:
    """Return the sealed remote that ``inner`` holds.

    Raises:
        NotFoundError: it is not a sealed one.
        WrongKeyError: ``secret`` does not open it.
        IntegrityError: its key is damaged.
    """
    return SealedRemote(inner, keys_of(unwrap(inner.get(KEY, _KEY_LIMIT), secret)))


def is_sealed(inner: Remote) -> bool:
    """Tell whether ``inner`` holds a sealed remote."""
    return inner.head(KEY) is not None


def change_secret(inner: Remote, old: Secret, new: Secret, cost: int = COST) -> None:
    """Let ``new`` open the sealed remote ``inner`` from now on instead of ``old``.

    Whoever has kept a copy of `sealed.json` still opens it with ``old``.

    Raises:
        WrongKeyError: ``old`` does not open it.
        ConflictError: somebody else has just changed it.
    """
    data, tag = inner.get_tagged(KEY, _KEY_LIMIT)
    inner.swap(KEY, wrap(unwrap(data, old), new, cost), tag)
