"""What `tests.benchmarks.attack` sends: one client each, on the loopback address, bounded in time, in its own process.

    python -m tests.benchmarks.attackers NAME --port PORT --seconds SECONDS

The last line is one JSON document: how many requests were answered with which status; 0: with none.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
import resource
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Annotated

import typer
from PIL import Image

from tests.benchmarks.load import HOST, read_reply

KEY = "attacker"
"""Its API key: one client."""
LEAVER = "u-leaver"
"""The author of posts whose client goes away."""
_PATIENCE_S = 60.0
"""For an answer, once the attack is over."""

Send = Callable[["Target"], Awaitable[int]]


def head_of(line: str, size: int, media_type: str = "application/json") -> bytes:
    """A request's head, for a body of so many bytes."""
    fields = [
        f"{line} HTTP/1.1", f"Host: {HOST}", f"X-Api-Key: {KEY}", f"Content-Type: {media_type}",
        f"Content-Length: {size}", "Connection: close",
    ]  # fmt: skip
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


def list_of(count: int, item: bytes) -> bytes:
    """A body of features that are all alike."""
    return b'{"features":[' + b",".join([item] * count) + b"]}"


def text_of(characters: int) -> str:
    """English of some length, a sentence at a time."""
    sentence = "My tomatoes finally turned red, and I thank you all for the good advice. "
    return (sentence * (characters // len(sentence) + 1))[:characters]


def picture_of(side: int) -> bytes:
    """A PNG of one colour: many pixels in few bytes."""
    to = io.BytesIO()
    Image.new("L", (side, side), 128).save(to, "PNG", compress_level=9)
    return to.getvalue()


def post_of(text: str, media: Sequence[dict[str, str]] = (), author: str = "u-attacker") -> bytes:
    """The body of a post that was never sent before."""
    told = {
        "author_id": author,
        "community": "gardening",
        "region": "US",
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "text": f"{text} {uuid.uuid4().hex}",
        "media": list(media),
    }
    return json.dumps(told).encode()


class Target:
    """Where requests are sent, and until when.

    Args:
        port: of the service.
        seconds: from now on.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._until = time.monotonic() + seconds
        self.statuses: Counter[int] = Counter()

    @property
    def left(self) -> float:
        """Seconds that the attack still lasts."""
        return self._until - time.monotonic()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """One connection; dropped at the end, whatever is under way."""
        reader, writer = await asyncio.open_connection(HOST, self._port, limit=1 << 24)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(self, line: str, body: bytes, media_type: str = "application/json") -> int:
        """Send a request and wait for its status; 0: none came."""
        try:
            async with asyncio.timeout(self.left + _PATIENCE_S), self.connection() as (reader, writer):
                writer.write(head_of(line, len(body), media_type) + body)
                return await status_of(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0

    async def closed_loop(self, connections: int, send: Send) -> None:
        """So many requests at a time, until the end."""

        async def one() -> None:
            while self.left > 0:
                self.statuses[await send(self)] += 1

        await asyncio.gather(*(one() for _ in range(connections)))


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of an answer that is read to its end; 0: none came."""
    data = bytearray()
    while piece := await reader.read(1 << 16):
        data += piece
        if (reply := read_reply(data)) is not None:
            return reply.status
    reply = read_reply(data, ended=True)
    return 0 if reply is None else reply.status


def _texts(body: bytes, path: str = "/v1/text/moderate") -> Send:
    return lambda target: target.ask(f"POST {path}", body)


async def many_items(target: Target) -> None:
    """Five million empty features, 15 MB."""
    await target.closed_loop(2, _texts(list_of(5_000_000, b"{}")))


async def wrong_items(target: Target) -> None:
    """5 MB of wrong items to one route, 1 MB to others, 5 MB of wrong lines."""
    lines = (b'{"labels":{' + b'"a":1,' * 90 + b'"a":1}}\n') * 9000
    wrong = b'{"input":[' + b"1," * 500_000 + b"1]}"
    author = b'{"author":{' + b'"a":[],' * 130_000 + b'"a":1}}'
    sends = itertools.cycle(
        [
            _texts(list_of(2_500_000, b"1")),
            _texts(wrong, "/v1/moderations"),
            lambda target: target.ask("PUT /v1/posts/wrong", author),
            lambda target: target.ask("POST /v1/labels", lines, "application/x-ndjson"),
        ]
    )
    await target.closed_loop(4, lambda target: next(sends)(target))


async def slow_bodies(target: Target) -> None:
    """1,400 bodies of which a byte comes every other second."""

    async def one() -> None:
        while target.left > 0:
            with contextlib.suppress(OSError):
                async with target.connection() as (reader, writer):
                    writer.write(head_of("POST /v1/text/moderate", 4096) + b"{")
                    answer = asyncio.ensure_future(status_of(reader))
                    while target.left > 0 and not answer.done():
                        await asyncio.wait([answer], timeout=2)
                        writer.write(b" ")
                    if not answer.done():
                        answer.cancel()
                        target.statuses[0] += 1
                    elif answer.exception() is None:
                        target.statuses[answer.result()] += 1
                        await asyncio.sleep(2)

    await asyncio.gather(*(one() for _ in range(1400)))


async def pictures(target: Target) -> None:
    """Posts with a picture of 49 megapixels each."""
    data = picture_of(7000)

    async def send(target: Target) -> int:
        # Never the same bytes twice: what follows the end of a PNG belongs to no picture.
        told = base64.b64encode(data + uuid.uuid4().bytes).decode()
        return await target.ask(f"PUT /v1/posts/{uuid.uuid4().hex}", post_of("look", [{"kind": "image", "data": told}]))

    await target.closed_loop(16, send)


async def flood(target: Target) -> None:
    """Posts as fast as they are answered, 256 at a time."""

    async def send(target: Target) -> int:
        status = await target.ask(f"PUT /v1/posts/{uuid.uuid4().hex}", post_of(text_of(120)))
        if status != 200:
            await asyncio.sleep(0.2)  # it heeds no Retry-After, but it shares the cores with what it attacks
        return status

    await target.closed_loop(256, send)


async def long_texts(target: Target) -> None:
    """Within all bounds: 39,000 characters with spans, and 1,000 texts of 900; beyond: 1,000 of 11,000."""
    comment = {"comment": {"text": text_of(39_000)}, "languages": ["en"], "spanAnnotations": True}
    spans = json.dumps(comment | {"requestedAttributes": {"TOXICITY": {}}}).encode()

    def features(count: int, characters: int) -> bytes:
        texts = [{"id": str(number), "text": text_of(characters)} for number in range(count)]
        return json.dumps({"features": texts}).encode()

    sends = itertools.cycle(
        [_texts(spans, "/v1alpha1/comments:analyze"), _texts(features(1000, 900)), _texts(features(1000, 11_000))]
    )
    await target.closed_loop(3, lambda target: next(sends)(target))


async def leavers(target: Target) -> None:
    """400 posts at a time whose client goes away at once."""

    async def one() -> None:
        with contextlib.suppress(OSError):
            async with target.connection() as (_, writer):
                body = post_of(text_of(120), author=LEAVER)
                writer.write(head_of(f"PUT /v1/posts/{uuid.uuid4().hex}", len(body)) + body)
                await asyncio.sleep(0.3)
            target.statuses[0] += 1

    while target.left > 0:
        await asyncio.gather(*(one() for _ in range(400)))
        await asyncio.sleep(0.2)


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    found.__name__: found for found in (many_items, wrong_items, slow_bodies, pictures, flood, long_texts, leavers)
}


def shed_share(statuses: Iterable[tuple[int, int]]) -> float | None:
    """Of what was answered, how much with 429 or 503; None: nothing was."""
    told = Counter(dict(statuses))
    answered = sum(count for status, count in told.items() if status)
    return round((told[429] + told[503]) / answered, 3) if answered else None


def attack(
    name: Annotated[str, typer.Argument(help=f"Of {', '.join(ATTACKS)}.")],
    port: Annotated[int, typer.Option(help="Of the service, on the loopback address.")],
    seconds: Annotated[float, typer.Option(help="How long.", min=0.1, max=120)] = 10,
) -> None:
    """Attack; the last line is one JSON document."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    target = Target(port, seconds)
    asyncio.run(_bounded(ATTACKS[name], target, seconds))
    print(json.dumps(dict(target.statuses)))


async def _bounded(attack: Callable[[Target], Awaitable[None]], target: Target, seconds: float) -> None:
    """It ends when its time is over: what is under way then is broken off."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(attack(target), seconds)


if __name__ == "__main__":
    typer.run(attack)
