"""A queue in which clients take turns, so that nobody waits behind another one's flood.

Start-time fair queueing (Goyal, Vin and Cheng 1996): a client's turn comes by how much work of its own was taken
before, and one who comes anew begins where the others are. Each operation costs the logarithm of the clients.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True, eq=False)
class Entry(Generic[Value]):
    """What waits.

    Attributes:
        value: the caller's.
        client: whose; None is one client too.
        key: entries of one key leave in the order in which they came, whosever they are; None: it follows nothing.
        work: how much it is; at least 1.
        waits: False: it was taken, or left.
    """

    value: Value
    client: str | None
    key: str | None
    work: int
    waits: bool = True


@dataclass(slots=True)
class _Line(Generic[Value]):
    """What waits of one client, with entries that no longer do among it.

    Attributes:
        start: when its turn comes, as work that was taken of those who wait all the time.
        count, work: of what waits.
        queued: whether it awaits its turn.
    """

    client: str | None
    start: float
    entries: deque[Entry[Value]] = field(default_factory=deque)
    count: int = 0
    work: int = 0
    queued: bool = False


class FairQueue(Generic[Value]):
    """Entries, by client.

    Attributes:
        work: of all that wait.
    """

    def __init__(self) -> None:
        self.work = 0
        self._count = 0
        self._now = 0.0  # the start of whoever had the last turn
        self._lines: dict[str | None, _Line[Value]] = {}
        self._turns: list[tuple[float, int, _Line[Value]]] = []  # a heap
        self._numbers = itertools.count()  # of equal starts the first first
        self._keys: dict[str, deque[Entry[Value]]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def clients(self) -> int:
        """How many have something waiting."""
        return len(self._lines)

    def held(self, client: str | None) -> tuple[int, int]:
        """How many entries of a client wait, and how much work they are."""
        line = self._lines.get(client)
        return (0, 0) if line is None else (line.count, line.work)

    def longest(self) -> str | None:
        """The client of whom most entries wait; at least one does."""
        return max(self._lines.values(), key=lambda line: line.count).client

    def newest(self, client: str | None) -> Entry[Value] | None:
        """What a client brought last, of what waits."""
        line = self._lines.get(client)
        return None if line is None else next((entry for entry in reversed(line.entries) if entry.waits), None)

    def push(self, entry: Entry[Value]) -> None:
        """Let it wait."""
        line = self._lines.get(entry.client)
        if line is None:
            line = self._lines[entry.client] = _Line(entry.client, self._now)
            self._await_turn(line)
        line.entries.append(entry)
        line.count += 1
        line.work += entry.work
        self._count += 1
        self.work += entry.work
        if entry.key is not None:
            self._keys.setdefault(entry.key, deque()).append(entry)

    def leave(self, entry: Entry[Value]) -> None:
        """It waits no longer."""
        if not entry.waits:
            return
        entry.waits = False
        line = self._lines[entry.client]
        line.count -= 1
        line.work -= entry.work
        self._count -= 1
        self.work -= entry.work
        if entry.key is not None:
            of_key = self._keys[entry.key]
            while of_key and not of_key[0].waits:
                of_key.popleft()
            if not of_key:
                del self._keys[entry.key]
        if not line.count:
            line.entries.clear()
            del self._lines[entry.client]  # its turn is passed over

    def take(self, most: int, most_work: int | None, ready: Callable[[Entry[Value]], bool]) -> list[Entry[Value]]:
        """Those whose turn it is, in the order of their turns.

        Args:
            most: entries.
            most_work: together; a single one may exceed it. None: any.
            ready: whether one may leave now; if not, its client's next one is looked at.
        """
        group: list[Entry[Value]] = []
        work = 0
        passed: dict[str | None, list[Entry[Value]]] = {}
        while self._turns and len(group) < most:
            line = self._turns[0][2]
            entry = self._first(line)
            if entry is None:
                self._pop_turn()
                continue
            chosen = entry if entry.key is None else self._keys[entry.key][0]
            if not ready(chosen):
                passed.setdefault(line.client, []).append(line.entries.popleft())
                continue
            if group and most_work is not None and work + chosen.work > most_work:
                break
            self._pop_turn()
            self.leave(chosen)
            self._now = max(self._now, line.start)
            line.start += chosen.work
            if line.entries:
                self._await_turn(line)
            work += chosen.work
            group.append(chosen)
        for client, entries in passed.items():
            line = self._lines[client]
            line.entries.extendleft(reversed(entries))
            if not line.queued:
                self._await_turn(line)
        return group

    def _first(self, line: _Line[Value]) -> Entry[Value] | None:
        while line.entries and not line.entries[0].waits:
            line.entries.popleft()
        return line.entries[0] if line.entries else None

    def _await_turn(self, line: _Line[Value]) -> None:
        line.queued = True
        heapq.heappush(self._turns, (line.start, next(self._numbers), line))

    def _pop_turn(self) -> None:
        heapq.heappop(self._turns)[2].queued = False
