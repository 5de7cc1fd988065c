"""Rows of `actions` and `reviews`, as whoever decides would write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import insert

from moderation.storage import dialect
from moderation.storage.ledger import Ledger
from moderation.storage.people_tables import actions, reports, reviews
from tests.moderation.storage.rows import at


def act(
    ledger: Ledger,
    post_id: str = "p-1",
    action: str = "remove",
    *,
    actor: str = "model",
    labels: tuple[str, ...] = ("abuse",),
    when: datetime | None = None,
    content_version: int = 1,
    review_id: int | None = None,
) -> int:
    """Do something with a post; its number."""
    with ledger.write() as connection:
        dialect.announce(connection, actions.c.action_id)
        row = {
            "post_id": post_id,
            "content_version": content_version,
            "action": action,
            "actor": actor,
            "labels": list(labels),
            "review_id": review_id,
            "acted_at": when or at(0),
        }
        return int(connection.execute(insert(actions).values(row).returning(actions.c.action_id)).scalar_one())


def a_review(ledger: Ledger, post_id: str = "p-1", *, kind: str = "flagged", by: str | None = "r-1") -> int:
    """A review that was decided, or none if nobody did; its number."""
    row: dict[str, Any] = {
        "post_id": post_id,
        "content_version": 1,
        "kind": kind,
        "labels": ["abuse"],
        "language": "en",
        "region": "US",
        "community": "gardening",
        "p_harm": 0.5,
        "severity": 1.0,
        "impressions": 1.0,
        "priority": 0.5,
        "created_at": at(0),
        "deadline": at(60),
        "status": "open" if by is None else "decided",
        "decided_by": by,
    }
    with ledger.write() as connection:
        return int(connection.execute(insert(reviews).values(row).returning(reviews.c.review_id)).scalar_one())


def report(ledger: Ledger, post_id: str = "p-1", *, when: datetime | None = None, weight: float = 1.0) -> None:
    row = {
        "post_id": post_id,
        "content_version": 1,
        "reporter_id": "u-9",
        "reason": "rude",
        "weight": weight,
        "created_at": when or at(0),
    }
    with ledger.write() as connection:
        connection.execute(insert(reports).values(row))
