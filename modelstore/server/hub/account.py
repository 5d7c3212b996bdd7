"""Who is asking, and whether a card is well-formed: questions that clients ask before they upload."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelstore.server.context import Context
from modelstore.server.hub.ids import OWNER
from modelstore.server.limits import read_body
from modelstore.server.security import require_write


async def whoami(context: Context, request: Request) -> Response:
    """Answer ``/api/whoami-v2``: there is one user, who has the token."""
    role = "read"
    if context.settings.may_write:
        require_write(request, context.settings)
        role = "write"
    access = {"type": "access_token", "accessToken": {"displayName": OWNER, "role": role}}
    user = {"type": "user", "id": OWNER, "name": OWNER, "fullname": OWNER, "orgs": []}
    return JSONResponse({**user, "canPay": False, "isPro": False, "auth": access})


async def validate_yaml(_: Context, request: Request) -> Response:
    """Answer ``POST /api/validate-yaml``: what a card says is content, and none of our business."""
    await read_body(request)
    return JSONResponse({"errors": [], "warnings": []})
