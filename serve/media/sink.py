"""A file that is written while its bytes arrive, hashed as they pass.

Bytes are gathered up to a megabyte and then written and hashed on a thread: hashing a megabyte takes milliseconds,
which the loop does not have, and a hop to a thread for every chunk of the network would cost more than it saves.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

GATHERED = 1 << 20
"""Bytes that wait in memory, at most, and a chunk more."""

Result = TypeVar("Result")
_THREADS = ThreadPoolExecutor(16, thread_name_prefix="media")
"""Of their own: uploads, and a store that hangs, must not take the threads that texts need for the ledger."""


async def on_thread(work: Callable[[], Result]) -> Result:
    """Run on a thread. Who is cancelled meanwhile waits for the end first: what the thread uses can then be removed."""
    running = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(_THREADS, work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


@asynccontextmanager
async def entered_on_thread(context: AbstractContextManager[Result]) -> AsyncIterator[Result]:
    """A blocking context, entered and left on threads; left also where who enters it is cancelled meanwhile."""
    stack = ExitStack()
    try:
        yield await on_thread(partial(stack.enter_context, context))
    finally:
        await on_thread(stack.close)


class Sink:
    """A new file.

    Args:
        path: that must not exist; its folder must.

    Attributes:
        size: bytes that were taken so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("xb", buffering=0)
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        # A thread that was given up may still write: never to a number that another file has by then.
        self._lock = threading.Lock()

    def take(self, chunk: bytes) -> None:
        """Bytes that come next; they wait in memory until `settle`."""
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        self.size += len(chunk)

    async def settle(self) -> None:
        """Write what waits, where that is worth a thread."""
        if self._waiting_bytes >= GATHERED:
            await on_thread(self._write)

    async def finish(self) -> None:
        """Write the rest, and close."""
        await on_thread(self._write)
        self.close()

    def write_now(self, chunk: bytes) -> None:
        """Take and write at once: for those who are on a thread already."""
        self.take(chunk)
        self._write()

    def close(self) -> None:
        """Close the file, once all is written."""
        with self._lock:
            self._file.close()

    def discard(self) -> None:
        """Remove the file; may be called at any time, and again."""
        self.close()
        self._waiting.clear()
        self.path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """Of what was written, in hexadecimal."""
        return self._digest.hexdigest()

    def _write(self) -> None:
        with self._lock:
            for chunk in self._waiting:
                left = memoryview(chunk)
                while left:  # a raw file may take less than it is given
                    left = left[self._file.write(left) :]
                self._digest.update(chunk)
            self._waiting.clear()
            self._waiting_bytes = 0
