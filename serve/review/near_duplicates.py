"""Clusters of look-alikes among what nobody looked at: each is surfaced once, by one post."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, select

from moderation.metrics import Floats
from moderation.policy import Policy
from moderation.posts import Decision
from moderation.review import ReviewItem, ReviewRules, rank, severity_of
from moderation.storage import post_status
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions, reviews
from moderation.storage.tables import decisions, labels, of_version, posts, same_version
from serve.review.clusters import clusters


@dataclass(frozen=True, slots=True)
class Surfaced:
    """A cluster that was put before people.

    Attributes:
        post_id: that stands for it.
        text: of that post.
        posts: how many look like it.
    """

    post_id: str
    text: str
    posts: int


def surface(
    ledger: Ledger,
    embed: Callable[[Any], Floats],
    *,
    policy: Policy,
    rules: ReviewRules,
    since: datetime,
    limit: int = 3000,
) -> list[Surfaced]:
    """Queue one post for each cluster of look-alikes that nobody has looked at, the largest first.

    A cluster in which any post was labelled, acted on, or queued is known already, so a wave is surfaced once, also by
    later runs. The one post is expected to do the harm of all: their impressions are its.

    Args:
        ledger: of the posts.
        embed: see `serve.review.clusters`.
        policy: its prevalences weigh the scores.
        rules: how review works.
        since: posts decided before are left out.
        limit: the newest posts that are looked at; the work grows with the square of their different texts.
    """
    rows = _candidates(ledger, since, limit)
    found = []
    for members in clusters([row.text for row in rows], embed):
        if any(rows[index].known for index in members):
            continue
        # A post that was drawn for review and nobody judged yet says nothing of the others, and is asked about anyway.
        free = [rows[index] for index in members if not rows[index].waits]
        if not free:
            continue
        row = free[-1]
        if _queue(ledger, row, len(members), policy, rules):
            found.append(Surfaced(row.post_id, row.text, len(members)))
    return found


def _candidates(ledger: Ledger, since: datetime, limit: int) -> list[Any]:
    """The newest content of posts, oldest first: whether somebody knows of it, and whether it waits for a person.

    With those that stood for clusters before, however many posts came since: what looks like them is known.
    """
    last = select(func.max(decisions.c.decision_id)).scalar_subquery()
    newer = posts.alias("newer")
    newest = ~exists().where(newer.c.post_id == posts.c.post_id, newer.c.content_version > posts.c.content_version)
    asked = exists().where(same_version(reviews, posts))
    drawn = asked.where(reviews.c.kind == "sampled", reviews.c.status == "open")
    known = (
        exists().where(same_version(labels, posts))
        | exists().where(same_version(actions, posts))
        | asked.where((reviews.c.kind != "sampled") | (reviews.c.status != "open"))
    )
    before = asked.where(reviews.c.kind == "cluster", reviews.c.created_at >= since)
    query = (
        select(posts, decisions.c.body, known.label("known"), drawn.label("waits"))
        .join(decisions, same_version(posts, decisions))
        .where((decisions.c.decision_id > last - limit) | before, decisions.c.decided_at >= since, newest)
        .order_by(decisions.c.decision_id)
    )
    with ledger.read() as connection:
        return [
            row for row in connection.execute(query) if row.text.strip()
        ]  # pictures without a word are no look-alikes


def _queue(ledger: Ledger, row: Any, size: int, policy: Policy, rules: ReviewRules) -> bool:
    decision = Decision.model_validate_json(row.body, extra="ignore")
    region_rules = policy.rules(row.region)
    ranked = rank(decision.labels, region_rules)
    item = ReviewItem(
        kind="cluster",
        labels=tuple(ranked),
        p_harm=max(ranked.values(), default=0.0),
        severity=severity_of(ranked, region_rules),
        impressions=size * rules.expected_in(row.community),
        within=timedelta(hours=rules.sampled_deadline_h),
    )
    about = {"language": decision.language.code, "region": row.region, "community": row.community}
    which = of_version(reviews, row.post_id, row.content_version)
    with ledger.write() as connection:
        claim(connection, "post", [row.post_id])
        if connection.execute(select(reviews.c.review_id).where(which)).first() is not None:
            return False  # somebody was faster
        post_status.queue(connection, row.post_id, row.content_version, item, **about, created_at=now())
    return True
