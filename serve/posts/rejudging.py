"""Posts that were judged while a model was away are judged again, beside the others, without being asked."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from datetime import timedelta

from moderation.errors import ConflictError
from moderation.sections import Rejudge
from moderation.storage.ledger import Ledger, now
from serve.posts import due as rejudging
from serve.posts.moderator import Moderator

logger = logging.getLogger("ray.serve")

LOCK = "rejudge"
_HOLD = timedelta(minutes=10)


class Rejudging:
    """Looks for such posts now and then, one replica at a time.

    Args:
        ledger: where they are recorded.
        moderator: that judges them.
        rules: how often, how far back, how many at a time.
    """

    def __init__(self, ledger: Ledger, moderator: Moderator, rules: Rejudge) -> None:
        self._ledger = ledger
        self._moderator = moderator
        self._rules = rules
        self._after = 0  # the decision that was judged again last, so that those that fail for ever hold up no others

    async def run(self) -> None:
        """For as long as the process lives, or not at all."""
        while self._rules.every_s > 0:
            await asyncio.sleep(self._rules.every_s)
            try:
                again = await self.sweep()
            except Exception:  # a ledger that cannot be had for now
                logger.exception("nothing is judged again; tried again in %s s", self._rules.every_s)
                continue
            if again:
                logger.info("%d posts that were judged while a model was away were judged again", again)

    async def sweep(self) -> int:
        """Judge again until all are, a model is still away, or the queue is full; how many decisions are new.

        Nothing is done while another replica does it.
        """
        lock = ExitStack()
        try:
            held = await asyncio.to_thread(lock.enter_context, self._ledger.lock(LOCK, hold=_HOLD))
        except ConflictError:
            return 0
        again = 0
        try:
            while not self._moderator.full:
                recorded = await self._some()
                if not recorded:
                    break
                again += recorded
                await asyncio.to_thread(held.renew)
        finally:
            await asyncio.to_thread(lock.close)
        return again

    async def _some(self) -> int:
        """Judge the next ones again; how many decisions are new."""
        rules = self._rules
        since = now() - timedelta(hours=rules.within_h)
        due = await asyncio.to_thread(
            rejudging.due, self._ledger, since=since, after=self._after, limit=rules.group_size
        )
        self._after = due[-1].decision_id if len(due) == rules.group_size else 0
        return await self._moderator.judge_again(due) if due else 0
