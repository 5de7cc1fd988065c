"""What every route needs of HTTP: the body within its bound, its media type, a reply.

Apart from the gateway's module because Ray Serve copies the FastAPI application while that module is still being read.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from serve.problems import Problem, invalid

Body = TypeVar("Body", bound=BaseModel)
_NULL = "(null)"
_DIGEST_KEY = secrets.token_bytes(16)  # digests are compared within a process alone, and tell nothing outside it


def body_schema(model: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """The OpenAPI part of a body that is read and checked by hand, within the configured bounds."""
    schema = model.model_json_schema()
    defined = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {media_type: {"schema": _inlined(schema, defined)}}}}


def shown(example: Any, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route that answers the like of an example; of NDJSON, it is a line."""
    said = TypeAdapter(Any).dump_python(example, mode="json", by_alias=True)
    return {200: {"content": {media_type: {"example": _put(said, None, _NULL)}}}}


class Api(FastAPI):
    """FastAPI whose document keeps what is null in an example; FastAPI's own leaves it out."""

    def openapi(self) -> dict[str, Any]:
        """The document."""
        if self.openapi_schema is None:
            self.openapi_schema = _put(super().openapi(), _NULL, None)
        return self.openapi_schema


def _put(part: Any, old: Any, new: Any) -> Any:
    """A document with each `old` in it replaced by `new`."""
    if isinstance(part, dict):
        return {name: _put(value, old, new) for name, value in part.items()}
    if isinstance(part, list):
        return [_put(item, old, new) for item in part]
    return new if part == old else part


def _inlined(part: Any, defined: dict[str, Any]) -> Any:
    """A schema with each reference replaced by what it refers to: no component of the document holds a body's parts."""
    if isinstance(part, list):
        return [_inlined(item, defined) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(defined[part["$ref"].rsplit("/", 1)[-1]], defined) | {
            name: value for name, value in part.items() if name != "$ref"
        }
    # A discriminator's mapping names components too.
    return {name: _inlined(value, defined) for name, value in part.items() if name != "discriminator"}


def check_media_type(request: Request, *accepted: str) -> None:
    """415 unless the body is of an accepted type."""
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found not in accepted:
        raise Problem(415, f"Content-Type is {found or 'missing'!r}; it must be {' or '.join(accepted)}")


def client_of(request: Request) -> str | None:
    """Who sends a request, by a digest of its `X-Api-Key` or `Authorization`; None where it has neither.

    A peer's address would be the proxy's. The key is not checked: that is for who stands before Seawall.
    """
    for name in ("x-api-key", "authorization"):
        if told := request.headers.get(name):
            return hashlib.blake2b(f"{name}:{told}".encode(), digest_size=16, key=_DIGEST_KEY).hexdigest()
    return None


def told_length(request: Request) -> int:
    """What `Content-Length` tells, in bytes; 0 where it tells nothing."""
    told = request.headers.get("content-length", "")
    # ASCII alone: '²' is a digit to str.isdigit and none to int. Twenty digits are beyond any bound already.
    return int(told.lstrip("0")[:20] or "0") if told.isascii() and told.isdigit() else 0


async def read_bounded(request: Request, bound: int) -> bytes:
    """The body; 413 as soon as it is known to exceed the bound."""
    size = told_length(request)
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


async def read_lines(request: Request, bytes_bound: int, lines_bound: int) -> list[tuple[int, bytes]]:
    """The lines of an NDJSON body that are not blank, each with its number; 413 beyond either bound."""
    check_media_type(request, "application/x-ndjson", "application/jsonl", "application/json")
    raw = await read_bounded(request, bytes_bound)
    lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), start=1) if line.strip()]
    if len(lines) > lines_bound:
        raise Problem(413, f"{len(lines)} lines, the bound is {lines_bound}", members={"bound": lines_bound})
    return lines


def parsed(model: type[Body], raw: bytes) -> Body:
    """A JSON body or line as a model; a problem that says what is wrong with it."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error) from error


async def read_json(request: Request, model: type[Body], bound: int) -> Body:
    """A JSON body within a bound, in bytes, as a model."""
    check_media_type(request, "application/json")
    return parsed(model, await read_bounded(request, bound))


def batch_line(line: int, post_id: str | None, outcome: Problem | tuple[bool, str]) -> str:
    """One line of a batch's answer, with its newline: a problem, or whether it was replayed and the decision's JSON."""
    head: dict[str, Any] = {"line": line, "post_id": post_id}
    if isinstance(outcome, Problem):
        return json.dumps(head | {"status": outcome.status, "problem": outcome.body()}, ensure_ascii=False) + "\n"
    replayed, decision = outcome
    start = json.dumps(head | {"status": 200, "replayed": replayed}, ensure_ascii=False)
    return f'{start[:-1]}, "decision": {decision}}}\n'


def json_reply(
    body: str, headers: dict[str, str] | None = None, *, background: BackgroundTask | None = None
) -> Response:
    """A reply whose body is JSON already, and what is done after it."""
    return Response(body, media_type="application/json", headers=headers, background=background)
