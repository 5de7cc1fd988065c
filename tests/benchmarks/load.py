"""Load over raw HTTP/1.1 on kept connections, and what its figures are told by.

A client that shares two cores with the service must be cheap: one thread, a protocol object a connection, requests made
before the clock starts and answers read after it stopped. What it takes itself is told with every run.

    closed loop  so many requests in flight, the next one when one is answered: how much there can be
    open loop    requests at times that were drawn before, whatever became of those before them. Latency counts from the
                 intended time, so a service that stalls is charged for all who would have come meanwhile (coordinated
                 omission, Tene 2013)
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HOST = "127.0.0.1"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
OUTCOMES = ("scored", "degraded", "shed", "failed")
"""Of a post: decided by every model that should have scored it; by fewer; refused with 503; anything else."""


@dataclass(slots=True)
class Exchange:
    """One request and what became of it. Times are of `time.perf_counter`."""

    request: bytes
    """Head and body."""
    lines: int | None = None
    """Posts of a batch; None: a single PUT."""
    intended: float = 0.0
    """When it should have been sent; in a closed loop, when it was."""
    sent: float = 0.0
    done: float = 0.0
    status: int = 0
    """Of HTTP; 0: never answered."""
    body: bytes = b""
    again: int = 0
    """How often its kept connection was closed under it, unanswered, and it was sent anew."""


@dataclass(frozen=True, slots=True)
class Run:
    """A load, and what became of it."""

    exchanges: list[Exchange]
    seconds: float
    """From the begin to the last answer."""
    client_cpu_s: float
    """Of this process, meanwhile."""
    cut_short: bool = False
    """True: the service was so far behind that sending stopped early."""

    def latencies_ms(self) -> list[float]:
        """Of what was answered with 200, from the intended time on."""
        return [(item.done - item.intended) * 1000 for item in self.exchanges if item.status == 200]

    def late_ms(self) -> list[float]:
        """How much later than intended each was sent: the client's own share of the latency."""
        return [(item.sent - item.intended) * 1000 for item in self.exchanges if item.sent]

    def outcomes(self) -> dict[str, int]:
        """How many posts had each of `OUTCOMES`."""
        found = Counter(itertools.chain.from_iterable(map(outcomes_of, self.exchanges)))
        return {name: found[name] for name in OUTCOMES}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it stands at the begin of a buffer."""

    status: int
    body: bytes
    size: int
    """Bytes of the buffer that it takes."""
    close: bool
    """Whether the server will close the connection."""


@dataclass(frozen=True, slots=True)
class Step:
    """A rate that was offered for a while. Shares are of all posts that should have been sent."""

    rate: float
    posts: int
    p99_ms: float | None
    shed_share: float
    failed_share: float
    """Degraded posts among them: an answer without scores is none."""
    cut_short: bool = False
    """True: the service was so far behind that sending stopped early."""

    @property
    def holds(self) -> bool:
        """Whether the service keeps up: p99 is at most 1 s, and at most 1 % is shed or fails."""
        kept_up = not self.cut_short and self.p99_ms is not None and self.p99_ms <= 1000
        return kept_up and self.shed_share + self.failed_share <= 0.01


def put_request(post_id: str, body: str) -> Exchange:
    """A `PUT /v1/posts/{post_id}`."""
    return Exchange(_request(f"PUT /v1/posts/{post_id}", "application/json", body.encode()))


def batch_request(lines: Sequence[str]) -> Exchange:
    """A `POST /v1/posts:batch`."""
    body = "\n".join(lines).encode()
    return Exchange(_request("POST /v1/posts:batch", "application/x-ndjson", body), lines=len(lines))


def closed_loop(port: int, exchanges: list[Exchange], connections: int, *, within_s: float = 120) -> Run:
    """Send all of them, so many at a time; what is not answered within the time is failed."""

    async def load() -> Run:
        pool = _Pool(port, connections)
        begun = time.perf_counter()
        for exchange in exchanges:
            pool.submit(exchange)
        await pool.finish(within_s)
        return Run(exchanges, time.perf_counter() - begun, 0.0)

    return _measured(load())


def open_loop(
    port: int,
    exchanges: list[Exchange],
    arrivals: Sequence[float],
    *,
    connections: int = 1024,
    give_up_s: float = 6,
    drain_s: float = 30,
) -> Run:
    """Send each at its time.

    Args:
        port: of the service.
        exchanges: one an arrival.
        arrivals: seconds after the begin, ascending.
        connections: at most; beyond, requests wait here, and their latency grows all the same.
        give_up_s: when a request has waited that long, no more are sent.
        drain_s: how long answers are waited for in the end; what is not answered then is failed.
    """

    async def load() -> Run:
        pool = _Pool(port, connections)
        begun = time.perf_counter() + 0.01
        sent: list[Exchange] = []
        cut_short = False
        for exchange, arrival in zip(exchanges, arrivals, strict=True):
            exchange.intended = begun + arrival
            await asyncio.sleep(max(0.0, exchange.intended - time.perf_counter()))
            if pool.longest_wait() > give_up_s:
                cut_short = True
                break
            pool.submit(exchange)
            sent.append(exchange)
        await pool.finish(drain_s)
        return Run(sent, time.perf_counter() - begun, 0.0, cut_short)

    return _measured(load())


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Times in [0, seconds) of a Poisson process: gaps are exponential, their mean is 1 / rate."""
    rng = random.Random(seed)
    arrivals: list[float] = []
    at = rng.expovariate(rate)
    while at < seconds:
        arrivals.append(at)
        at += rng.expovariate(rate)
    return arrivals


def rates_from(first: float, *, factor: float = 1.25, count: int = 12) -> list[float]:
    """Ascending rates, each so many times the one before."""
    return [first * factor**number for number in range(count)]


def climb(measure: Callable[[float], Step], rates: Iterable[float]) -> tuple[list[Step], float | None]:
    """Offer one rate after the other until one does not hold, and find the knee: the last rate before.

    On a machine that does other things as well, one hiccup is no knee: a rate that does not hold is offered once more.

    Returns:
        All steps, and the knee; None: not even the first rate held. If the last step holds, the knee lies beyond.
    """
    steps: list[Step] = []
    knee = None
    for rate in rates:
        for _ in range(2):
            steps.append(measure(rate))
            if steps[-1].holds:
                break
        else:
            return steps, knee
        knee = rate
    return steps, knee


def quantiles(values: Sequence[float], digits: int = 1) -> dict[str, float | None]:
    """`QUANTILES` by nearest rank: each is one of the values; None where there are none."""
    if not values:
        return dict.fromkeys(QUANTILES)
    found = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return {name: round(float(value), digits) for name, value in zip(QUANTILES, found, strict=True)}


def spread(values: Sequence[float], digits: int) -> dict[str, float]:
    """Least, median and most of runs; at least one."""
    found = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def outcomes_of(exchange: Exchange) -> list[str]:
    """One of `OUTCOMES` a post."""
    if exchange.lines is None:
        return [_outcome(exchange.status, json.loads(exchange.body) if exchange.status == 200 else None)]
    if exchange.status != 200:
        return [_outcome(exchange.status, None)] * exchange.lines
    answers = [json.loads(line) for line in exchange.body.split(b"\n") if line]
    told = [_outcome(answer["status"], answer.get("decision")) for answer in answers[: exchange.lines]]
    return told + ["failed"] * (exchange.lines - len(told))


def read_reply(data: bytes | bytearray, *, ended: bool = False) -> Reply | None:
    """The answer at the begin of a buffer; None: not all of it is there.

    Args:
        data: as received.
        ended: whether the server has closed: an answer that tells no length ends there.

    Raises:
        ValueError: this is no HTTP/1.1 answer.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *fields = bytes(data[:end]).lower().split(b"\r\n")
    if not first.startswith(b"http/1."):
        raise ValueError(f"{first[:40]!r} is no status line")
    headers = {name.strip(): value.strip() for name, _, value in (field.partition(b":") for field in fields)}
    status, begin, close = int(first[9:12]), end + 4, headers.get(b"connection") == b"close"
    if headers.get(b"transfer-encoding") == b"chunked":
        chunks = _chunks(data, begin)
        return None if chunks is None else Reply(status, chunks[0], chunks[1], close)
    if b"content-length" in headers:
        size = begin + int(headers[b"content-length"])
        return Reply(status, bytes(data[begin:size]), size, close) if len(data) >= size else None
    return Reply(status, bytes(data[begin:]), len(data), True) if ended else None


def _chunks(data: bytes | bytearray, begin: int) -> tuple[bytes, int] | None:
    """A chunked body without trailers, and where it ends."""
    body = bytearray()
    while (end := data.find(b"\r\n", begin)) >= 0:
        size = int(data[begin:end].split(b";")[0], 16)
        begin = end + 2 + size + 2
        if len(data) < begin:
            return None
        if size == 0:
            return bytes(body), begin
        body += data[end + 2 : end + 2 + size]
    return None


def _request(line: str, media_type: str, body: bytes) -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _outcome(status: int, decision: dict[str, Any] | None) -> str:
    if status == 200 and decision is not None:
        return "degraded" if decision["degraded"] else "scored"
    return "shed" if status == 503 else "failed"


@dataclass(slots=True)
class _Clock:
    """CPU-seconds of this process while it runs; the collector waits, so that it halts no request."""

    begun: float = 0.0
    cpu_s: float = 0.0

    def __enter__(self) -> _Clock:
        gc.collect()
        gc.disable()
        self.begun = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = time.process_time() - self.begun
        gc.enable()


def _measured(load: Coroutine[Any, Any, Run]) -> Run:
    with _Clock() as clock:
        run = asyncio.run(load)
    return Run(run.exchanges, run.seconds, clock.cpu_s, run.cut_short)


class _Pool:
    """Connections, and the requests that wait for one.

    Args:
        port: of the service.
        most: connections at a time.
    """

    def __init__(self, port: int, most: int) -> None:
        self._port = port
        self._most = most
        self._open = 0
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._waiting: deque[Exchange] = deque()
        self._unanswered: dict[int, Exchange] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()

    def submit(self, exchange: Exchange) -> None:
        """Send it as soon as a connection is free."""
        self._drained.clear()
        self._unanswered[id(exchange)] = exchange
        self._waiting.append(exchange)
        self._send()

    def longest_wait(self) -> float:
        """Seconds since the oldest unanswered request should have been sent."""
        oldest = next(iter(self._unanswered.values()), None)
        return 0.0 if oldest is None else time.perf_counter() - oldest.intended

    async def finish(self, within_s: float) -> None:
        """Wait until everything is answered, or give up on the rest; then close."""
        if self._unanswered:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), within_s)
        self._waiting.clear()
        for exchange in list(self._unanswered.values()):
            self._settle(exchange, None)
        for task in self._connecting:
            task.cancel()
        for connection in list(self._all):
            connection.abort()
        await asyncio.sleep(0)

    def opened(self, connection: _Connection) -> None:
        """A connection stands."""
        self._all.add(connection)
        self._idle.append(connection)
        self._send()

    def answered(self, connection: _Connection, exchange: Exchange, reply: Reply) -> None:
        """A request is answered, and its connection free."""
        self._settle(exchange, reply)
        if reply.close:
            connection.abort()
        else:
            self._idle.append(connection)
            self._send()

    def lost(self, connection: _Connection, exchange: Exchange | None, *, untouched: bool) -> None:
        """A connection is gone.

        Args:
            connection: which.
            exchange: that it was busy with.
            untouched: True: the server closed an idle connection just as it was used again, which proves nothing.
        """
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open -= 1
        if exchange is not None and id(exchange) in self._unanswered:
            if untouched and exchange.again < self._most:  # every kept connection may be such a one
                exchange.again += 1
                self._waiting.appendleft(exchange)
            else:
                self._settle(exchange, None)
        self._send()

    def _send(self) -> None:
        while self._waiting and self._idle:
            self._idle.pop().take(self._waiting.popleft())
        if len(self._waiting) > len(self._connecting) and self._open < self._most:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self), HOST, self._port)
        except OSError:
            self._open -= 1
            if self._waiting:
                self._settle(self._waiting.popleft(), None)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._send()  # where it failed, others may still wait for a connection

    def _settle(self, exchange: Exchange, reply: Reply | None) -> None:
        exchange.done = time.perf_counter()
        if reply is not None:
            exchange.status, exchange.body = reply.status, reply.body
        self._unanswered.pop(id(exchange), None)
        if not self._unanswered:
            self._drained.set()


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._data = bytearray()
        self._exchange: Exchange | None = None
        self._used = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.opened(self)

    def take(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.sent = time.perf_counter()
        if not exchange.intended:
            exchange.intended = exchange.sent
        self._transport.write(exchange.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._read(ended=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._read(ended=True)
        self._pool.lost(self, self._exchange, untouched=self._used and not self._data)

    def abort(self) -> None:
        self._transport.abort()

    def _read(self, *, ended: bool) -> None:
        if self._exchange is None:
            return
        try:
            reply = read_reply(self._data, ended=ended)
        except ValueError:
            self.abort()
            return
        if reply is not None:
            exchange, self._exchange, self._used = self._exchange, None, True
            del self._data[: reply.size]
            self._pool.answered(self, exchange, reply)
