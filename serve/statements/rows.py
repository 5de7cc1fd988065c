"""Removals and what undid them, by day, as statements of reasons need them.

A removal has a statement: the `remove` that begins it, and not one that only confirms it. The `restore`, or `allow`,
that ends it retracts the statement. Both are of one content version of a post; a `hold` in between changes nothing.

A day is UTC's. What is restored on the day of its removal has no statement once the day is over, though a retraction,
for whoever took the statements before that. When a day is over and its transactions are committed, both lists stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Select, exists, func, select

from moderation.labels import Modality
from moderation.media import MediaKind
from moderation.storage.ledger import Ledger
from moderation.storage.media_tables import post_media
from moderation.storage.people_tables import actions, reports, reviews
from moderation.storage.tables import decisions, posts, same_version
from serve.statements.statement import Removal, Retraction

PAGE = 500
"""Rows that one transaction reads."""

_SHOWN = ("restore", "allow")


def removals(ledger: Ledger, day: date) -> Iterator[Removal]:
    """The removals of a day that stand at its end, in the order of their numbers."""
    begin, end = _bounds(day)
    for row in _pages(ledger, _removals(begin, end), actions.c.action_id):
        body = json.loads(row.body) if row.body else {}
        yield Removal(
            action_id=row.action_id,
            actor=row.actor,
            labels=tuple(row.labels),
            acted_at=row.acted_at,
            created_at=row.created_at,
            region=row.region,
            language=body.get("language", {}).get("code"),
            detected=body.get("decision", "allow") != "allow" or row.kind == "cluster",
            reported=bool(row.reported) and row.kind not in ("sampled", "cluster"),
            modalities=_modalities(row),
        )


def retractions(ledger: Ledger, day: date) -> Iterator[Retraction]:
    """The removals that were undone on a day, in the order in which that was done."""
    begin, end = _bounds(day)
    for row in _pages(ledger, _retractions(begin, end), actions.c.action_id):
        yield Retraction(row.removal_id, row.removed_at, row.actor, row.acted_at)


def _modalities(row: Row[Any]) -> tuple[Modality, ...]:
    found: list[Modality] = []
    if row.text.strip() or not (row.has_image or row.has_video):
        found.append("text")
    if row.has_image:
        found.append("image")
    if row.has_video:
        found.append("video")
    return tuple(found)


def _bounds(day: date) -> tuple[datetime, datetime]:
    begin = datetime.combine(day, time(), UTC)
    # The last day there is has no next one.
    return begin, datetime.max.replace(tzinfo=UTC) if day == date.max else begin + timedelta(days=1)


def _pages(ledger: Ledger, query: Select[Any], number: ColumnElement[int]) -> Iterator[Row[Any]]:
    after = 0
    while True:
        with ledger.read() as connection:
            rows = connection.execute(query.where(number > after).order_by(number).limit(PAGE)).all()
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1].action_id


_OTHER = actions.alias()


def _removals(begin: datetime, end: datetime) -> Select[Any]:
    restored = exists().where(
        same_version(_OTHER, actions),
        _OTHER.c.action.in_(_SHOWN),
        _OTHER.c.action_id > actions.c.action_id,
        _OTHER.c.acted_at < end,
    )
    reported = exists().where(
        same_version(reports, actions), reports.c.created_at <= actions.c.acted_at, reports.c.weight > 0
    )
    return (
        select(
            actions,
            posts.c.created_at,
            posts.c.region,
            decisions.c.body,
            reviews.c.kind,
            reported.label("reported"),
            posts.c.text,
            _has("image").label("has_image"),
            _has("video").label("has_video"),
        )
        .join(posts, same_version(posts, actions))
        .outerjoin(decisions, same_version(decisions, actions))
        .outerjoin(reviews, reviews.c.review_id == actions.c.review_id)
        .where(
            actions.c.action == "remove",
            actions.c.acted_at >= begin,
            actions.c.acted_at < end,
            _begins(actions),
            ~restored,
        )
    )


def _has(kind: MediaKind) -> ColumnElement[bool]:
    return exists().where(same_version(post_media, actions), post_media.c.kind == kind)


_BEFORE = actions.alias()


def _begins(removal: FromClause) -> ColumnElement[bool]:
    """Whether a `remove` is of content that was not removed already."""
    last = (
        select(_BEFORE.c.action)
        .where(
            same_version(_BEFORE, removal),
            _BEFORE.c.action_id < removal.c.action_id,
            _BEFORE.c.action != "hold",
        )
        .order_by(_BEFORE.c.action_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(last, "") != "remove"


def _retractions(begin: datetime, end: datetime) -> Select[Any]:
    removal, between = actions.alias(), actions.alias()
    undone_before = exists().where(
        same_version(between, actions),
        between.c.action.in_(_SHOWN),
        between.c.action_id > removal.c.action_id,
        between.c.action_id < actions.c.action_id,
    )
    return (
        select(
            actions.c.action_id,
            actions.c.actor,
            actions.c.acted_at,
            removal.c.action_id.label("removal_id"),
            removal.c.acted_at.label("removed_at"),
        )
        .join(removal, same_version(removal, actions))
        .where(
            actions.c.action.in_(_SHOWN),
            actions.c.acted_at >= begin,
            actions.c.acted_at < end,
            removal.c.action == "remove",
            removal.c.action_id < actions.c.action_id,
            _begins(removal),
            ~undone_before,
        )
    )
