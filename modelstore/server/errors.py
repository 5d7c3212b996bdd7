"""Refusals, and the one place where an error becomes an answer.

An answer says one sentence, as JSON and in the headers that clients of the Hub read; never where in
the program it arose.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from modelstore.errors import (
    ConflictError,
    DiskFullError,
    LockTimeoutError,
    NotFoundError,
    StoreError,
    UsageError,
)
from modelstore.names import printable

_STATUS: tuple[tuple[type[StoreError], int], ...] = (
    (UsageError, 400),
    (NotFoundError, 404),
    (ConflictError, 409),
    (DiskFullError, 507),
    (LockTimeoutError, 503),
)


class Refused(Exception):  # noqa: N818  (it is an answer, and not always an error of ours)
    """A request is answered with a status and a sentence.

    Args:
        status: of HTTP.
        message: one sentence.
        code: as `X-Error-Code` of the Hub: RepoNotFound, RevisionNotFound, EntryNotFound,
            GatedRepo; or "".
        headers: further ones.
    """

    def __init__(
        self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


def answer(error: Refused) -> Response:
    """Return the answer that ``error`` is."""
    headers = {**error.headers, "X-Error-Message": _header(error.message)}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": printable(error.message)}, error.status, headers)


def refusal(error: Exception) -> Refused:
    """Return ``error`` as a refusal; what is no error of ours says nothing of itself."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, StoreError):
        return Refused(500, "internal error; the terminal of the server says more")
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return Refused(status, message)


def _header(text: str) -> str:
    """Return ``text`` as the value of a header, which holds printable ASCII."""
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")[:1000]
