"""Turns: of one key, what was taken first comes first, whoever is ready first."""

from __future__ import annotations

import asyncio

import pytest

from serve.posts.ordering import Turns
from tests.rooms import run


@pytest.mark.parametrize("ready", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_what_is_ready_early_waits_for_what_came_before_it_of_the_same_key_alone(ready: tuple[int, ...]) -> None:
    async def work() -> list[str]:
        turns, came = Turns(), []
        gates = [asyncio.Event() for _ in range(3)]

        async def one(name: str, key: str, gate: asyncio.Event) -> None:
            with turns.take(key) as turn:
                await gate.wait()
                await turn.come()
                came.append(name)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(one(f"a{number}", "a", gate)) for number, gate in enumerate(gates)]
        free = asyncio.Event()
        free.set()
        await one("b0", "b", free)
        for number in ready:
            gates[number].set()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return came

    assert run(work()) == ["b0", "a0", "a1", "a2"]


def test_what_fails_or_leaves_holds_up_nobody_behind_it() -> None:
    async def work() -> list[str]:
        turns, came = Turns(), []

        async def fails() -> None:
            with turns.take("a"):
                raise ValueError("no media")

        async def leaves() -> None:
            with turns.take("a") as turn:
                await asyncio.Event().wait()
                await turn.come()

        async def comes() -> None:
            with turns.take("a") as turn:
                await turn.come()
                came.append("came")

        tasks = [asyncio.create_task(work()) for work in (fails, leaves, comes)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return came

    assert run(work()) == ["came"]
