"""A long list, a part of it at a time."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is shown.

    Attributes:
        page: from 1 on.
        pages: how many there are, at least 1.
        start, stop: the places in the list, stop not included.
        total: how long it is.
    """

    page: int
    pages: int
    start: int
    stop: int
    total: int

    @property
    def steps(self) -> list[int]:
        """Pages that are linked: the first, the last, and those about this one; 0 is a gap."""
        near = {1, self.pages, *range(self.page - 1, self.page + 2)}
        found: list[int] = []
        for page in sorted(page for page in near if 1 <= page <= self.pages):
            if found and page > found[-1] + 1:
                found.append(0)
            found.append(page)
        return found


def paging(request: Request, total: int, size: int) -> Paging:
    """Return the part of a list of ``total`` that a request asks for; the nearest there is."""
    said = request.query_params.get("page", "1")
    pages = max(1, -(-total // size))
    page = int(said) if said.isascii() and said.isdecimal() and len(said) <= _DIGITS else 1
    page = min(max(1, page), pages)
    start = (page - 1) * size
    return Paging(page, pages, start, min(total, start + size), total)
