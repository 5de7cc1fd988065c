"""Processes that end with the test that started them, whatever it found."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def a_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start it; at the end it is killed, waited for, and its pipes are closed.

    A pipe that nobody closed is found by the garbage collector, which fails whichever test then runs.

    Args:
        command: to start.
        options: of `subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()
