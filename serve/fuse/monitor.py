"""Which fuses have blown, as one gateway knows: it looks again every few seconds, and no post waits for it."""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from moderation.storage.ledger import Ledger, now
from moderation.topology import Topology
from serve.fuse import fuses

logger = logging.getLogger("ray.serve")

_FORGET_S = 3600.0
"""Seconds between two times that old counts are deleted."""


class FuseBox:
    """The fuses of every label and region. What has blown already is known from the start.

    Args:
        ledger: whose counts blow them; blocking.
        topology: what is expected, and how often to look.
    """

    def __init__(self, ledger: Ledger, topology: Topology) -> None:
        self._ledger = ledger
        self._topology = topology
        self._blown = fuses.blown(ledger)
        self._look_at = 0.0
        self._forget_at = 0.0

    def blown_in(self, region: str) -> list[str]:
        """Labels whose fuse has blown in a region."""
        return [label for label, where in self._blown if where == region]

    def due(self) -> bool:
        """Whether it is time to `look`; then not again before `check_s`."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + self._topology.fuse.check_s
        return True

    async def look(self) -> None:
        """See which fuses must blow, have blown elsewhere, or were reset."""
        rules, policy = self._topology.fuse, self._topology.policy
        try:
            blown = await asyncio.to_thread(fuses.check, self._ledger, policy, rules, now())
            if time.monotonic() >= self._forget_at:
                self._forget_at = time.monotonic() + _FORGET_S
                await asyncio.to_thread(fuses.forget, self._ledger, now() - 2 * rules.looks_back)
        except SQLAlchemyError:
            logger.exception("nobody looked at the fuses; asked again in %s s", rules.check_s)
            return
        for label, region in sorted(blown - self._blown):
            logger.error("the fuse of %s in %s has blown: its removals are held for people", label, region)
        self._blown = blown
