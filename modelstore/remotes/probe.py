"""Finding out what a server really does: never trust one that says that it is compatible.

Of eight servers that speak S3, five were found to overwrite silently where a precondition forbids
it. A registry at such a remote would lose versions without anybody being told; so before one is
kept there, every kind of conditional write is made, twice, with the answer known.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from modelstore.errors import ConflictError, RemoteError
from modelstore.remotes.base import Remote, Tag
from modelstore.remotes.served import ServedRemote

PREFIX = "probe"
"""Where probes put their values; each removes its own, if it may."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a remote was found to do.

    Attributes:
        creates: a value is created only if there is none.
        updates: a value is replaced only if it is the expected one, and then it is.
        ranges: a part of a value can be had.
    """

    creates: bool
    updates: bool
    ranges: bool

    @property
    def keeps_registries(self) -> bool:
        """Whether registries are safe there: one of several writers wins, and all others know."""
        return self.creates and self.updates

    @property
    def reason(self) -> str:
        """Why registries are not safe there, in half a sentence; "" if they are."""
        if self.keeps_registries:
            return ""
        what = "creates over" if not self.creates else "does not compare before it replaces"
        return f"it {what} what is there, so one of two pushes at once would be lost"


def probe(remote: Remote) -> Probe:
    """Try ``remote`` with a few small values of its own, and remove them again.

    Raises:
        RemoteError: it cannot be reached, takes no values, or gives back other bytes.
    """
    if isinstance(remote, ServedRemote) and remote.writable:  # it is mstore itself
        return Probe(creates=True, updates=True, ranges=True)
    key = f"{PREFIX}/{os.urandom(16).hex()}"
    try:
        remote.put(key, b"there")
        creates = not (_wins(remote, key, None) or _wins(remote, key, None))
        return Probe(creates, _updates(remote, key), _gives_ranges(remote, key))
    finally:
        with suppress(RemoteError):  # where nothing may be deleted it stays, and harms nobody
            remote.delete([key])


def require_registries(remote: Remote) -> Probe:
    """Probe ``remote``, and refuse it if registries are not safe there.

    Raises:
        RemoteError: they are not, or it cannot be reached.
    """
    found = probe(remote)
    if not found.keeps_registries:
        raise RemoteError(
            f"'{remote.shown}' cannot keep registries: {found.reason}",
            "use a server that honours If-Match and If-None-Match, or a directory: mstore help remote",
        )
    return found


def _updates(remote: Remote, key: str) -> bool:
    """Tell whether the right tag is taken and a stale one is not, each twice."""
    stale = remote.get_tagged(key)[1]
    try:
        second = remote.swap(key, _value(), stale)
        third = remote.swap(key, _value(), second)
    except (ConflictError, RemoteError):
        return False  # a server that refuses every condition is of no use either
    if len({stale, second, third}) < 3:
        return False
    return not (_wins(remote, key, stale) or _wins(remote, key, second))


def _wins(remote: Remote, key: str, expected: Tag | None) -> bool:
    """Tell whether a write takes place although ``expected`` is not what is there."""
    try:
        remote.swap(key, _value(), expected)
    except ConflictError:
        return False
    return True


def _value() -> bytes:
    return b"mstore probe " + os.urandom(16).hex().encode()


def _gives_ranges(remote: Remote, key: str) -> bool:
    whole = remote.get(key)
    try:
        return remote.get_range(key, 1, len(whole) - 1) == whole[1:-1]
    except RemoteError:
        return False
