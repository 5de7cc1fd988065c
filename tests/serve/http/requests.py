"""Requests whose bodies come in chunks, as a server hands them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.types import Message


def a_request(chunks: Sequence[bytes] = (), headers: Mapping[str, str] | None = None) -> tuple[Request, list[bytes]]:
    """A request whose body comes in chunks, and what of it was not asked for yet."""
    left = list(chunks)

    async def receive() -> Message:
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "PUT", "headers": raw}, receive), left
