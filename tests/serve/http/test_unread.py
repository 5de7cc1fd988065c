"""An answer to a body that was not read ends when the body did, or after a while."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from serve.http import unread
from serve.http.unread import UnreadBody, has_body
from tests.rooms import run

START: Message = {"type": "http.response.start", "status": 413, "headers": []}
WHOLE: Message = {"type": "http.response.body", "body": b"too large", "more_body": False}
OPEN: Message = {"type": "http.response.body", "body": b"too large", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def a_piece(*, more: bool) -> Message:
    return {"type": "http.request", "body": b"x", "more_body": more}


def answered(pieces: list[Message], *, read: int = 0) -> tuple[list[Message], int]:
    """What is sent to a client whose body comes in these pieces, and how many of them were read.

    So many are read before the answer; where no piece is left, the client stops in the middle and nothing comes.
    """
    sent: list[Message] = []
    rest = list(pieces)

    async def receive() -> Message:
        if not rest:
            await asyncio.Event().wait()
        return rest.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def answer() -> None:
        body = UnreadBody(receive, send)
        for _ in range(read):
            await body.receive()
        await body.send(START)
        await body.send(WHOLE)
        assert sent[1]["body"] == WHOLE["body"]  # the client has all of it already
        await body.end()

    run(answer())
    return sent, len(pieces) - len(rest)


def test_a_body_that_was_read_is_answered_as_ever() -> None:
    assert answered([a_piece(more=True), a_piece(more=False)], read=2) == ([START, WHOLE], 2)


@pytest.mark.parametrize("read", [0, 1, 2])
def test_the_rest_of_a_body_is_read_before_its_answer_ends(read: int) -> None:
    pieces = [a_piece(more=True), a_piece(more=True), a_piece(more=False)]
    assert answered(pieces, read=read) == ([START, OPEN, END], 3)


def test_who_has_gone_is_waited_for_no_longer() -> None:
    assert answered([a_piece(more=True), GONE, a_piece(more=False)]) == ([START, OPEN, END], 2)


def test_who_stops_sending_is_waited_for_no_longer_than_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "LINGER_S", 0.01)
    assert answered([a_piece(more=True)]) == ([START, OPEN, END], 1)


@pytest.mark.parametrize(
    ("headers", "has"),
    [
        ({}, False),
        ({"content-length": "0"}, False),
        ({"content-length": "7"}, True),
        ({"transfer-encoding": "x"}, True),
    ],
)
def test_a_request_says_whether_it_has_a_body(headers: dict[str, str], has: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert has_body(Request({"type": "http", "headers": raw})) is has
