"""Some workers, and those who wait for one."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from moderation.media import Failed, MediaKind, Reading, ReadRules, Refused
from serve.media.isolation.errors import Died, Garbled, Late, WorkerError
from serve.media.isolation.process import Process
from serve.media.isolation.wire import Task

PROGRAM = (sys.executable, "-P", "-m", "serve.media.isolation")
_SPARE = 1
_STARTS_WITHIN_S = 60.0
_LONGEST_PAUSE_S = 5.0


class Workers:
    """Processes that read media; use it as a context manager, or close it. Any thread may call any method.

    Args:
        count: media that are read at a time; large ones one less, where that leaves any.
        timeout_s: after which a decoder is taken to hang, and is ended.
        memory_mb: that a worker may take beyond its start, in 2^20 bytes of address space.
        recycle_after: media after which a worker is replaced.
        program: the command of a worker.

    Example:
        with Workers(2, timeout_s=10, memory_mb=1500) as workers:
            outcome = workers.read(path, "image", ReadRules())
    """

    def __init__(
        self,
        count: int,
        *,
        timeout_s: float,
        memory_mb: int,
        recycle_after: int = 500,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        if count < 1:
            raise ValueError(f"count is {count}: at least 1 worker reads")
        self._count, self._timeout_s, self._memory_mb = count, timeout_s, memory_mb
        self._recycle_after, self._program = recycle_after, tuple(program)
        self._changed = threading.Condition()
        self._idle: deque[Process] = deque()
        self._busy: set[Process] = set()
        self._large: set[Process] = set()  # of the busy ones
        self._small_waiting = 0
        self._starting: Process | None = None
        self._closed = False
        # One thread starts all workers, and lives as long: the system takes a worker's parent to be the thread that
        # started it, and ends the worker with that thread.
        self._keeper = threading.Thread(target=self._keep, name="reader-keeper", daemon=True)
        self._keeper.start()

    def read(
        self, path: Path, kind: MediaKind, rules: ReadRules, *, wait_s: float | None = None, large: bool = False
    ) -> Reading | Refused | Failed:
        """Have a medium read; blocks.

        Args:
            path: its bytes.
            kind: as it was told.
            rules: its bounds, and what is sampled.
            wait_s: seconds that it may wait for a worker; None: as long as it takes. Reading has a bound of its own.
            large: whether whatever is not goes first.
        """
        task = Task(path=str(path.absolute()), kind=kind, rules=rules)
        until = None if wait_s is None else time.monotonic() + wait_s
        for _ in range(self._count + _SPARE + 1):  # all that may have died while idle, and one that was started since
            process = self._take(until, large=large)
            if process is None:
                return Failed("the readers were closed" if self._closed else f"no reader was free within {wait_s:g} s")
            outcome = self._ask(process, task)
            if outcome is not None:
                return outcome
        return Failed("one reader after the other ended before it began")

    def close(self) -> None:
        """End all workers; whoever waits, or has something read, gets `Failed`."""
        with self._changed:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
            for process in (*self._busy, *filter(None, [self._starting])):
                process.kill()
            self._changed.notify_all()
        for process in idle:
            process.end()
        self._keeper.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, until: float | None, *, large: bool) -> Process | None:
        """A worker that lives and is free; None: there was none by then, or they were closed."""
        with self._changed:
            self._small_waiting += not large
            try:
                while not self._closed:
                    while self._idle and self._is_free(large=large):
                        process = self._idle.popleft()
                        if process.lives:
                            self._busy.add(process)
                            if large:
                                self._large.add(process)
                            return process
                        process.end()
                        self._changed.notify_all()
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        return None
                    self._changed.wait(left)
            finally:
                self._small_waiting -= not large
                self._changed.notify_all()  # a large one may have waited for this one
        return None

    def _is_free(self, *, large: bool) -> bool:
        if len(self._busy) >= self._count:
            return False
        return not large or (not self._small_waiting and len(self._large) < max(1, self._count - 1))

    def _ask(self, process: Process, task: Task) -> Reading | Refused | Failed | None:
        """The outcome; None: the worker had died before it took the task."""
        again = False
        try:
            outcome = process.ask(task, self._timeout_s)
            again = process.read_media < self._recycle_after
        except Died as error:
            return Failed(f"its decoder crashed: {error}") if error.taken else None
        except Late:
            return Failed(f"its decoder took longer than {self._timeout_s:g} s")
        except Garbled as error:
            return Failed(f"its decoder sent {error}")
        else:
            return outcome
        finally:
            self._give_back(process, again=again)

    def _give_back(self, process: Process, *, again: bool) -> None:
        with self._changed:
            self._busy.discard(process)
            self._large.discard(process)
            again = again and not self._closed
            if again:
                self._idle.append(process)
            self._changed.notify_all()
        if not again:
            process.end()

    def _keep(self) -> None:
        """See to it that there are always as many workers as are wanted, and one to spare."""
        failures = 0
        while True:
            with self._changed:
                while not self._closed and len(self._idle) + len(self._busy) >= self._count + _SPARE:
                    self._changed.wait()
                if failures and not self._closed:
                    self._changed.wait(min(0.1 * 2**failures, _LONGEST_PAUSE_S))
                if self._closed:
                    return
            process = self._start()
            failures = failures + 1 if process is None else 0
            if process is not None:
                self._give_back(process, again=True)

    def _start(self) -> Process | None:
        try:
            process = Process(self._program, self._memory_mb)
        except OSError:
            return None
        with self._changed:
            self._starting = process
            if self._closed:
                process.kill()
        try:
            process.wait_until_ready(_STARTS_WITHIN_S)
        except WorkerError:
            process.end()
            return None
        finally:
            with self._changed:
                self._starting = None
        return process
