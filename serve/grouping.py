"""Grouping: whatever waits is handed on together, so that a hop and a commit are paid once a group, not once a post.

No timer: while groups are in flight, posts gather; the next free slot takes all of them, up to a bound. An idle service
adds no wait, a busy one groups by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """More items wait than the bound allows."""

    def __init__(self, bound: int) -> None:
        super().__init__(f"{bound} posts are waiting already, which is the bound; try again shortly")
        self.bound = bound


class ClientShareError(QueueFullError):
    """One client's items alone fill as much of the queue as one client may; others go on."""

    def __init__(self, held: int, bound: int) -> None:
        super().__init__(bound)
        self.args = (f"{held} posts of this client are waiting already, the bound is {bound}; try again shortly",)


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    """An item that waits for a group; `client` and `key` as `Grouper.submit` has them."""

    item: Item
    future: asyncio.Future[Result]
    client: str | None
    key: str | None


class Grouper(Generic[Item, Result]):
    """Group concurrent calls.

    Args:
        handle: takes a group, answers one result an item, in order; an exception as an item's result is raised to
            that item's caller alone. If `handle` itself raises, every caller of the group gets that.
        group_size: items in a group, at most.
        max_waiting: items that wait for a group, at most.
        max_in_flight: groups handled at a time.
        max_a_client: of the items that wait, one client's, at most; None: as many as wait at all.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        group_size: int,
        max_waiting: int,
        max_in_flight: int = 2,
        max_a_client: int | None = None,
    ) -> None:
        self._handle = handle
        self._group_size = group_size
        self._max_waiting = max_waiting
        self._max_in_flight = max_in_flight
        self._max_a_client = max_a_client
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._busy: Counter[str] = Counter()  # keys of the groups in flight
        self._held: Counter[str] = Counter()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # Groups run in nobody's context: Ray Serve cancels the calls that are made in a request's when it is cancelled.
        self._context = copy_context()

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return len(self._waiting) >= self._max_waiting

    def admit(self, client: str | None = None) -> None:
        """Let another item in, or not.

        Args:
            client: whose it is; None: that is not known, and the whole queue is everybody's.

        Raises:
            ClientShareError: the client's own items fill its share.
            QueueFullError: too many wait.
        """
        if client is not None and self._max_a_client is not None and self._held[client] >= self._max_a_client:
            raise ClientShareError(self._held[client], self._max_a_client)
        if self.full:
            raise QueueFullError(self._max_waiting)

    async def submit(
        self, item: Item, *, taken: bool = False, client: str | None = None, key: str | None = None
    ) -> Result:
        """Wait for the item's result.

        A caller that is cancelled leaves; its item is dropped if it still waits, and never harms its group.

        Args:
            item: to be handled.
            taken: True: it belongs to a batch that was taken when there was room, and is not refused now.
            client: see `admit`.
            key: items of one key are handled in the order in which they came: within a group, or one group after
                another; None: it follows nothing.

        Raises:
            QueueFullError: see `admit`.
        """
        if not taken:
            self.admit(client)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, future, client, key))
        if client is not None:
            self._held[client] += 1
        self._start()
        return await future

    def _start(self) -> None:
        while self._waiting and self._in_flight < self._max_in_flight:
            self._in_flight += 1
            task = asyncio.get_running_loop().create_task(self._run(), context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            # One turn of the loop lets callers that arrived together join the same group.
            await asyncio.sleep(0)
            while group := self._take():
                keys = [waiting.key for waiting in group if waiting.key is not None]
                self._busy.update(keys)
                try:
                    await self._answer(group)
                finally:
                    self._busy -= Counter(keys)
        finally:
            # No turn of the loop lies between finding nothing and this, so no caller can come unnoticed.
            self._in_flight -= 1

    async def _answer(self, group: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._handle([waiting.item for waiting in group])
            if len(results) != len(group):
                raise RuntimeError(f"{len(results)} results for {len(group)} items")
        except asyncio.CancelledError:
            # A call that was cancelled beneath us: its callers must not wait for ever.
            _settle(group, [RuntimeError("the group was cancelled")] * len(group))
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except Exception as error:
            _settle(group, [error] * len(group))
        else:
            _settle(group, results)

    def _take(self) -> list[_Waiting[Item, Result]]:
        group: list[_Waiting[Item, Result]] = []
        behind: list[_Waiting[Item, Result]] = []
        while self._waiting and len(group) < self._group_size:
            waiting = self._waiting.popleft()
            if waiting.key is not None and self._busy[waiting.key]:
                behind.append(waiting)  # the group in flight takes it up when it is done
                continue
            if waiting.client is not None:
                self._held[waiting.client] -= 1
                if not self._held[waiting.client]:
                    del self._held[waiting.client]  # or every client that ever came would be kept
            if not waiting.future.done():
                group.append(waiting)
        self._waiting.extendleft(reversed(behind))
        return group


def _settle(group: Sequence[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
    for waiting, result in zip(group, results, strict=True):
        future = waiting.future
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
