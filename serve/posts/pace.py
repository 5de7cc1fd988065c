"""How fast work is done, told by the groups that were done of late: what a wait is foretold by."""

from __future__ import annotations

import math
from collections import deque

_GROUPS = 16
"""That are remembered."""


class Pace:
    """Work a second. Times are seconds of one clock.

    Of full groups the rate is what was done between the ends of several, however many are under way at a time. A group
    that took all that waited says less: its own work in its own time is the least that could be done.
    """

    def __init__(self) -> None:
        self._rate: float | None = None
        self._ends: deque[tuple[float, int]] = deque(maxlen=_GROUPS)  # of full groups without a pause; when, how much

    def begun(self, at: float, *, alone: bool) -> None:
        """A group begins; `alone`: nothing else is under way, so there was a pause."""
        if alone:
            self._ends.clear()
            self._ends.append((at, 0))

    def done(self, work: int, begun: float, at: float, *, full: bool) -> None:
        """A group ended.

        Args:
            work: that was done.
            begun: when it was begun.
            at: the present.
            full: whether more waited when it was begun.
        """
        if not full:
            self._ends.clear()
            self._ends.append((at, 0))
            if at > begun:
                self._rate = max(self._rate or 0.0, work / (at - begun))
            return
        self._ends.append((at, work))
        first, *others = self._ends
        if others and at > first[0]:
            self._rate = sum(done for _, done in others) / (at - first[0])

    def seconds(self, work: int) -> float:
        """How long some work will take; 0 where nothing was done yet."""
        return work / self._rate if self._rate else 0.0


def whole_seconds(wait: float) -> int:
    """What `Retry-After` tells of a wait; at least 1."""
    return max(1, math.ceil(wait))
