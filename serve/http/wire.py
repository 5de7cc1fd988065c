"""What every route needs of HTTP: the body within its bound, its media type, a reply.

Apart from the gateway's module because Ray Serve copies the FastAPI application while that module is still being read.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import FastAPI, Path
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.background import BackgroundTask
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moderation.posts import Identifier
from moderation.running import BEHIND_PROXY
from serve.http import admission
from serve.http.problems import Problem, invalid
from serve.http.repair import readable
from serve.http.shape import holds_more
from serve.http.unread import UnreadBody, has_body

Body = TypeVar("Body", bound=BaseModel)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
"""In a path: the number of a row."""

MOST_VALUES = 1000
"""JSON values of a body or line that is one object. The largest is a post with a hundred media, which has some 600."""
_SHORT = 1 << 14
"""Bytes of JSON that are parsed at once; more would hold up whoever else is served, so they are on a thread."""
_PARSERS = ThreadPoolExecutor(2, thread_name_prefix="bodies")  # few: what is parsed takes memory

_OTHER_NAMES = {
    "text/json": "application/json",
    "application/ndjson": "application/x-ndjson",
    "application/jsonlines": "application/jsonl",
    "application/x-jsonlines": "application/jsonl",
}
"""What clients call media types that have another name, or none that is registered."""
_ALWAYS = ("/healthz", "/readyz")
_MOST_PROXIES = 16
_NULL = "(null)"
_ID: TypeAdapter[str] = TypeAdapter(Identifier)
SLASH = re.compile("%2f", re.IGNORECASE)
"""A slash of an id in a path."""
_DIGEST_KEY = secrets.token_bytes(16)  # digests are compared within a process alone, and tell nothing outside it


class IdConvertor(Convertor[str]):
    """An id in a path: one segment, whose `%2F` is a slash of the id."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """As the id is recorded."""
        return SLASH.sub("/", value)

    def to_string(self, value: str) -> str:
        """As it stands in a path."""
        return value.replace("/", "%2F")


register_url_convertor("id", IdConvertor())


def checked_id(name: str, value: str) -> str:
    """An id of a path, if it may be one.

    Raises:
        Problem: 422, it may not.
    """
    try:
        return _ID.validate_python(value)
    except ValidationError as error:
        raise Problem(422, f"{name} is {value!r}: {error.errors()[0]['msg']}") from error


def body_schema(model: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """The OpenAPI part of a body that is read and checked by hand, within the configured bounds."""
    schema = model.model_json_schema()
    defined = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {media_type: {"schema": _inlined(schema, defined)}}}}


def example_response(example: Any, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route that answers the like of an example; of NDJSON, it is a line."""
    said = TypeAdapter(Any).dump_python(example, mode="json", by_alias=True)
    return {200: {"content": {media_type: {"example": _put(said, None, _NULL)}}}}


class Api(FastAPI):
    """FastAPI whose document keeps what is null in an example, and whose errors end here, answered and logged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Starlette raises an error again when it is answered, for a server to log it once more."""
        with suppress(Exception):
            await super().__call__(scope, receive, send)

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
    """415 unless the body is of an accepted type, by whichever of its names."""
    told = media_type_of(request)
    if _OTHER_NAMES.get(told, told) not in accepted:
        raise Problem(415, f"Content-Type is {told or 'missing'!r}; it must be {' or '.join(accepted)}")


def media_type_of(request: Request) -> str:
    """What `Content-Type` tells, in lower case and without parameters; empty where it tells nothing."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def client_of(request: Request) -> str | None:
    """Who sends a request, by a digest of its `X-Api-Key` or `Authorization`, else of the address it came from.

    The address is the one that the proxy saw, or was told by a proxy before it that `--behind-proxy` names; of IPv6 its
    first 64 bits. None: no proxy told any. The key is not checked: that is for who stands before Seawall.
    """
    for name in ("x-api-key", "authorization"):
        if told := request.headers.get(name):
            return _digest(f"{name}:{told}")
    address = _address(",".join(request.headers.getlist("x-forwarded-for")))
    return None if address is None else _digest(f"address:{address}")


def _digest(told: str) -> str:
    return hashlib.blake2b(told.encode(), digest_size=16, key=_DIGEST_KEY).hexdigest()


def _address(forwarded: str) -> str | None:
    """The last address of `X-Forwarded-For` that is no trusted proxy's: what stands before it anybody may write."""
    trusted = _networks(os.environ.get(BEHIND_PROXY, ""))
    for told in reversed(forwarded.rsplit(",", _MOST_PROXIES)[-_MOST_PROXIES:]):
        try:
            address = ipaddress.ip_address(told.strip())
        except ValueError:
            return None
        if not any(address in network for network in trusted):
            return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))
    return None


@lru_cache(maxsize=8)
def _networks(told: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in told.split(",") if part)


class Doorkeeper:
    """ASGI middleware: no more requests at a time than the bounds of the gateway allow, and never none for health.

    Args:
        app: that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it unread."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        body = UnreadBody(receive, send) if has_body(request) else None
        if body is not None:
            receive, send = body.receive, body.send
        with ExitStack() as place:
            try:
                place.enter_context(admission.HERE.request(client_of(request)))
            except Problem as problem:
                await problem.response()(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        if body is not None:
            await body.end()


def receiving(request: Request, bound: int, *, on_disk: bool = False) -> AbstractContextManager[admission.Arriving]:
    """A place for a request's body, which is its client's, as `admission.Admission.body` gives one and refuses it.

    Args:
        request: whose body was not read yet.
        bound: its bytes, at most.
        on_disk: whether it goes there as it comes, and does not stay in memory.
    """
    return admission.HERE.body(request, client_of(request), bound, on_disk=on_disk)


def parsed(model: type[Body], raw: bytes, *, most_values: int = MOST_VALUES) -> Body:
    """A JSON body or line as a model; what in it is no character is read as U+FFFD (`serve.http.repair`).

    Args:
        model: what it must be.
        raw: the JSON.
        most_values: that it may hold, at any depth; see `serve.http.shape`.

    Raises:
        Problem: what is wrong with it.
    """
    if holds_more(raw, most_values):
        detail = f"the body holds more than {most_values} JSON values, which is the bound"
        raise Problem(413, detail, members={"bound": most_values})
    try:
        return model.model_validate_json(readable(raw))
    except ValidationError as error:
        raise invalid(error) from error


async def read_json(request: Request, model: type[Body], bound: int, *, most_values: int = MOST_VALUES) -> Body:
    """A JSON body within a bound, in bytes, as a model; a long one is parsed on a thread."""
    check_media_type(request, "application/json")
    return await read_parsed(request, partial(parsed, model, most_values=most_values), bound)


async def read_parsed(request: Request, parse: Callable[[bytes], Result], bound: int) -> Result:
    """What is made of a body within a bound, in bytes; its bytes count as received meanwhile.

    Args:
        request: whose body was not read yet.
        parse: makes it; called on a thread where the body is long.
        bound: bytes.

    Raises:
        Problem: as `admission.Arriving.pieces`, where it is beyond the bound as soon as that is known; or what `parse`
            raises.
    """
    with receiving(request, bound) as body:
        raw = await body.whole()
        return parse(raw) if len(raw) <= _SHORT else await aside(parse, raw)


async def aside(call: Callable[Parameters, Result], /, *args: Parameters.args, **named: Parameters.kwargs) -> Result:
    """Run what takes a body apart on a thread of theirs."""
    call_here = partial(copy_context().run, call, *args, **named)  # what was replaced is counted for this request
    return await asyncio.get_running_loop().run_in_executor(_PARSERS, call_here)


def json_reply(
    body: str, headers: dict[str, str] | None = None, *, background: BackgroundTask | None = None
) -> Response:
    """A reply whose body is JSON already, and what is done after it."""
    return Response(body, media_type="application/json", headers=headers, background=background)
