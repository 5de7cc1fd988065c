"""Bodies of requests that are answered before all of them came: refused by their length, say, or as too many.

HAProxy asks for a connection to be closed with its answer. What was not read by then makes the system reset it, and the
proxy may lose an answer that it has not read either: 3 of 150 clients got the headers of a 413 alone. So the answer
stays open, complete as it is, until the rest of the body came and was thrown away, for a second at most. nginx calls
this `lingering_close`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import Request
from starlette.types import Message, Receive, Send

from serve.http.admission import told_length

LINGER_S = 1.0
"""For so long the body of an answered request is read on."""


def has_body(request: Request) -> bool:
    """Whether a request says that it has one."""
    return told_length(request) > 0 or "transfer-encoding" in request.headers


class UnreadBody:
    """A request with a body, whose answer ends when the body did.

    Args:
        receive: of the server.
        send: of the server.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._whole = False
        self._open = False

    async def receive(self) -> Message:
        """What came next."""
        message = await self._receive()
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the last one is held open while the body is not read."""
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not self._whole:
            self._open = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def end(self) -> None:
        """Read what is left of the body of an answered request, and end the answer."""
        if not self._open:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self._whole:
                    await self.receive()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
