"""What went wrong, as a page: what it is about, and what to do next."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from modelstore.errors import StoreError
from modelstore.server.context import Context
from modelstore.server.errors import refusal
from modelstore.server.pages.rendering import render

_TITLES = {
    400: "That cannot be asked",
    401: "The token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Something has changed meanwhile",
    413: "Too much was sent",
    503: "Busy",
}
_BEFORE = {400, 401}
"""What is refused before it is known whom the store is for."""

_OF_CLIENTS = ("/api/", "/blobs/")
_OF_FILES = ("/resolve/", "/raw/")


def wants_page(request: Request) -> bool:
    """Tell whether a person looks at the answer: clients of the Hub never ask for a page."""
    path = request.url.path
    if path.startswith(_OF_CLIENTS) or any(part in path for part in _OF_FILES):
        return False
    return "text/html" in request.headers.get("accept", "")


def as_page(context: Context, request: Request, error: Exception) -> Response:
    """Return the page that says what went wrong."""
    refused = refusal(error)
    message, hint = refused.message, ""
    if isinstance(error, StoreError):
        message, hint = error.message, error.hint
    damaged = isinstance(error, StoreError) and refused.status == 500
    title = "Damaged" if damaged else _TITLES.get(refused.status, "Something went wrong")
    values = {"title": title, "message": message, "hint": hint, "code": refused.status}
    if refused.status in _BEFORE:  # whoever asks need not learn which store this is
        values |= {"store_name": "", "store_root": "", "may_write": False}
    answer = render(context, request, "failure.html", refused.status, **values)
    answer.headers.update(refused.headers)
    return answer
