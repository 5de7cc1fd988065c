"""Bodies while they arrive: slow ones, many, and large ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from moderation.sections import Gateway as Bounds
from serve.http import admission
from serve.http.admission import Admission
from serve.http.problems import Problem
from tests.rooms import run


class Client:
    """Sends a body, a piece whenever it is told to."""

    def __init__(self, *, length: int | None = None) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self.request = Request({"type": "http", "method": "PUT", "headers": headers}, self.sent.get)

    def send(self, piece: bytes, *, more: bool = True) -> None:
        self.sent.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        self.sent.put_nowait({"type": "http.disconnect"})


async def received(
    room: Admission, client: Client, who: str | None = None, *, bound: int = 1000, on_disk: bool = False
) -> bytes:
    with room.body(client.request, who, bound, on_disk=on_disk) as body:
        return await body.whole()


async def begun(room: Admission, *clients: Client, who: str | None = None) -> list[asyncio.Task[bytes]]:
    """Bodies that are waited for."""
    tasks = [asyncio.create_task(received(room, client, who)) for client in clients]
    for _ in range(4):
        await asyncio.sleep(0)
    return tasks


@pytest.fixture
def grown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each body has been coming for long enough to give way."""
    monkeypatch.setattr(admission, "_YOUNG_S", 0.0)


def is_empty(room: Admission) -> bool:
    return not room._arriving and not any(room._bytes.values()) and not room._bodies


def test_a_body_is_whole_and_leaves_its_place() -> None:
    async def work() -> None:
        room, client = Admission(Bounds()), Client()
        [task] = await begun(room, client, who="a")
        for piece, more in ((b"one ", True), (b"", True), (b"two", False)):
            client.send(piece, more=more)
        assert await task == b"one two"
        assert is_empty(room)

    run(work())


def test_a_body_that_does_not_come_is_told_so_with_the_bound() -> None:
    async def work() -> None:
        room, client = Admission(Bounds(body_grace_s=0.001)), Client(length=130)
        client.send(b"xyz")
        with pytest.raises(Problem, match=r"3 bytes of the body came in .* there must be 10000 a second") as slow:
            await received(room, client)
        assert (slow.value.status, slow.value.members) == (408, {"bound": 10_000})
        assert slow.value.body()["title"] == "Request timeout"
        assert is_empty(room)

    run(work())


def test_what_came_before_is_no_credit_for_a_pause_longer_than_the_grace() -> None:
    async def work() -> None:
        room, client = Admission(Bounds(body_grace_s=0.001, min_body_bytes_per_s=1)), Client()
        client.send(b"x" * 900)
        with pytest.raises(Problem) as slow:
            await received(room, client)
        assert slow.value.status == 408

    run(work())


def test_the_time_that_the_reader_takes_itself_is_not_the_clients() -> None:
    async def work() -> None:
        room, client = Admission(Bounds(body_grace_s=0.001)), Client()
        with room.body(client.request, None, 1000) as body:
            client.send(b"a")
            client.send(b"b", more=False)
            async with aclosing(body.pieces()) as pieces:  # type: ignore[type-var]
                async for _ in pieces:
                    await asyncio.sleep(0.005)  # longer than the grace, and the next piece is there already

    run(work())


def test_the_oldest_body_gives_way_to_the_next(grown_up: None) -> None:
    async def work() -> None:
        room = Admission(Bounds(max_receiving=2))
        oldest, old, next_one = Client(), Client(), Client()
        first, second = await begun(room, oldest, old)
        [third] = await begun(room, next_one)
        with pytest.raises(Problem, match="has been coming longest") as gone:
            await first
        assert (gone.value.status, gone.value.retry_after, gone.value.members) == (503, 1, {"bound": 2})
        for client in (old, next_one):
            client.send(b"all", more=False)
        assert [await second, await third] == [b"all"] * 2
        assert is_empty(room)

    run(work())


def test_one_that_gives_way_while_its_bytes_are_dealt_with_is_told_afterwards(grown_up: None) -> None:
    async def work() -> None:
        room, client, other = Admission(Bounds(max_receiving=1)), Client(), Client()
        client.send(b"a")
        client.send(b"b", more=False)
        other.send(b"c", more=False)

        async def read() -> None:
            with room.body(client.request, None, 1000) as body:
                async for _ in body.pieces():
                    assert await received(room, other) == b"c"

        with pytest.raises(Problem, match="has been coming longest"):
            await read()
        assert is_empty(room)

    run(work())


def test_where_all_have_just_begun_the_next_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_YOUNG_S", 1000.0)

    async def work() -> None:
        room, client, other = Admission(Bounds(max_receiving=1)), Client(), Client()
        [task] = await begun(room, client)
        with pytest.raises(Problem, match="1 bodies are coming already, the bound is 1") as full:
            await received(room, other)
        assert (full.value.status, full.value.retry_after) == (503, 1)
        client.send(b"a", more=False)
        assert await task == b"a"

    run(work())


def test_one_client_has_its_share_of_the_places_and_others_go_on() -> None:
    async def work() -> None:
        room = Admission(Bounds(max_receiving=4, client_share=0.5))
        tasks = await begun(room, Client(), Client(), who="greedy")
        with pytest.raises(Problem, match="2 bodies of this client are coming already, the bound is 2") as told:
            await received(room, Client(), "greedy")
        assert (told.value.status, told.value.retry_after) == (429, 1)
        modest = Client()
        modest.send(b"a", more=False)
        assert await received(room, modest, "modest") == b"a"
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert is_empty(room)

    run(work())


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_bytes_of_all_bodies_are_bounded_in_memory_and_on_the_disk(on_disk: bool, grown_up: None) -> None:
    async def work() -> None:
        room = Admission(Bounds(max_receiving_bytes=1024, max_uploading_bytes=1024))
        clients = [Client(), Client(), Client()]
        tasks = [asyncio.create_task(received(room, client, on_disk=on_disk)) for client in clients[:2]]
        tasks.append(asyncio.create_task(received(room, clients[2], on_disk=not on_disk)))
        for client in clients:
            client.send(b"x" * 600)
            for _ in range(6):
                await asyncio.sleep(0)
        with pytest.raises(Problem, match="has been coming longest"):
            await tasks[0]
        for client in clients[1:]:
            client.send(b"", more=False)
        assert [len(body) for body in await asyncio.gather(*tasks[1:])] == [600, 600]
        assert is_empty(room)

    run(work())


def test_one_body_alone_may_be_larger_than_all_together() -> None:
    async def work() -> None:
        room, client = Admission(Bounds(max_receiving_bytes=1024)), Client()
        client.send(b"x" * 3000, more=False)
        assert len(await received(room, client, bound=4000)) == 3000

    run(work())


def test_bytes_count_until_something_is_made_of_them(grown_up: None) -> None:
    async def work() -> None:
        room, first, second = Admission(Bounds(max_receiving_bytes=1024)), Client(), Client()
        first.send(b"x" * 600, more=False)
        second.send(b"x" * 600, more=False)
        with room.body(first.request, None, 1000) as body:
            await body.whole()
            with pytest.raises(Problem, match="1200 bytes of bodies are coming, the bound is 1024"):
                await received(room, second)
        assert is_empty(room)

    run(work())


def test_a_client_that_goes_away_leaves_its_place() -> None:
    async def work() -> None:
        room, client = Admission(Bounds()), Client()
        [task] = await begun(room, client, who="a")
        client.send(b"a")
        client.leave()
        with pytest.raises(ClientDisconnect):
            await task
        assert is_empty(room)

    run(work())


def test_a_reader_that_breaks_off_leaves_its_place() -> None:
    async def work() -> None:
        room, client = Admission(Bounds()), Client()
        client.send(b"a")

        async def read() -> None:
            with room.body(client.request, "a", 1000) as body:
                pieces: AsyncIterator[bytes] = body.pieces()
                assert await anext(pieces) == b"a"
                raise RuntimeError("no more of it")

        with pytest.raises(RuntimeError):
            await read()
        assert is_empty(room)

    run(work())
