"""Errors of serving that several of its features raise or answer; drawn with all others in `moderation.errors`."""

from __future__ import annotations

from moderation.errors import QuotingError, SeawallError
from moderation.media import Refused


class QueueFullError(SeawallError):
    """More items wait than the bound allows, or for longer.

    Attributes:
        bound: items, or seconds.
        retry_after: seconds until what waits now will have been handled; at least 1.
    """

    def __init__(self, detail: str, bound: float, retry_after: int) -> None:
        super().__init__(f"{detail}; try again in {retry_after} s")
        self.bound = bound
        self.retry_after = retry_after


class ClientShareError(QueueFullError):
    """It is one client's own items that fill its share of the queue, or would wait too long; others go on."""


class DeadlineError(SeawallError):
    """The caller's deadline had passed before the model began."""


class NoAnswerError(SeawallError):
    """A model gave no answer to a request that is nothing without it.

    Args:
        error: what came instead.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"no answer from a model: {type(error).__name__}")


class RefusedMediumError(QuotingError):
    """A post holds a medium that is refused, so that nothing of it is recorded.

    Args:
        index: which of its media.
        refused: why.
    """

    def __init__(self, index: int, refused: Refused) -> None:
        super().__init__(f"media {index}: {refused.detail}")
        self.index = index
        self.refused = refused
