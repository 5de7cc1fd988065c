"""What the benchmarks' figures are made with: a client that gets one wrong makes all of them wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.load import (
    OUTCOMES,
    Exchange,
    Step,
    batch_request,
    climb,
    closed_loop,
    open_loop,
    outcomes_of,
    poisson_arrivals,
    put_request,
    quantiles,
    rates_from,
    read_reply,
    spread,
)

DECISION = {"decision": "allow", "degraded": False}


def a_step(rate: float, **changes: Any) -> Step:
    fields: dict[str, Any] = {"posts": 100, "p99_ms": 10.0, "shed_share": 0.0, "failed_share": 0.0}
    return Step(rate=rate, **fields | changes)


def answer(body: bytes, head: str = "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n") -> bytes:
    return head.format(len(body)).encode() + body


def test_a_quantile_is_the_least_value_that_enough_values_do_not_exceed() -> None:
    found = quantiles(list(range(1, 2001)))
    assert found == {"p50": 1000, "p90": 1800, "p99": 1980, "p99.9": 1998, "max": 2000}


def test_a_quantile_beyond_few_values_is_the_greatest() -> None:
    assert quantiles([3.0, 1.0, 2.0]) == {"p50": 2, "p90": 3, "p99": 3, "p99.9": 3, "max": 3}


def test_without_values_there_are_no_quantiles() -> None:
    assert set(quantiles([]).values()) == {None}


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1))
def test_quantiles_are_among_the_values_and_ascend(values: list[int]) -> None:
    found = [value for value in quantiles(values).values() if value is not None]
    assert set(found) <= set(values)
    assert found == sorted(found)


def test_a_spread_tells_least_median_and_most() -> None:
    assert spread([0.5, 0.25, 1.0], 2) == {"min": 0.25, "median": 0.5, "max": 1.0}


def test_arrivals_ascend_within_the_time_and_are_the_same_for_a_seed() -> None:
    arrivals = poisson_arrivals(200, 50, seed=1)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] < 50
    assert arrivals == poisson_arrivals(200, 50, seed=1)
    assert arrivals != poisson_arrivals(200, 50, seed=2)


def test_arrivals_come_at_the_rate_and_as_irregularly_as_a_poisson_process() -> None:
    arrivals = poisson_arrivals(200, 50, seed=3)
    assert len(arrivals) == pytest.approx(10_000, rel=0.04)  # 4 standard deviations
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.06)


def test_rates_rise_by_the_factor() -> None:
    assert rates_from(8, factor=1.5, count=3) == [8, 12, 18]


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"p99_ms": 1000.0, "shed_share": 0.01}, True),
        ({"p99_ms": 1000.1}, False),
        ({"p99_ms": None}, False),
        ({"shed_share": 0.011}, False),
        ({"shed_share": 0.006, "failed_share": 0.006}, False),
        ({"cut_short": True}, False),
    ],
)
def test_a_rate_holds_while_the_service_keeps_up(changes: dict[str, Any], holds: bool) -> None:
    assert a_step(10, **changes).holds is holds


def test_the_knee_is_the_last_rate_before_one_that_fails_twice() -> None:
    asked: list[float] = []

    def measure(rate: float) -> Step:
        asked.append(rate)
        return a_step(rate, shed_share=0.5 if rate > 2 else 0.0)

    steps, knee = climb(measure, [1, 2, 3, 4])
    assert knee == 2
    assert asked == [1, 2, 3, 3]
    assert [step.rate for step in steps] == asked


def test_one_hiccup_is_no_knee() -> None:
    hiccups = iter([False, True, False, False])
    steps, knee = climb(lambda rate: a_step(rate, p99_ms=2000.0 if next(hiccups) else 10.0), [1, 2, 3])
    assert knee == 3
    assert [step.rate for step in steps] == [1, 2, 2, 3]


def test_where_not_even_the_first_rate_holds_there_is_no_knee() -> None:
    steps, knee = climb(lambda rate: a_step(rate, p99_ms=None), [1, 2])
    assert knee is None
    assert len(steps) == 2


def test_where_every_rate_holds_the_knee_lies_beyond_the_last() -> None:
    steps, knee = climb(a_step, [1, 2])
    assert knee == 2
    assert steps[-1].holds


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, DECISION, "scored"),
        (200, DECISION | {"degraded": True}, "degraded"),
        (503, {"title": "Service Unavailable"}, "shed"),
        (500, {}, "failed"),
        (0, {}, "failed"),
    ],
)
def test_an_answer_without_scores_does_not_count_as_one(status: int, body: dict[str, Any], outcome: str) -> None:
    exchange = Exchange(b"", status=status, body=json.dumps(body).encode())
    assert outcomes_of(exchange) == [outcome]


def test_every_line_of_a_batch_counts_and_so_does_one_that_is_missing() -> None:
    lines = [
        {"line": 1, "post_id": "a", "status": 200, "replayed": False, "decision": DECISION},
        {"line": 2, "post_id": "b", "status": 200, "replayed": False, "decision": DECISION | {"degraded": True}},
        {"line": 3, "post_id": "c", "status": 503, "problem": {}},
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    exchange = Exchange(b"", lines=4, status=200, body=body)
    assert outcomes_of(exchange) == list(OUTCOMES)


def test_a_batch_that_is_refused_sheds_all_its_posts() -> None:
    assert outcomes_of(Exchange(b"", lines=3, status=503, body=b"{}")) == ["shed"] * 3


def test_requests_tell_their_length_in_bytes() -> None:
    head, body = put_request("p-1", '{"text": "grün"}').request.split(b"\r\n\r\n")
    assert head.startswith(b"PUT /v1/posts/p-1 HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    batch = batch_request(["{}", "{}"])
    assert batch.lines == 2
    assert batch.request.endswith(b"\r\n\r\n{}\n{}")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\na\r\n0123456789\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (answer(b'{"a": 1}'), b'{"a": 1}'),
        (answer(b"\r\n\r\n", "HTTP/1.1 200 OK\r\ndate: x\r\ncontent-length:{}\r\n\r\n"), b"\r\n\r\n"),
        (answer(b""), b""),
        (CHUNKED, b"abcd0123456789"),
    ],
)
def test_an_answer_is_read_wherever_it_is_cut(data: bytes, body: bytes) -> None:
    for cut in range(len(data)):
        assert read_reply(data[:cut]) is None, cut
    reply = read_reply(data + b"HTTP/1.1 ...")
    assert reply is not None
    assert (reply.status, reply.body, reply.size, reply.close) == (200, body, len(data), False)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    data = b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nsorry"
    assert read_reply(data) is None
    reply = read_reply(data, ended=True)
    assert reply is not None
    assert (reply.status, reply.body, reply.close) == (503, b"sorry", True)


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="status line"):
        read_reply(b"SSH-2.0-x\r\n\r\n")


class Server:
    """A real HTTP server on a thread: counts requests, and can stand still or close connections.

    Args:
        halt_s: how long it stands still, once, unless `resume` is set before.
        halts_at: the request before whose answer it does.
        close_after: requests after which it closes a connection without a word.
    """

    def __init__(self, halt_s: float = 0.0, halts_at: int = 10, close_after: int = 1_000_000) -> None:
        self.resume = threading.Event()
        self.port = 0
        self.served = 0
        self.most_connections = 0
        self._halt_s = halt_s
        self._halts_at = halts_at
        self._close_after = close_after
        self._connections = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.most_connections = max(self.most_connections, self._connections)
        try:
            for _ in range(self._close_after):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.served += 1
                if self.served == self._halts_at:
                    self.resume.wait(self._halt_s)  # stops the whole loop, as a collector or a lock would
                writer.write(answer(json.dumps(DECISION).encode()))
        except asyncio.IncompleteReadError:
            pass
        finally:
            self._connections -= 1
            writer.close()

    @contextmanager
    def running(self) -> Iterator[Server]:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self.answer, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            self.resume.set()
            loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            for task in asyncio.all_tasks(loop):
                task.cancel()
                loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def puts(count: int) -> list[Exchange]:
    return [put_request(f"p-{number}", "{}") for number in range(count)]


def test_a_closed_loop_answers_everything_over_so_many_connections() -> None:
    with Server().running() as server:
        run = closed_loop(server.port, puts(200), 4, within_s=120)
    assert run.outcomes() == {"scored": 200, "degraded": 0, "shed": 0, "failed": 0}
    assert server.served == 200
    assert server.most_connections == 4
    assert len(run.latencies_ms()) == 200
    assert min(run.latencies_ms()) >= 0
    assert max(run.latencies_ms()) <= run.seconds * 1000
    assert run.client_cpu_s > 0


def test_a_connection_that_was_closed_between_requests_costs_none() -> None:
    with Server(close_after=7).running() as server:
        run = closed_loop(server.port, puts(100), 3, within_s=120)
    assert run.outcomes()["scored"] == 100


def test_where_nobody_listens_everything_fails() -> None:
    with Server().running() as server:
        port = server.port
    run = closed_loop(port, puts(20), 4, within_s=120)
    assert run.outcomes() == {"scored": 0, "degraded": 0, "shed": 0, "failed": 20}
    assert run.latencies_ms() == []


def test_in_an_open_loop_all_who_should_have_come_during_a_halt_are_charged_for_it() -> None:
    arrivals = [number / 200 for number in range(200)]
    with Server(halt_s=0.5).running() as server:
        run = open_loop(server.port, puts(200), arrivals)
    assert run.outcomes()["scored"] == 200
    assert not run.cut_short
    waited = [latency for latency in run.latencies_ms() if latency > 100]
    assert len(waited) >= 70  # 80 came in its first 0.4 s; a client that waits for each answer would tell of one


def test_an_open_loop_stops_sending_to_a_service_that_is_far_behind() -> None:
    arrivals = [number / 100 for number in range(100)]
    with Server(halt_s=60, halts_at=1).running() as server:  # until the client has given up
        run = open_loop(server.port, puts(100), arrivals, give_up_s=0.2, drain_s=0.1)
    assert run.cut_short
    assert 1 <= len(run.exchanges) < 60
    assert run.outcomes()["failed"] > 0
