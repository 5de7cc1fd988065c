"""The outbox: what is done with posts, on its way to the endpoints that asked to be told.

`actions` says what was done. `fan_out` makes a row in `deliveries` of each action for each endpoint, exactly one, in
the order of their numbers, up to where everything is settled (`dialect.settled`): none is skipped that commits late.
`take` hands out what is due, and `settle` says what became of it.

- A post's later action waits until its earlier one was delivered or is dead.
- What is taken is nobody else's until the lease ends: `next_at` lies that far ahead, and is what the taker is known by.
  Of a sender that was killed nothing remains but that; then its deliveries are due again. So each arrives at least
  once, and twice where the reply, or its record, was lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Select, exists, func, insert, select, update
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError, NotFoundError
from moderation.storage.dialect import claim, settled
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions, deliveries
from moderation.storage.tables import posts, same_version

BATCH = 500
"""Actions that one transaction fans out."""
ERROR_LENGTH = 500
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An action for an endpoint, taken to be sent.

    Attributes:
        delivery_id: the same in every attempt.
        endpoint: for whom.
        action_id: of `actions`.
        post_id: of the action.
        attempts: that failed before.
        lease: until when it is nobody else's; also what its taker is known by.
        body: of the request, the same bytes in every attempt.
    """

    delivery_id: str
    endpoint: str
    action_id: int
    post_id: str
    attempts: int
    lease: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What became of an attempt.

    Attributes:
        delivery: that was tried.
        error: why it failed; None: it was delivered.
        retry_at: when to try again; None: never, it is dead.
    """

    delivery: Delivery
    error: str | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How an endpoint stands.

    Attributes:
        pending: deliveries that are due, under way or wait.
        delivered: that arrived.
        dead: that were given up.
        oldest: when the oldest pending one's action was done; None: nothing is pending.
    """

    pending: int
    delivered: int
    dead: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up."""

    delivery_id: str
    endpoint: str
    action_id: int
    post_id: str
    attempts: int
    last_error: str | None


def fan_out(ledger: Ledger, endpoint: str, *, after_action: int = 0, limit: int = BATCH) -> int:
    """Put new actions into an endpoint's outbox; how many. Call again until it says 0.

    Args:
        ledger: where both are.
        endpoint: its name.
        after_action: actions up to this number are left out.
        limit: actions at most.
    """
    with ledger.read() as connection:
        mark = settled(connection, actions.c.action_id)
        if mark <= max(after_action, _fanned_out(connection, endpoint)):
            return 0
    with ledger.write() as connection:  # another one: it must begin after the mark was set
        claim(connection, "outbox", [endpoint])
        begin = max(after_action, _fanned_out(connection, endpoint))
        query = select(actions.c.action_id, actions.c.post_id).where(actions.c.action_id.between(begin + 1, mark))
        due = now()
        rows = [
            {
                "delivery_id": str(uuid4()),
                "endpoint": endpoint,
                "action_id": action_id,
                "post_id": post_id,
                "status": "pending",
                "attempts": 0,
                "next_at": due,
            }
            for action_id, post_id in connection.execute(query.order_by(actions.c.action_id).limit(limit))
        ]
        if rows:
            connection.execute(insert(deliveries), rows)
    return len(rows)


def _fanned_out(connection: Connection, endpoint: str) -> int:
    newest = select(func.max(deliveries.c.action_id)).where(deliveries.c.endpoint == endpoint)
    return connection.execute(newest).scalar() or 0


_EARLIER = deliveries.alias()


def _due(endpoint: str, at: datetime) -> Select[Any]:
    waits = exists().where(
        _EARLIER.c.endpoint == deliveries.c.endpoint,
        _EARLIER.c.post_id == deliveries.c.post_id,
        _EARLIER.c.action_id < deliveries.c.action_id,
        _EARLIER.c.status == "pending",
    )
    return (
        select(deliveries.c.delivery_id, deliveries.c.attempts, actions, posts.c.author_id, posts.c.community)
        .add_columns(posts.c.region)
        .join(actions, actions.c.action_id == deliveries.c.action_id)
        .outerjoin(posts, same_version(posts, actions))
        .where(
            deliveries.c.endpoint == endpoint,
            deliveries.c.status == "pending",
            deliveries.c.next_at <= at,
            ~waits,
        )
        .order_by(deliveries.c.next_at, deliveries.c.action_id)
    )


def take(ledger: Ledger, endpoint: str, *, limit: int, hold: timedelta) -> list[Delivery]:
    """Take deliveries that are due, one a post at most, so that no other sender sends them meanwhile.

    Args:
        ledger: where they are.
        endpoint: whose.
        limit: at most.
        hold: after that long without an outcome they are due again.
    """
    with ledger.read() as connection:  # looking costs no lock
        if connection.execute(_due(endpoint, now()).limit(1)).first() is None:
            return []
    with ledger.write() as connection:
        claim(connection, "outbox", [endpoint])
        at = now()
        rows = connection.execute(_due(endpoint, at).limit(limit)).all()
        lease = at + hold
        taken = [row.delivery_id for row in rows]
        if taken:
            connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(taken)).values(next_at=lease))
    return [
        Delivery(row.delivery_id, endpoint, row.action_id, row.post_id, row.attempts, lease, _body(row)) for row in rows
    ]


def _body(row: Row[Any]) -> bytes:
    said = {
        "delivery_id": row.delivery_id,
        "action_id": row.action_id,
        "post_id": row.post_id,
        "content_version": row.content_version,
        "action": row.action,
        "actor": row.actor,
        "labels": row.labels,
        "acted_at": row.acted_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "author_id": row.author_id,
        "community": row.community,
        "region": row.region,
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def settle(ledger: Ledger, outcomes: Sequence[AttemptResult]) -> int:
    """Record what became of deliveries, all in one transaction; how many were still the sender's to record.

    A failure is recorded only by who holds the lease: another sender may have it by now. An arrival is a fact, whoever
    brought it about.
    """
    counted = 0
    if not outcomes:
        return counted
    with ledger.write() as connection:
        claim(connection, "outbox", {outcome.delivery.endpoint for outcome in outcomes})
        for outcome in outcomes:
            delivery = outcome.delivery
            this = update(deliveries).where(deliveries.c.delivery_id == delivery.delivery_id)
            attempts = delivery.attempts + 1
            if outcome.error is None:
                change = this.where(deliveries.c.status != "delivered").values(
                    status="delivered", attempts=attempts, delivered_at=now(), last_error=None
                )
            else:
                change = this.where(deliveries.c.status == "pending", deliveries.c.next_at == delivery.lease).values(
                    status="dead" if outcome.retry_at is None else "pending",
                    attempts=attempts,
                    next_at=outcome.retry_at or delivery.lease,
                    last_error=outcome.error.replace("\0", "")[:ERROR_LENGTH],
                )
            counted += connection.execute(change).rowcount
    return counted


def counts(ledger: Ledger) -> dict[str, Counts]:
    """How each endpoint stands that ever had a delivery, by name."""
    numbers = select(deliveries.c.endpoint, deliveries.c.status, func.count()).group_by(
        deliveries.c.endpoint, deliveries.c.status
    )
    oldest = (
        select(deliveries.c.endpoint, func.min(actions.c.acted_at))
        .join(actions, actions.c.action_id == deliveries.c.action_id)
        .where(deliveries.c.status == "pending")
        .group_by(deliveries.c.endpoint)
    )
    with ledger.read() as connection:
        found = {(endpoint, status): count for endpoint, status, count in connection.execute(numbers)}
        waiting = {row[0]: row[1] for row in connection.execute(oldest)}
    return {
        endpoint: Counts(
            pending=found.get((endpoint, "pending"), 0),
            delivered=found.get((endpoint, "delivered"), 0),
            dead=found.get((endpoint, "dead"), 0),
            oldest=waiting.get(endpoint),
        )
        for endpoint in sorted({endpoint for endpoint, _ in found})
    }


def dead_letters(ledger: Ledger, *, limit: int = 100) -> list[DeadLetter]:
    """Deliveries that were given up, the oldest action first, `limit` at most."""
    columns = [deliveries.c[name] for name in DeadLetter.__dataclass_fields__]
    query = select(*columns).where(deliveries.c.status == "dead")
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(deliveries.c.action_id, deliveries.c.endpoint).limit(limit))
        return [DeadLetter(*row) for row in rows]


def redrive(ledger: Ledger, delivery_id: str | None = None) -> int:
    """Make dead letters due again, with all their attempts before them; how many.

    What was sent since is not taken back: a redriven action may arrive after later ones of its post.

    Args:
        ledger: where they are.
        delivery_id: which one; None: all.

    Raises:
        NotFoundError: there is no such delivery.
        ConflictError: it is not dead.
    """
    again = update(deliveries).where(deliveries.c.status == "dead").values(status="pending", attempts=0, next_at=now())
    with ledger.write() as connection:
        if delivery_id is None:
            claim(connection, "outbox")
            return connection.execute(again).rowcount
        this = deliveries.c.delivery_id == delivery_id
        found = connection.execute(select(deliveries.c.endpoint, deliveries.c.status).where(this)).first()
        if found is None:
            raise NotFoundError(f"delivery {delivery_id!r} is not recorded")
        if connection.execute(again.where(this)).rowcount == 0:
            raise ConflictError(f"delivery {delivery_id!r} is {found.status}; only a dead one is redriven")
    return 1
