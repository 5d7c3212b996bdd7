"""Who has signed in with a browser: what their cookie says, and what their forms must say."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from modelstore.hashing import digest_of

KEPT_SECONDS = 12 * 3600
"""How long a sign-in holds."""

_MOST = 100
"""Sign-ins that hold at once; one more ends the oldest."""


class Sessions:
    """The sign-ins of one server, which end with it.

    A cookie holds a random number, never the token. A form holds a digest of that number under a key of
    the process: it is good for the browser that was given it, and says nothing of the cookie.
    The name of the cookie is the process's own, for browsers keep one set for all ports of a host.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._ends: OrderedDict[str, float] = OrderedDict()
        self.cookie = f"mstore-{secrets.token_hex(4)}"

    def begin(self) -> str:
        """Return what a new cookie says."""
        said = secrets.token_hex(32)
        with self._lock:
            self._ends[digest_of(said.encode())] = time.monotonic() + KEPT_SECONDS
            while len(self._ends) > _MOST:
                self._ends.popitem(last=False)
        return said

    def end(self, said: str) -> None:
        """Forget a sign-in."""
        with self._lock:
            self._ends.pop(digest_of(said.encode()), None)

    def of(self, headers: Mapping[str, str]) -> str:
        """Return what the cookie of a request says where that is a sign-in; else ""."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        said = found.value if found is not None else ""
        with self._lock:  # looked up by its digest: the time it takes says nothing of the cookie
            ends = self._ends.get(digest_of(said.encode("utf-8", "replace")), 0.0)
        return said if said and time.monotonic() < ends else ""

    def seal(self, said: str) -> str:
        """Return what the forms of a sign-in hold."""
        return hmac.new(self._key, said.encode(), "sha256").hexdigest()

    def is_sealed(self, said: str, seal: str) -> bool:
        """Tell whether a form was given to this sign-in."""
        return bool(said) and hmac.compare_digest(
            self.seal(said).encode(), seal.encode("utf-8", "replace")
        )
