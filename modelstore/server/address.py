"""The address of the server, as whoever asks has spelt it."""

from __future__ import annotations

from starlette.requests import Request


def base_url(request: Request) -> str:
    """Return what the addresses that a client is told begin with; no slash at the end.

    The host is the one that the request names, which was checked. A proxy in front, which is what
    talks TLS, says so in `X-Forwarded-Proto`.
    """
    said = request.headers.get("x-forwarded-proto", "").partition(",")[0]
    secure = said.strip().lower() == "https"
    scheme = "https" if secure else request.url.scheme
    return f"{scheme}://{request.headers['host']}"
