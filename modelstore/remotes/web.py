"""A remote to read from: a directory that some web server serves, at `http://` or `https://`.

A web server tells what one key holds and not which keys there are, so nothing can be listed; who
reads a store there begins with a key of a known name. Values come as bytes: the server is asked not
to compress them, and an answer that is not exactly what was asked for is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn

from modelstore.errors import ConflictError, NotFoundError, RemoteError
from modelstore.names import printable
from modelstore.remotes.base import GET_LIMIT, Found, Tag, check_range, parse_key
from modelstore.remotes.content import Source
from modelstore.remotes.retry import TRIES, PassingError, resumed, retried

if TYPE_CHECKING:
    from httpx2 import Client, Headers, Response

_CONNECT = 10.0
_SILENCE = 60.0
"""Seconds until a connection is taken for broken: while it is made, and while nothing comes."""

BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be others after a while."""

_REFUSED = {401, 403, 407}
_REDIRECTS = 5
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)\Z")


class WebRemote:
    """A directory behind a web server as a `Remote`; it takes no values.

    Args:
        url: of the directory, without a query.
        token: sent as a bearer token, to the server of ``url`` alone; "" for none.
        tries: how often a request is made at most.
    """

    def __init__(self, url: str, token: str = "", tries: int = TRIES) -> None:
        self.shown = url.rstrip("/")
        self._tries = tries
        self._client = _client(token)

    @property
    def writable(self) -> bool:
        """Whether it takes values; a web server does not."""
        return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # --- reading

    def get(self, key: str, limit: int = GET_LIMIT) -> bytes:
        """Return the value of ``key``; see `Remote.get`."""
        return self.get_tagged(key, limit)[0]

    def get_tagged(self, key: str, limit: int = GET_LIMIT) -> tuple[bytes, Tag]:
        """Return the value of ``key`` and its tag, or an empty tag; see `Remote.get_tagged`."""

        def get() -> tuple[bytes, Tag]:
            with self._answer("GET", key, {}) as response:
                return self._body(response, key, limit), strong_tag(response.headers) or Tag("")

        return retried(get, self._tries)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return a part of the value of ``key``; see `Remote.get_range`."""
        check_range(start, stop)
        asked = {"Range": f"bytes={start}-{stop - 1}"}

        def get() -> bytes:
            with self._answer("GET", key, asked) as response:
                skipped = self._skipped(response, key, start)
                return self._part(response, key, skipped, stop - start)

        return retried(get, self._tries)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the value of ``key``; see `Remote.stream`."""
        done = 0
        tag: Tag | None = None

        def rest() -> Iterator[bytes]:
            nonlocal done, tag
            asked = {"Range": f"bytes={done}-"} if done else {}
            with self._answer("GET", key, asked) as response:
                found = strong_tag(response.headers)
                if done and found != tag:
                    raise ConflictError(f"'{key}' at '{self.shown}' was changed while it was read")
                tag = found
                skipped = self._skipped(response, key, done)
                for piece in self._pieces(response, key):
                    fresh = piece[skipped:]
                    skipped -= len(piece) - len(fresh)
                    done += len(fresh)
                    if fresh:
                        yield fresh

        yield from resumed(rest, self._tries)

    def head(self, key: str) -> Found | None:
        """Return what is known of ``key``; see `Remote.head`."""

        def head() -> Found:
            with self._answer("HEAD", key, {}) as response:
                size = _length(response.headers)
                if size is None:
                    raise RemoteError(f"'{self.shown}' does not say how long '{key}' is")
                return Found(key, size, strong_tag(response.headers), _modified(response.headers))

        try:
            return retried(head, self._tries)
        except NotFoundError:
            return None

    # --- what only others can do

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Refuse: a web server cannot be listed."""
        raise RemoteError(
            f"'{self.shown}' is a web server and cannot be listed",
            "clone from it with `mstore clone URL DIR`, or give the address of its directory",
        )

    def put(self, key: str, source: Source) -> None:
        """Refuse: nothing can be put there."""
        self._refuse()

    def put_if_absent(self, key: str, source: Source) -> bool:
        """Refuse: nothing can be put there."""
        self._refuse()

    def swap(self, key: str, data: bytes, expected: Tag | None) -> Tag:
        """Refuse: nothing can be put there."""
        self._refuse()

    def delete(self, keys: Iterable[str]) -> None:
        """Refuse: nothing can be removed there."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RemoteError(
            f"'{self.shown}' can only be read from",
            "push to a directory, s3://, gs://, az:// or what mstore serve serves",
        )

    # --- requests

    @contextmanager
    def _answer(self, method: str, key: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """Make one request; yield the answer, with its body still to come, if it has the value."""
        with self._asked(method, parse_key(key), headers=headers) as response:
            self._check(response, key)
            yield response

    @contextmanager
    def _asked(self, method: str, path: str, **options: Any) -> Iterator[Response]:
        """Make one request; yield the answer, whatever it is, with its body still to come.

        Args:
            options: as the library has them.
        """
        import httpx2

        try:
            with self._client.stream(method, f"{self.shown}/{path}", **options) as response:
                yield response
        except (httpx2.TransportError, httpx2.StreamError) as error:
            how = f"'{self.shown}' failed: {type(error).__name__}"
            if isinstance(error, httpx2.ConnectError):
                how = f"nothing answers at '{self.shown}'"
            elif isinstance(error, httpx2.TimeoutException):
                how = f"'{self.shown}' says nothing any more"
            raise PassingError(how, "check the connection and run the command again") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RemoteError(f"'{self.shown}' failed: {type(error).__name__}") from error

    def _check(self, response: Response, key: str) -> None:
        status = response.status_code
        if self.shown.startswith("https:") and response.url.scheme != "https":
            raise RemoteError(f"'{self.shown}' leads to a place without encryption")
        if status in {404, 410}:
            raise NotFoundError(f"'{self.shown}' has no '{key}'")
        if status in BUSY:
            raise PassingError(
                f"'{self.shown}' answered {status}{said(response)}", wait=wait_of(response.headers)
            )
        if status in _REFUSED:
            raise RemoteError(
                f"'{self.shown}' answered {status}", "set MSTORE_TOKEN to a valid token"
            )
        if status not in {200, 206}:
            raise RemoteError(f"'{self.shown}' answered {status} for '{key}'{said(response)}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RemoteError(f"'{self.shown}' compresses what it serves, though asked not to")

    def _skipped(self, response: Response, key: str, start: int) -> int:
        """Return how many bytes come before ``start``: none, or all if the server knows no ranges.

        Raises:
            RemoteError: the server gives another range than was asked for.
        """
        if response.status_code == 200:
            return start
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if match is None or int(match.group(1)) != start:
            raise RemoteError(f"'{self.shown}' gave another part of '{key}' than was asked for")
        return 0

    def _body(self, response: Response, key: str, limit: int) -> bytes:
        if response.status_code != 200:
            raise RemoteError(f"'{self.shown}' gave only a part of '{key}'")
        data = bytearray()
        for piece in self._pieces(response, key):
            data += piece
            if len(data) > limit:
                raise RemoteError(f"'{key}' at '{self.shown}' has over {limit} bytes")
        return bytes(data)

    def _part(self, response: Response, key: str, skipped: int, size: int) -> bytes:
        """Return ``size`` bytes of the body after ``skipped`` ones; the rest is not waited for."""
        data = bytearray()
        for piece in self._pieces(response, key):
            fresh = piece[skipped:]
            skipped -= len(piece) - len(fresh)
            data += fresh
            if len(data) >= size:
                return bytes(data[:size])
        raise RemoteError(f"'{key}' at '{self.shown}' ends before byte {skipped + size}")

    def _pieces(self, response: Response, key: str) -> Iterator[bytes]:
        """Yield the body as it comes, and check that all that was announced has come."""
        expected = _length(response.headers)
        done = 0
        for piece in response.iter_raw():
            done += len(piece)
            yield piece
        if expected is not None and done != expected:
            raise PassingError(f"'{self.shown}' gave {done} bytes of '{key}', not {expected}")


def _client(token: str) -> Client:
    import httpx2

    headers = {"Accept-Encoding": "identity", "User-Agent": "mstore"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx2.Client(
        headers=headers,
        timeout=httpx2.Timeout(_SILENCE, connect=_CONNECT),
        follow_redirects=True,  # httpx2 keeps the token from other servers
        max_redirects=_REDIRECTS,
    )


def said(response: Response) -> str:
    """Return the sentence by which a server of mstore explains itself; "" for all others."""
    text: str = response.headers.get("X-Error-Message", "")
    return f": {printable(text[:1000])}" if text else ""


def _length(headers: Headers) -> int | None:
    text: str = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def strong_tag(headers: Headers) -> Tag | None:
    """Return the tag if it stands for exactly these bytes (RFC 9110, section 8.8.1)."""
    tag: str = headers.get("ETag", "")
    return Tag(tag) if tag.startswith('"') else None


def _modified(headers: Headers) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("Last-Modified", ""))
    except ValueError:
        return None


def wait_of(headers: Headers) -> float:
    """Return how many seconds a server wants to be left alone."""
    text: str = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
