"""Samples that earlier releases recorded as posts whenever Seawall was started: taken back, wherever they stand.

What was never posted must not be in statements of reasons, webhooks, metrics or training sets. This is the one place
where rows of the ledger are deleted. Files that the lake has already are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, select

from moderation.storage import media_tables, people_tables, tables
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger

_OF_POSTS = [table for table in tables.metadata.sorted_tables if "post_id" in table.c]
assert {people_tables.actions, media_tables.post_media} <= set(_OF_POSTS)  # all of them are known by now


def forget(ledger: Ledger, samples: Mapping[str, tuple[str, datetime]]) -> int:
    """Delete everything that is recorded of samples; how many there were.

    Args:
        ledger: where they may be.
        samples: the author and time of each, by its post's id. A post of that id by anybody else, or of another time,
            is no sample.
    """
    posts = tables.posts
    of_samples = select(posts.c.post_id, posts.c.author_id, posts.c.created_at).where(posts.c.post_id.in_(samples))
    with ledger.read() as connection:  # looking costs no lock
        if connection.execute(of_samples.limit(1)).first() is None:
            return 0
    with ledger.write() as connection:
        claim(connection, "post", list(samples))
        found: dict[str, bool] = {}
        for post_id, author_id, created_at in connection.execute(of_samples):
            found[post_id] = found.get(post_id, True) and (author_id, created_at) == samples[post_id]
        known = [post_id for post_id, sample in found.items() if sample]
        for table in reversed(_OF_POSTS):
            connection.execute(delete(table).where(table.c.post_id.in_(known)))
    return len(known)
