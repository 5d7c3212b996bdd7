"""Permits: what a client is given to hand back, where it does not send the token.

Clients of the Hub send large files to whatever address they are told, without a token of their own.
So the address says that whoever has the token asked for it, for what, and until when.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from urllib.parse import parse_qs

UPLOADS = "/uploads/"
"""Where large files are sent to; the address itself has the permit."""

XET = "/xet/"
"""Where chunks are sent to; the permit is said as a token is."""

_PERMIT = re.compile(r"(\d{1,12})-([0-9a-f]{64})\Z", re.ASCII)


class Permits:
    """The permits of one server, which end with it."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def issue(self, what: str, seconds: int) -> tuple[str, int]:
        """Return a permit for ``what``, and when it ends, in seconds since 1970."""
        ends = int(time.time()) + seconds
        return f"{ends}-{self._sign(what, str(ends))}", ends

    def allows(self, permit: str, what: str) -> bool:
        """Tell whether this is a permit for ``what`` that has not ended."""
        match = _PERMIT.match(permit)
        if match is None or int(match[1]) < time.time():
            return False
        return hmac.compare_digest(match[2], self._sign(what, match[1]))

    def admits(self, path: str, query: bytes, said: str) -> bool:
        """Tell whether a request has the permit that its path takes.

        Args:
            query: of the request, as it was sent.
            said: where a token would be said; "" for nothing.
        """
        if path.startswith(XET):
            return self.allows(said, XET)
        if not path.startswith(UPLOADS):
            return False
        try:
            fields = parse_qs(query.decode("ascii", "replace"), max_num_fields=8)
        except ValueError:  # there are more
            return False
        size, permit = (fields.get(name, [""])[0] for name in ("size", "permit"))
        return self.allows(permit, upload_of(path, size))

    def _sign(self, what: str, ends: str) -> str:
        return hmac.new(self._key, f"{ends} {what}".encode(), "sha256").hexdigest()


def upload_of(path: str, size: str) -> str:
    """Return what a permit says that allows to send ``size`` bytes to ``path``."""
    return f"{path} {size}"
