"""What the ledger alone answers of contents that came one after the other, so that only the rest is judged.

The order in which they came decides. Content that follows other content of its post is never settled by what was
recorded before both: `Ledger.record` settles it once what it follows is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from moderation.errors import ConflictError
from moderation.storage.ledger import Again, Ledger, Recorded, conflict_with


@dataclass(frozen=True, slots=True)
class Came:
    """Content that came.

    Attributes:
        post_id: whose.
        content_hash: of it.
        created_at: as it was sent.
        again: True: nobody sent it, see `ledger.Entry`.
    """

    post_id: str
    content_hash: str
    created_at: datetime
    again: bool = False


def settle(ledger: Ledger, came: Sequence[Came], *, rejudge: bool = False) -> list[Recorded | ConflictError | None]:
    """What is recorded already of contents, or keeps them out; that some came again is noted.

    Args:
        ledger: of the posts.
        came: in the order in which they came.
        rejudge: whether content that was decided while a model was away must be judged again.

    Returns:
        For each, in order: the recorded decision on it, why it is not recorded, or None: it must be judged.
    """
    known = ledger.newest([content.post_id for content in came])
    while True:
        results, again = _in_order(came, known, rejudge=rejudge)
        if not again:
            return results
        noted = ledger.note_again(again)
        known |= noted
        if all(noted[post_id].content_hash == content_hash for post_id, (content_hash, _) in again.items()):
            return results
        # Another process recorded other content meanwhile, which what came again now follows.


def _in_order(
    came: Sequence[Came], known: dict[str, Recorded], *, rejudge: bool
) -> tuple[list[Recorded | ConflictError | None], Again]:
    """What each content comes to, and which ones came again, created later than is noted."""
    newest = dict(known)
    judged: set[str] = set()  # posts of which something must be judged first
    again: Again = {}
    results: list[Recorded | ConflictError | None] = []
    for content in came:
        post_id, found = content.post_id, newest.get(content.post_id)
        result: Recorded | ConflictError | None = None
        if found is not None and post_id not in judged:
            same = found.content_hash == content.content_hash
            if content.again and not same:
                result = found  # newer content stands
            elif same and found.judge_again and (rejudge or content.again):
                pass
            elif not same:
                result = conflict_with(found, post_id, content.created_at, content.content_hash)
            elif content.created_at > found.created_at:
                result = newest[post_id] = replace(found, created_at=content.created_at)
                again[post_id] = (content.content_hash, content.created_at)
            else:
                result = found
        if result is None:
            judged.add(post_id)
        results.append(result)
    return results, again
