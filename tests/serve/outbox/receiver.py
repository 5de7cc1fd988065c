"""An endpoint that webhooks are sent to: a real HTTP server, which notes what arrives and may misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from serve.outbox.signing import verify

SECRET = "the secret of the tests"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that arrived as a whole."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)

    @property
    def said(self) -> dict[str, Any]:
        """Its body."""
        said: dict[str, Any] = json.loads(self.body)
        return said

    @property
    def signed(self) -> bool:
        """Whether the receiver should have believed it when it came."""
        return verify(SECRET, self.headers, self.body, now=self.at)


Answer = int | Callable[[BaseHTTPRequestHandler], None]
"""A status, or what is done instead of answering one."""


@dataclass
class Receiver:
    """What arrived, in order, and how the next is answered."""

    url: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    answer: Callable[[Arrival], Answer] = lambda _arrival: 204
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def actions(self) -> list[int]:
        """The actions that arrived, as they arrived."""
        with self.lock:
            return [arrival.said["action_id"] for arrival in self.arrivals]


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()


def say_nothing_for(seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer too late."""

    def wait(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        hang_up(handler)

    return wait


def say_nothing_until(told: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    """Hold the request until then, and give no answer."""

    def wait(handler: BaseHTTPRequestHandler) -> None:
        told.wait()
        hang_up(handler)

    return wait


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that was killed is no error here."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver that listens on a port of its own."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            body = self.rfile.read(size)
            if len(body) < size:
                return
            arrival = Arrival(self.path, dict(self.headers.items()), body)
            with state.lock:
                state.arrivals.append(arrival)
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            try:
                answer = state.answer(arrival)
                if callable(answer):
                    answer(self)
                else:
                    self.reply(answer)
            finally:
                with state.lock:
                    state.under_way -= 1

        def do_PUT(self) -> None:
            self.do_POST()

        def reply(self, status: int) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", state.url + "elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            state.arrivals.append(Arrival(self.path, {}, b"{}"))
            self.reply(200)

        def log_message(self, *_arguments: Any) -> None:
            """Says nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
