"""The part of a file that a request asks for: `Range`, `If-Range` and `If-None-Match` of RFC 9110."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d{0,40})-(\d{0,40})\Z", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes ``[start, stop)`` of a file of ``size`` bytes.

    Attributes:
        partial: whether a range was asked for.
    """

    start: int
    stop: int
    size: int
    partial: bool = False

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        """The value of the header `Content-Range` (RFC 9110, section 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def window(headers: Mapping[str, str], size: int, etag: str) -> Window | None:
    """Return what a request asks for; None where the file has no such bytes.

    A range that is malformed, or that is several, is passed over, as RFC 9110, section 14.2, lets
    a server do: the whole file is the answer. So is one of another state of the file (`If-Range`).

    Args:
        etag: with its quotes.
    """
    whole = Window(0, size, size)
    match = _RANGE.match(headers.get("range", "").replace(" ", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return whole
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size) if last else whole
    start, stop = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return whole
    return Window(start, stop, size, partial=True) if start < size else None


def _suffix(length: int, size: int) -> Window | None:
    start = max(0, size - length)
    return Window(start, size, size, partial=True) if length and size else None


def unchanged(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether the client has the file already, as `If-None-Match` says."""
    known = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
