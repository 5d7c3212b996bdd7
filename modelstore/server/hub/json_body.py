"""Bodies that are JSON objects, as strangers send them."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from modelstore.server.errors import Refused
from modelstore.server.limits import BODY_BYTES, read_body


async def json_body(request: Request, most: int = BODY_BYTES) -> dict[str, Any]:
    """Return the JSON object that the body of a request is; {} where there is no body.

    Raises:
        Refused: it is something else.
    """
    body = await read_body(request, most)
    return json_object(body) if body.strip() else {}


def json_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that ``data`` spells.

    Raises:
        Refused: it is something else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def text_of(value: dict[str, Any], key: str) -> str:
    """Return the text at ``key``, "" where there is none.

    Raises:
        Refused: something else is there.
    """
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str) or not _is_utf8(found):
        raise Refused(400, f"{key!r} is not a text")
    return found


def _is_utf8(text: str) -> bool:
    """Tell whether a text can be written; JSON may spell halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
