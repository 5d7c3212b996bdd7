"""From a template and values to an answer; the one place that loads templates and static files."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from modelstore.charts import STYLE
from modelstore.hashing import digest_of
from modelstore.server.context import Context
from modelstore.server.errors import Refused
from modelstore.server.pages import words

_HERE = Path(__file__).resolve().parent.parent
_STATIC = _HERE / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""What a page may load: what comes from this server, and nothing that is written within it."""

_CHARTS = "charts.css"
_FOR_EVER = "public, max-age=31536000, immutable"


def render(
    context: Context, request: Request, template: str, status: int = 200, **values: Any
) -> Response:
    """Return a page.

    Args:
        template: the name of its file.
        values: what the template says.
    """
    signed_in = context.sessions.of(request.headers)
    text = (
        _templates()
        .get_template(template)
        .render(
            {
                "path": request.url.path,
                "here": f"{request.url.path}?{request.url.query}".rstrip("?"),
                "store_name": context.store.root.name,
                "store_root": str(context.store.root),
                "may_write": context.settings.may_write,
                "signed_in": bool(signed_in),
                "seal": context.sessions.seal(signed_in) if signed_in else "",
                **values,
            }
        )
    )
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        # with no-referrer, browsers do not say where a form comes from: its Origin would be null
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(text, status, headers)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=words.shown,
    )
    environment.filters.update(
        ago=words.ago,
        exact=words.exact,
        number=words.number,
        size=words.size,
        cut=words.cut,
        percent=words.percent,
        first_line=words.first_line,
        rest_of=words.rest_of,
        segment=segment,
    )
    environment.globals.update(static=static_url, counted=words.counted, query=query)
    return environment


def segment(text: object) -> str:
    """Return ``text`` as one part of a path of a URL."""
    return quote(str(text), safe="")


def query(**values: object) -> str:
    """Return the query of a URL, with its question mark; what is empty is left out."""
    said = {key: value for key, value in values.items() if value not in (None, "", [])}
    return f"?{urlencode(said, doseq=True)}" if said else ""


# --- what lies in files


@cache
def _static() -> Mapping[str, tuple[bytes, str]]:
    """Return the content and the type of every static file, by its path."""
    found = {
        path.relative_to(_STATIC).as_posix(): path.read_bytes()
        for path in sorted(_STATIC.rglob("*"))
        if path.is_file()
    }
    found[_CHARTS] = STYLE.encode()
    return {name: (data, _type_of(name)) for name, data in found.items()}


def _type_of(name: str) -> str:
    known = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
    guessed = mimetypes.guess_type(name)[0] or "text/plain; charset=utf-8"
    return known.get(name.rpartition(".")[2], guessed)


@cache
def static_url(name: str) -> str:
    """Return the URL of a static file, which changes with its content."""
    return f"/static/{name}?{digest_of(_static()[name][0])[:12]}"


async def static(_: Context, request: Request) -> Response:
    """Answer ``/static/{path}``; a browser keeps what it was given under a name with a digest."""
    found = _static().get(request.path_params["path"])
    if found is None:
        raise Refused(404, "there is no such file")
    data, kind = found
    cache_control = _FOR_EVER if request.url.query else "no-cache"
    return Response(data, headers={"Content-Type": kind, "Cache-Control": cache_control})
