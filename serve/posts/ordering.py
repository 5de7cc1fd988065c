"""Turns: what belongs together goes on in the order in which it came, however long each takes to be made ready."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Turns:
    """A line for each key, of one event loop."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}

    def take(self, key: str) -> Turn:
        """The next turn of a key; its context must be entered."""
        before = self._last.get(key)
        mine = self._last[key] = asyncio.get_running_loop().create_future()
        return Turn(before, mine)


class Turn:
    """A place in a line. As a context, it lets the next one go on when it ends, however it ends."""

    def __init__(self, before: asyncio.Future[None] | None, mine: asyncio.Future[None]) -> None:
        self._before = before
        self._mine = mine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._go_on()

    async def come(self) -> None:
        """Wait until it is this one's turn. The next one's is once the caller has come to wait for something else."""
        if self._before is not None:
            await asyncio.shield(self._before)
        self._go_on()

    def _go_on(self) -> None:
        if not self._mine.done():
            self._mine.set_result(None)
