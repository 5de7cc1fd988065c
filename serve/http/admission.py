"""Bodies while they arrive: how many, how many bytes, whose, and for how long. All of one process, which is a replica.

Who sends slowly holds a place for nothing. So where there is none left, the body that has been coming longest gives way
to the next one: bodies of the honest come within milliseconds, and are hardly ever the oldest.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.requests import Request

from moderation.sections import Gateway as Bounds
from serve.http.encodings import Unpacker
from serve.http.problems import Problem

_YOUNG_S = 0.25
"""A body that has been coming for less never gives way."""


class Admission:
    """Takes bodies in, within bounds.

    Args:
        bounds: `max_receiving` and what stands beside it.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._arriving: dict[Arriving, None] = {}  # the oldest first
        self._bytes = {False: 0, True: 0}  # in memory, on the disk
        self._bodies: Counter[str] = Counter()  # by client
        self._requests = 0
        self._asking: Counter[str] = Counter()  # requests by client

    @contextmanager
    def request(self, client: str | None) -> Iterator[None]:
        """A place for a request, from its headers to the end of its answer.

        Raises:
            Problem: 429, this client holds too many; 503, all clients together do.
        """
        most, share = self.bounds.max_ongoing_requests, self.bounds.max_ongoing_a_client
        if client is not None and self._asking[client] >= share:
            detail = f"{self._asking[client]} requests of this client are under way, the bound is {share}"
            raise Problem(429, f"{detail}; try again shortly", retry_after=1, members={"bound": share})
        if self._requests >= most:
            raise _no_room(f"{self._requests} requests are under way, the bound is {most}", most)
        self._requests += 1
        if client is not None:
            self._asking[client] += 1
        try:
            yield
        finally:
            self._requests -= 1
            if client is not None:
                self._asking[client] -= 1
                if not self._asking[client]:
                    del self._asking[client]

    @contextmanager
    def body(self, request: Request, client: str | None, bound: int, *, on_disk: bool = False) -> Iterator[Arriving]:
        """A place for a body; its bytes count for as long as the context, its being slow until the last one came.

        Args:
            request: whose body was not read yet.
            client: who sends it, as `serve.http.wire.client_of` tells clients apart.
            bound: its bytes, at most.
            on_disk: True: it goes there as it comes; False: it stays in memory.

        Raises:
            Problem: 413, it is too large, as it says itself; 415, it is packed in a way that is not known; 429, this
                client sends too many at once; 503, all clients together do.
        """
        told = told_length(request)
        if told > bound:
            raise too_large(told, bound)
        self._check_room(client)
        arriving = Arriving(self, request, bound, on_disk=on_disk)
        self._arriving[arriving] = None
        if client is not None:
            self._bodies[client] += 1
        try:
            yield arriving
        finally:
            self._arriving.pop(arriving, None)
            self._bytes[on_disk] -= arriving.size
            if client is not None:
                self._bodies[client] -= 1
                if not self._bodies[client]:
                    del self._bodies[client]  # or every client that ever came would be kept

    def complete(self, arriving: Arriving) -> None:
        """All of it has come: it no longer stands in anybody's way."""
        self._arriving.pop(arriving, None)

    def count(self, arriving: Arriving, size: int) -> None:
        """Bytes of a body came.

        Raises:
            Problem: 503, there is no room for them.
        """
        on_disk = arriving.on_disk
        arriving.size += size
        self._bytes[on_disk] += size
        most = self.bounds.max_uploading_bytes if on_disk else self.bounds.max_receiving_bytes
        # One that is alone may be as large as its own bound.
        while most < self._bytes[on_disk] != arriving.size:
            others = (other for other in self._arriving if other.on_disk == on_disk and other is not arriving)
            if not self._send_away(next(others, None)):
                raise _no_room(f"{self._bytes[on_disk]} bytes of bodies are coming, the bound is {most}", most)

    def _check_room(self, client: str | None) -> None:
        most, share = self.bounds.max_receiving, self.bounds.max_receiving_a_client
        if client is not None and self._bodies[client] >= share:
            detail = f"{self._bodies[client]} bodies of this client are coming already, the bound is {share}"
            raise Problem(429, f"{detail}; try again shortly", retry_after=1, members={"bound": share})
        if len(self._arriving) >= most and not self._send_away(next(iter(self._arriving))):
            raise _no_room(f"{len(self._arriving)} bodies are coming already, the bound is {most}", most)

    def _send_away(self, oldest: Arriving | None) -> bool:
        """Let a body make room; False: there is none, or it is too young."""
        if oldest is None or time.monotonic() - oldest.since < _YOUNG_S:
            return False
        del self._arriving[oldest]
        self._bytes[oldest.on_disk] -= oldest.size
        oldest.size = 0
        oldest.go()
        return True


class Arriving:
    """A body that is being received.

    Attributes:
        since: when it began, of `time.monotonic`.
        on_disk: where it goes.
        size: bytes that came, unpacked.
    """

    def __init__(self, admission: Admission, request: Request, bound: int, *, on_disk: bool) -> None:
        self.since = time.monotonic()
        self.on_disk = on_disk
        self.size = 0
        self._admission = admission
        self._request = request
        self._unpacker = Unpacker(request)
        self._bound = bound
        self._came = 0  # bytes, as they were sent
        self._waited = 0.0
        self._waiting: asyncio.Timeout | None = None
        self._must_go = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes as they come, unpacked.

        Raises:
            Problem: 400, they are not packed as the headers say; 408, they come too slowly; 413, they exceed the bound;
                503, it has to make room.
            ClientDisconnect: nobody waits for the answer any more.
        """
        stream = aiter(self._request.stream())
        while (packed := await self._next(stream)) is not None:
            self._came += len(packed)
            for piece in self._unpacker.pieces(packed):
                if self.size + len(piece) > self._bound:
                    raise too_large(self.size + len(piece), self._bound)
                self._admission.count(self, len(piece))
                yield piece
        self._unpacker.end()
        self._admission.complete(self)

    async def whole(self) -> bytes:
        """All of its bytes; raises as `pieces` does."""
        found = [piece async for piece in self.pieces()]
        return found[0] if len(found) == 1 else b"".join(found)

    def go(self) -> None:
        """It has to make room: whoever waits for it is told."""
        self._must_go = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def _next(self, stream: AsyncIterator[bytes]) -> bytes | None:
        """The next bytes; None: that was all."""
        bounds = self._admission.bounds
        least = bounds.min_body_bytes_per_s
        left = min(bounds.body_grace_s, bounds.body_grace_s + self._came / least - self._waited)
        begun = time.monotonic()
        piece = None
        try:
            if not self._must_go:
                async with asyncio.timeout(max(0.0, left)) as self._waiting:
                    piece = await anext(stream, None)
        except TimeoutError:
            if not self._must_go:
                waited = self._waited + time.monotonic() - begun
                detail = f"{self._came} bytes of the body came in {waited:.1f} s; after {bounds.body_grace_s:g} s there"
                detail += f" must be {least} a second, and never none for as long"
                raise Problem(408, detail, members={"bound": least}) from None
        finally:
            self._waiting = None
            self._waited += time.monotonic() - begun
        if self._must_go:
            bound = bounds.max_receiving
            raise _no_room("more bodies come than are received at a time, and this one has been coming longest", bound)
        return piece


def told_length(request: Request) -> int:
    """What `Content-Length` tells, in bytes; 0 where it tells nothing."""
    told = request.headers.get("content-length", "")
    # ASCII alone: '²' is a digit to str.isdigit and none to int. Twenty digits are beyond any bound already.
    return int(told.lstrip("0")[:20] or "0") if told.isascii() and told.isdigit() else 0


def too_large(size: int, bound: int) -> Problem:
    """What a body beyond its bound is answered."""
    return Problem(413, f"the body has {size} bytes or more, the bound is {bound}", members={"bound": bound})


def _no_room(detail: str, bound: int) -> Problem:
    return Problem(503, f"{detail}; try again shortly", retry_after=1, members={"bound": bound})


HERE = Admission(Bounds())
"""Of this process. Not the gateway's own, because routes in modules of their own read bodies before they ask for it."""
