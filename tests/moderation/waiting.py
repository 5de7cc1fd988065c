"""Waiting for what is to come, and not for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG_S = 300.0
"""Within which anything comes, on however slow a machine: it only ends what hangs."""


def wait_until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < give_up, f"it did not come within {LONG_S:g} s"
        time.sleep(0.01)
