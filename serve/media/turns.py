"""Whose turn it is where one at a time may work: small ones before large ones."""

from __future__ import annotations

import threading
import time


class SmallFirst:
    """A lock that a large one gets only while no small one waits for it. Any thread may call any method."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held = False
        self._small_waiting = 0

    def acquire(self, *, large: bool, within_s: float) -> bool:
        """Wait for one's turn; False: it did not come in time."""
        until = time.monotonic() + within_s
        with self._changed:
            self._small_waiting += not large
            try:
                while self._held or (large and self._small_waiting):
                    left = until - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(left)
                self._held = True
                return True
            finally:
                self._small_waiting -= not large
                self._changed.notify_all()

    def release(self) -> None:
        """Let the next one have it."""
        with self._changed:
            self._held = False
            self._changed.notify_all()
