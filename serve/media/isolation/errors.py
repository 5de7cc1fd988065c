"""What ends a worker: it is of no more use after any of these."""

from __future__ import annotations

from moderation.errors import SeawallError


class WorkerError(SeawallError):
    """A worker gave no answer; it is to be ended."""


class Died(WorkerError):
    """The worker ended without an answer.

    Attributes:
        taken: whether it had read the task.
    """

    def __init__(self, reason: str, *, taken: bool) -> None:
        super().__init__(reason)
        self.taken = taken


class Late(WorkerError):
    """The answer did not come in time."""


class Garbled(WorkerError):
    """What came is no answer."""
