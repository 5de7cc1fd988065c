"""Grouping: whatever waits is handed on together, so that a hop and a commit are paid once a group, not once a post.

No timer: while groups are in flight, posts gather; the next free slot takes all of them, up to a bound. An idle service
adds no wait, a busy one groups by itself. Clients take turns (`fair_queue`), and nobody waits beyond a bound: what
would is refused at once, by how fast groups were done of late; what does all the same is refused when its turn comes.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from serve.errors import ClientShareError, QueueFullError
from serve.posts.fair_queue import Entry, FairQueue
from serve.posts.pace import Pace, whole_seconds

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    """An item that waits for a group.

    Attributes:
        item, taken: as `Grouper.submit` has them.
        future: its result.
        until: it is not handled any more, of `time.monotonic`.
    """

    item: Item
    future: asyncio.Future[Result]
    taken: bool
    until: float


class Grouper(Generic[Item, Result]):
    """Group concurrent calls.

    Args:
        handle: takes a group, answers one result an item, in order; an exception as an item's result is raised to
            that item's caller alone. If `handle` itself raises, every caller of the group gets that.
        group_size: items in a group, at most.
        max_waiting: items that wait for a group, at most.
        max_in_flight: groups handled at a time.
        max_a_client: of the items that wait, one client's, at most; None: as many as wait at all.
        max_wait_s: seconds that an item waits for a group, at most; None: any.
        work_of: how much work an item is, at least 1; clients take turns by it, and waits are foretold by it.
        group_work: of a group, at most; an item of more is a group of its own. None: any.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        group_size: int,
        max_waiting: int,
        max_in_flight: int = 2,
        max_a_client: int | None = None,
        max_wait_s: float | None = None,
        work_of: Callable[[Item], int] = lambda _: 1,
        group_work: int | None = None,
    ) -> None:
        self._handle = handle
        self._group_size = group_size
        self._max_waiting = max_waiting
        self._max_in_flight = max_in_flight
        self._max_a_client = max_a_client
        self._max_wait_s = max_wait_s
        self._work_of = work_of
        self._group_work = group_work
        self._queue: FairQueue[_Waiting[Item, Result]] = FairQueue()
        self._pace = Pace()
        self._busy: Counter[str] = Counter()  # keys of the groups in flight
        self._in_flight = 0
        self._handled = 0  # groups at this moment
        self._tasks: set[asyncio.Task[None]] = set()
        # Groups run in nobody's context: Ray Serve cancels the calls that are made in a request's when it is cancelled.
        self._context = copy_context()

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return len(self._queue) >= self._max_waiting

    def admit(self, client: str | None = None, work: int = 1, *, taken: bool = False) -> None:
        """Let another item in, or not.

        Args:
            client: whose it is; None: that is not known, and nobody's share is counted.
            work: that it is.
            taken: True: it is a batch, which will be taken whole. It counts for its client, but has turns of its own:
                single items do not wait behind it.

        Raises:
            ClientShareError: the client's own items fill its share, or would make it wait too long.
            QueueFullError: too many wait, or it would wait too long.
        """
        queue = self._queue
        held, before = queue.held(_line(client, taken))
        in_all, _ = queue.held(_line(client, not taken))
        in_all += held
        if client is not None and self._max_a_client is not None and in_all >= self._max_a_client:
            detail = f"{in_all} posts of this client are waiting already, the bound is {self._max_a_client}"
            raise ClientShareError(detail, self._max_a_client, self._drained_in(before))
        if self.full and self._gives_way(held) is None:
            raise self._queue_full(QueueFullError)
        # Clients take turns: before it come its client's own and, of each other one, about as much, or all that waits.
        others = queue.clients - bool(held)
        wait = self._pace.seconds(min(queue.work, before + (before + work) * others))
        if self._max_wait_s is not None and wait > self._max_wait_s:
            own = client is not None and self._pace.seconds(before) > self._max_wait_s
            kind = ClientShareError if own else QueueFullError
            detail = f"it would wait {wait:.1f} s, the bound is {self._max_wait_s:g} s"
            raise kind(detail, self._max_wait_s, whole_seconds(wait))

    async def submit(
        self, item: Item, *, taken: bool = False, client: str | None = None, key: str | None = None
    ) -> Result:
        """Wait for the item's result.

        A caller that is cancelled leaves; its item is dropped if it still waits, and never harms its group.

        Args:
            item: to be handled.
            taken: True: it belongs to a batch that was taken when there was room, and is not refused now, nor when its
                turn comes late.
            client: see `admit`.
            key: items of one key are handled in the order in which they came: within a group, or one group after
                another; None: it follows nothing.

        Raises:
            QueueFullError: see `admit`; or it waited too long.
        """
        work = self._work_of(item)
        if not taken:
            self.admit(client, work)
            self._make_room(client)
        until = math.inf if taken or self._max_wait_s is None else time.monotonic() + self._max_wait_s
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        entry = Entry(_Waiting(item, future, taken, until), _line(client, taken), key, work)
        self._queue.push(entry)
        self._start()
        try:
            return await future
        finally:
            self._queue.leave(entry)  # where the caller left first

    def _gives_way(self, held: int) -> Entry[_Waiting[Item, Result]] | None:
        """What leaves a full queue for a client of whom so many wait: the newest of whoever has most, if that is more.

        What was taken with a batch does not.
        """
        most = self._queue.newest(self._queue.longest())
        if most is None or most.value.taken or self._queue.held(most.client)[0] <= held + 1:
            return None
        return most

    def _make_room(self, client: str | None) -> None:
        if not self.full or (entry := self._gives_way(self._queue.held(client)[0])) is None:
            return
        self._queue.leave(entry)
        _settle([entry.value], [self._queue_full(QueueFullError if entry.client is None else ClientShareError)])

    def _queue_full(self, kind: type[QueueFullError]) -> QueueFullError:
        detail = f"{self._max_waiting} posts are waiting already, which is the bound"
        return kind(detail, self._max_waiting, self._drained_in(self._queue.work))

    def _drained_in(self, work: int) -> int:
        return whole_seconds(self._pace.seconds(work))

    def _start(self) -> None:
        while self._queue and self._in_flight < self._max_in_flight:
            self._in_flight += 1
            task = asyncio.get_running_loop().create_task(self._run(), context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            # One turn of the loop lets callers that arrived together join the same group.
            await asyncio.sleep(0)
            while group := self._take():
                keys = [entry.key for entry in group if entry.key is not None]
                self._busy.update(keys)
                try:
                    await self._timed(group)
                finally:
                    self._busy -= Counter(keys)
        finally:
            # No turn of the loop lies between finding nothing and this, so no caller can come unnoticed.
            self._in_flight -= 1

    async def _timed(self, group: list[Entry[_Waiting[Item, Result]]]) -> None:
        begun, full = time.monotonic(), bool(self._queue)
        self._pace.begun(begun, alone=not self._handled)
        self._handled += 1
        try:
            await self._answer([entry.value for entry in group])
        finally:
            self._handled -= 1
            self._pace.done(sum(entry.work for entry in group), begun, time.monotonic(), full=full)

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

    def _take(self) -> list[Entry[_Waiting[Item, Result]]]:
        """The next group: whose turn it is, and has not waited too long."""
        while taken := self._queue.take(
            self._group_size, self._group_work, lambda entry: entry.key is None or not self._busy[entry.key]
        ):
            at = time.monotonic()
            late = [entry.value for entry in taken if entry.value.until < at]
            for waiting in late:
                bound = self._max_wait_s or 0.0
                detail = f"it waited longer than {bound:g} s, which is the bound"
                _settle([waiting], [QueueFullError(detail, bound, self._drained_in(self._queue.work))])
            group = [entry for entry in taken if entry.value.until >= at]
            if group:
                return group
        return []


def _line(client: str | None, taken: bool) -> str | None:
    """Where a client's items take turns: its batches apart from its single ones."""
    return f"{client or ''} (batch)" if taken else client


def _settle(group: Sequence[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
    for waiting, result in zip(group, results, strict=True):
        future = waiting.future
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
