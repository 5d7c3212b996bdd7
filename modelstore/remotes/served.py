"""A remote at `http://` or `https://`, whoever serves it: a web server, or a store by `mstore serve`.

Values lie at the same paths at both. A server of mstore says so in a header of its `mstore.json`;
it also lists keys and, to those who have its token, takes what a push puts: new values and swaps,
which it checks before it answers. It never replaces a frame or a record, and removes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelstore.errors import ConflictError, DiskFullError, NotFoundError, RemoteError
from modelstore.remotes.base import Found, Remote, Tag, check_swap, is_key, parse_key, parse_prefix
from modelstore.remotes.content import Content, HeldContent, Source, content_of
from modelstore.remotes.retry import PassingError, retried
from modelstore.remotes.web import BUSY, WebRemote, said, strong_tag, wait_of

if TYPE_CHECKING:
    from httpx2 import Response

KNOWN_BY = "Mstore-Server"
"""The header of `mstore.json` by which a server of mstore is known."""

ACCESS = "Mstore-Access"
"""The header beside it that says what whoever asked may do."""

LISTING = "api/mstore/keys"
"""Where a server of mstore lists keys, below its address."""

_IDENTITY = "mstore.json"
_PAGE_LIMIT = 8 << 20
_PATIENCE = 900.0
"""Seconds until a server must have checked what was put."""


_SET = "set MSTORE_TOKEN to the token that the server was started with"


class Access(Enum):
    """What a server of mstore lets a client do."""

    READ = "read"
    TOKEN = "token"  # noqa: S105  (no token, but the need of one)
    WRITE = "write"


class ServedRemote(WebRemote):
    """A store, or a directory of a remote, behind a web server; which of both is asked when needed."""

    @property
    def writable(self) -> bool:
        """Whether it is a server of mstore, which can be listed, and may take values."""
        return self._access is not None

    @cached_property
    def _access(self) -> Access | None:
        """What we may do at a server of mstore; None where it is none."""

        def ask() -> Access | None:
            with self._answer("HEAD", _IDENTITY, {}) as response:
                if response.headers.get(KNOWN_BY) is None:
                    return None
                with suppress(ValueError):
                    return Access(response.headers.get(ACCESS, ""))
                return Access.READ

        try:
            return retried(ask, self._tries)
        except NotFoundError:
            return None

    # --- listing

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Yield the values below ``prefix``, in the order of their keys; see `Remote.list`."""
        prefix = parse_prefix(prefix)
        if not self.writable:
            yield from super().list(prefix)
        after: str | None = ""
        while after is not None:
            page, after = self._page(prefix, after)
            yield from page

    def _page(self, prefix: str, after: str) -> tuple[Iterable[Found], str | None]:
        def ask() -> bytes:
            words = {"prefix": prefix, "after": after}
            with self._asked("GET", LISTING, params=words) as response:
                self._check(response, LISTING)
                return self._body(response, LISTING, _PAGE_LIMIT)

        page, following = self._parsed(retried(ask, self._tries))
        if following is not None and following <= after:
            raise self._odd()
        return page, following

    def _parsed(self, data: bytes) -> tuple[Iterable[Found], str | None]:
        try:
            value: Any = json.loads(data)
            rows, following = value["keys"], value.get("next")
            page = [Found(key, size, None, None) for key, size in rows]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._odd() from error
        sound = all(
            isinstance(one.key, str) and is_key(one.key) and type(one.size) is int for one in page
        )
        if not sound or not isinstance(following, str | None):
            raise self._odd()
        return page, following

    def _odd(self) -> RemoteError:
        return RemoteError(f"'{self.shown}' lists its keys in a way that cannot be understood")

    # --- writing

    def put(self, key: str, source: Source) -> None:
        """Refuse: a server of mstore keeps what is there."""
        parse_key(key)
        if not self.writable:
            super().put(key, source)
        raise self._keeps()

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Put a value unless there is one; see `Remote.put_if_absent`."""
        parse_key(key)
        if not self.writable:
            return super().put_if_absent(key, source)
        content = content_of(source)

        def put() -> bool:
            return self._put(key, content, {"If-None-Match": "*"}) is not None

        return retried(put, self._tries)

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Replace a value if it is the expected one; see `Remote.swap`."""
        parse_key(key)
        if not self.writable:
            return super().swap(key, data, expected)
        check_swap(data)
        condition = {"If-None-Match": "*"} if expected is None else {"If-Match": expected}
        tag = retried(lambda: self._put(key, HeldContent(data), condition), self._tries)
        if tag is None:
            raise ConflictError(f"'{key}' at '{self.shown}' was changed by somebody else meanwhile")
        return tag

    def delete(self, keys: Iterable[str]) -> None:
        """Refuse: a server of mstore removes nothing."""
        for key in keys:
            parse_key(key)
        if not self.writable:
            super().delete(keys)
        raise self._keeps()

    def _keeps(self) -> RemoteError:
        return RemoteError(
            f"'{self.shown}' is a server of mstore, which keeps what is there",
            "remove versions where the store is: mstore rm REF",
        )

    def _put(self, key: str, content: Content, condition: Mapping[str, str]) -> Tag | None:
        """Make one request that puts a value; return its tag, None where the condition fails."""
        import httpx2

        self._require_write()
        with self._asked(
            "PUT",
            key,
            headers={"Content-Length": str(content.size), **condition},
            content=content.pieces(),
            timeout=httpx2.Timeout(_PATIENCE, connect=10.0, write=60.0),
            follow_redirects=False,
        ) as response:
            if response.status_code == 412:
                return None
            self._check_put(response, key)
            return strong_tag(response.headers) or Tag("")

    def _require_write(self) -> None:
        if self._access is Access.TOKEN:
            given = "authorization" in self._client.headers
            raise RemoteError(
                f"the token in MSTORE_TOKEN is not that of '{self.shown}'"
                if given
                else f"'{self.shown}' takes changes only from those who have its token",
                _SET,
            )
        if self._access is not Access.WRITE:
            raise RemoteError(
                f"'{self.shown}' takes no changes",
                "have it started with a token and without --read-only: mstore serve --token",
            )

    def _check_put(self, response: Response, key: str) -> None:
        status = response.status_code
        if status in {200, 201, 204}:
            return
        why = f"'{self.shown}' does not take '{key}'{said(response)}"
        if status == 507:
            raise DiskFullError(why, "free some space there, as with: mstore gc")
        if status in BUSY:
            raise PassingError(why, wait=wait_of(response.headers))
        if status in {401, 403}:
            raise RemoteError(why, _SET)
        raise RemoteError(why if said(response) else f"{why}: it answered {status}")


def takes_backups(remote: Remote) -> bool:
    """Tell whether whatever key can be put at a remote; a server of mstore takes only pushes."""
    return not (isinstance(remote, ServedRemote) and remote.writable)
