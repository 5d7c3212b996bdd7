"""What a remote is: a flat place elsewhere that holds values under keys, and no more than that.

What the keys mean is the business of push and backup. A remote promises five things:

1. A value is there whole or not at all, and durable when the call that put it returns.
2. `swap` moves a key from one value to the next, for one of several writers at once.
3. What cannot be told is an error: a listing is complete or raises, and never merely shorter.
4. A call that failed in passing is made again, a few times, where making it twice does no harm.
5. Errors are kinds of `StoreError` that name the remote, without its credentials.

Keys are parsed here, once for all remotes, so that every key can be a path on every system. For the
same reason no key may lie below another, and no two may differ in case alone: whoever makes keys
sees to that, since a directory could not hold both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NewType, Protocol

from modelstore.errors import BadNameError, UsageError
from modelstore.remotes.content import Source

Tag = NewType("Tag", str)
"""Tells two values of one key apart; made by the remote, and compared by it alone."""

GET_LIMIT = 64 << 20
"""Bytes that `Remote.get` takes into memory, unless told otherwise; larger values are streamed."""

EXCLUSIVE_LIMIT = 8 << 20
"""Bytes up to which `put_if_absent` has one winner.

An object store takes more than this in parts, and what completes them cannot be conditional
everywhere. Larger values must therefore be named by their content: of two writers both may win.
"""

WHOLE_LIMIT = EXCLUSIVE_LIMIT + (64 << 10)
"""Bytes that remotes really take whole: sealing adds a little to what its caller may put."""

SWAP_LIMIT = 32 << 20
"""Bytes that `swap` takes at most, always whole: the registry of some ten thousands of versions."""

_MOST_SWAPPED = SWAP_LIMIT + (256 << 10)

MAX_SEGMENT = 240
MAX_KEY = 800
"""Characters of a segment and of a key; S3 has 1,024 bytes, of which the user's prefix takes some."""

_DEVICE = r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|/|\Z)"
_SEGMENT = rf"(?!(?i:{_DEVICE}))[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{MAX_SEGMENT - 2}}}[A-Za-z0-9_-])?"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}\Z")


@dataclass(frozen=True, slots=True)
class Found:
    """What a remote tells of a value without giving it.

    Attributes:
        key: its name.
        size: in bytes; in a listing of a sealed remote what it takes there, which is a little more.
        tag: None where telling would mean reading the value; `get_tagged` always tells.
        modified: when the remote says that it was put; for people, and never trusted.
    """

    key: str
    size: int
    tag: Tag | None
    modified: datetime | None


class Remote(Protocol):
    """A flat place elsewhere; several threads may call at once.

    All methods raise `RemoteError` if the remote refuses or fails, and `BadNameError` for a key
    that cannot be one.
    """

    @property
    def shown(self) -> str:
        """The address for messages, without credentials."""
        ...

    @property
    def writable(self) -> bool:
        """Whether this kind of remote takes values; if not, `list` is refused, too."""
        ...

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Return the value of ``key``.

        Raises:
            NotFoundError: there is none.
            RemoteError: it has more than ``limit`` bytes.
        """
        ...

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Return the value of ``key`` and the tag that `swap` expects, of the same moment."""
        ...

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return exactly the bytes ``[start, stop)`` of the value of ``key``.

        Raises:
            NotFoundError: there is no value.
            RemoteError: it ends before ``stop``.
        """
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the value of ``key`` in pieces of a few MiB, whole or ending in an error.

        A connection that breaks is made again, and the value goes on where it stopped.

        Raises:
            NotFoundError: there is no value.
            ConflictError: another value took its place meanwhile.
        """
        ...

    def head(self, key: str) -> Found | None:
        """Return what is known of the value of ``key``; None if there is none."""
        ...

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Yield every value whose key begins with ``prefix`` and a slash; "" for all, in any order.

        It takes one request per some hundred values and not one per directory.
        """
        ...

    def put(self, key: str, source: Source) -> None:
        """Put a value, over whatever is there."""
        ...

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Put a value unless there is one; return whether it was put.

        After a reply was lost the answer may be False for what was put by this very call: fine for
        values that are named by their content; `swap` with None knows it better.
        """
        ...

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Replace the value that has the tag ``expected`` by ``data``; return the new tag.

        The value must say who wrote it: where a reply was lost, finding ``data`` there counts as
        success. And where somebody else has gone on from it before we looked, it is a conflict; so
        look for your own change before you make it again.

        Args:
            key: the name.
            data: up to `SWAP_LIMIT` bytes.
            expected: what `get_tagged` or the last `swap` returned; None if nothing may be there.

        Raises:
            ConflictError: somebody was faster.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove values; keys without one are fine. All are tried before an error is raised."""
        ...

    def close(self) -> None:
        """Let go of connections, locks and temporary files; the remote is not used again."""
        ...


def check_swap(data: bytes) -> None:
    """Check that ``data`` is small enough for `Remote.swap`.

    Raises:
        UsageError: it is not.
    """
    if len(data) > _MOST_SWAPPED:
        raise UsageError(f"a value of {len(data)} bytes is too large to be swapped")


def check_range(start: int, stop: int) -> None:
    """Check that ``[start, stop)`` is a range that has bytes.

    Raises:
        UsageError: it is not.
    """
    if not 0 <= start < stop:
        raise UsageError(f"[{start}, {stop}) is no range of bytes")


def parse_key(text: str) -> str:
    """Return ``text`` as a key: up to eight segments of ASCII letters, digits, ``.``, ``_``, ``-``.

    A segment begins with a letter or digit, does not end in a dot, and is no device of Windows. So
    every key can be a path, and names with a dot in front are left for remotes' own files.

    Raises:
        BadNameError: ``text`` breaks one of these rules.
    """
    if not is_key(text):
        raise BadNameError(f"{text[:100]!r} cannot be the key of a value at a remote")
    return text


def is_key(text: str) -> bool:
    """Tell whether ``text`` is a key, see `parse_key`."""
    return len(text) <= MAX_KEY and _KEY.match(text) is not None


def parse_prefix(text: str) -> str:
    """Return ``text`` as the prefix of a listing: "" or a key.

    Raises:
        BadNameError: it is neither.
    """
    return parse_key(text) if text else ""
