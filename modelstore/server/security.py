"""Who may ask: the Host, Origin and token of every request are checked before anything else is.

A page of another site can make a browser ask a server on this machine. It cannot make it say
another Host than the one that the page's own name was rebound from, nor hide where it comes from
(`Origin`, `Sec-Fetch-Site`); so neither does that page read the store, nor change it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import platform
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response

from modelstore.hashing import digest_of
from modelstore.server.errors import Refused, refusal
from modelstore.server.limits import HEAD_BYTES
from modelstore.server.permits import Permits
from modelstore.server.sessions import Sessions
from modelstore.server.settings import ServeSettings, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SIGN_IN, STATIC = "/sign-in", "/static/"
"""What is answered to whoever has no token yet: the form that takes it, and what that looks like."""

_READS = {"GET", "HEAD", "OPTIONS"}
_LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}

_HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?\Z", re.ASCII
)
"""RFC 9110, section 7.2, without what no client of ours writes."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "no-cache",
}
"""What every answer says, unless it says otherwise itself."""

_WRONG_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105
"""In the Hub's words: its clients then do not take the repository for missing."""


class Guard:
    """Lets through what is asked by whom the store is for; the outermost layer of the server.

    Also where errors end: nothing that an answer raises goes further.

    Args:
        app: answers what is let through.
        settings: the server's.
        report: is given a line that the person at the terminal should see.
        sessions: who has signed in with a browser, and reads without saying the token again.
        permits: what clients may do without saying the token.
        refuse: makes the answer of a refusal.
    """

    def __init__(
        self,
        app: App,
        settings: ServeSettings,
        report: Callable[[str], None],
        sessions: Sessions,
        permits: Permits,
        refuse: Callable[[Request, Refused], Response],
    ) -> None:
        self._app = app
        self._settings = settings
        self._report = report
        self._sessions = sessions
        self._permits = permits
        self._refuse = refuse
        self._names = _own_names(settings)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, by a refusal or by the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            _check_head(scope)
            self._check(scope, Headers(scope=scope))
            await self._app(scope, receive, sending)
        except Exception as error:
            refused = refusal(error)
            if refused is not error and refused.status >= 500:
                self._report(f"{scope['method']} {scope['path']}: {type(error).__name__}: {error}")
            if not began:  # else the connection ends here, and the client sees that bytes lack
                await self._refuse(Request(scope), refused)(scope, receive, sending)

    def _check(self, scope: Mapping[str, Any], headers: Headers) -> None:
        path, host = scope["path"], headers.get("host", "")
        if not self._is_ours(host):
            raise Refused(400, f"this server is not called {host!r}; start it with --allow-host")
        if scope["method"] not in _READS:
            _check_origin(headers, host)
        if self._settings.is_local or path == SIGN_IN or path.startswith(STATIC):
            return
        if self._sessions.of(headers):
            return
        said = token_of(headers)
        if self._permits.admits(path, scope["query_string"], said or ""):
            return
        if said is None:
            raise _unknown("this server needs a token; set HF_TOKEN to the one it was started with")
        if not is_token(said, self._settings):
            raise _unknown(_WRONG_TOKEN)

    def _is_ours(self, host: str) -> bool:
        """Tell whether a Host is a name of ours, or an address, which no name was rebound to."""
        match = _HOST.match(host)
        if match is None:
            return False
        name = (match["name"] or match["address"]).lower().rstrip(".")
        if name in self._names:
            return True
        return not self._settings.is_local and _is_address(name)


def require_write(request: Request, settings: ServeSettings) -> None:
    """Check that whoever asks may change the store.

    Raises:
        Refused: nobody may, or they do not have the token.
    """
    if settings.read_only:
        raise Refused(403, "this server is read-only")
    if not settings.token:
        raise Refused(403, "this server takes no changes; start it with --token for that")
    said = token_of(request.headers)
    if said is None:
        raise _unknown("changing the store needs the token; set HF_TOKEN to it")
    if not is_token(said, settings):
        raise _unknown(_WRONG_TOKEN)


def token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token that a request has: as Bearer, or as the password of Basic (RFC 7617)."""
    kind, _, value = headers.get("authorization", "").strip().partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            decoded = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return ""
        return decoded.partition(":")[2]
    return None


def is_token(said: str, settings: ServeSettings) -> bool:
    """Tell whether that is the token, in a time that says nothing of it."""
    known, told = digest_of(settings.token.encode()), digest_of(said.encode("utf-8", "replace"))
    return bool(settings.token) and hmac.compare_digest(known, told)


def _unknown(message: str) -> Refused:
    return Refused(401, message, headers={"WWW-Authenticate": 'Basic realm="mstore"'})


def _check_head(scope: Mapping[str, Any]) -> None:
    """Hold a head that came at once to the limit that uvicorn has for those that come in parts."""
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size > HEAD_BYTES:
        raise Refused(431, f"the head of the request has over {HEAD_BYTES} bytes")


def _check_origin(headers: Headers, host: str) -> None:
    site = headers.get("sec-fetch-site", "none").lower()
    origin = headers.get("origin")
    same = origin is None or urlsplit(origin).netloc.lower() == host.lower()
    if site not in {"none", "same-origin"} or not same:
        raise Refused(403, "a page of another site asked for this")


def _own_names(settings: ServeSettings) -> set[str]:
    names = {settings.host.lower(), *_LOCAL_NAMES, *(name.lower() for name in settings.names)}
    if not is_loopback(settings.host):
        names.add(platform.node().lower())
    return names - {""}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
