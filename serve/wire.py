"""What every route needs of HTTP: the body within its bound, its media type, a reply.

Apart from the gateway's module because Ray Serve copies the FastAPI application while that module is still being read.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from serve.problems import Problem


def body_schema(model: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """The OpenAPI part of a body that is read and checked by hand, within the configured bounds."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def check_media_type(request: Request, *accepted: str) -> None:
    """415 unless the body is of an accepted type."""
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found not in accepted:
        raise Problem(415, f"Content-Type is {found or 'missing'!r}; it must be {' or '.join(accepted)}")


async def read_bounded(request: Request, bound: int) -> bytes:
    """The body; 413 as soon as it is known to exceed the bound."""
    told = request.headers.get("content-length", "")
    size = int(told) if told.isdigit() else 0
    body = bytearray()
    if size <= bound:
        async for chunk in request.stream():
            body += chunk
            size = len(body)
            if size > bound:
                break
    if size > bound:
        raise Problem(413, f"the body has {size} bytes or more, the bound is {bound}", members={"bound": bound})
    return bytes(body)


def json_reply(body: str, headers: dict[str, str] | None = None) -> Response:
    """A reply whose body is JSON already."""
    return Response(body, media_type="application/json", headers=headers)
