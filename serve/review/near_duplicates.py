"""Clusters of near-duplicates among what nobody looked at: each is surfaced once, by one post."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, func, select

from moderation.metrics import Floats
from moderation.policy import Policy
from moderation.review import ReviewItem, ReviewRules, rank, severity_of
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger
from moderation.storage.people_tables import actions, reviews
from moderation.storage.tables import decisions, labels, of_version, posts, same_version
from serve.review.clusters import clusters
from serve.review.contents import COLUMNS, Content, queue_content


@dataclass(frozen=True, slots=True)
class Surfaced:
    """A cluster that was put before people.

    Attributes:
        post_id: that stands for it.
        text: of that post.
        posts: how many near-duplicates there are, itself among them.
    """

    post_id: str
    text: str
    posts: int


def surface(
    ledger: Ledger,
    embed: Callable[[Sequence[str]], Floats],
    *,
    policy: Policy,
    rules: ReviewRules,
    since: datetime,
    limit: int = 3000,
) -> list[Surfaced]:
    """Queue one post for each cluster of near-duplicates that nobody has looked at, the largest first.

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
    candidates = _candidates(ledger, since, limit)
    found = []
    for members in clusters([candidate.content.text for candidate in candidates], embed):
        if any(candidates[index].known for index in members):
            continue
        # A post that was drawn for review and nobody judged yet says nothing of the others, and is asked about anyway.
        free = [candidates[index].content for index in members if not candidates[index].waits]
        if not free:
            continue
        post = free[-1]
        if _queue(ledger, post, len(members), policy, rules):
            found.append(Surfaced(post.post_id, post.text, len(members)))
    return found


@dataclass(frozen=True, slots=True)
class _Candidate:
    """The newest content of a post, whether somebody knows of it, and whether it waits for a person."""

    content: Content
    known: bool
    waits: bool


def _candidates(ledger: Ledger, since: datetime, limit: int) -> list[_Candidate]:
    """Posts, oldest first; pictures without a word look like nothing here, and are left out.

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
        select(*COLUMNS, known.label("known"), drawn.label("waits"))
        .join_from(posts, decisions, same_version(posts, decisions))
        .where((decisions.c.decision_id > last - limit) | before, decisions.c.decided_at >= since, newest)
        .order_by(decisions.c.decision_id)
    )
    with ledger.read() as connection:
        found = [_Candidate(Content(*row), known, waits) for *row, known, waits in connection.execute(query)]
    return [candidate for candidate in found if candidate.content.text.strip()]


def _queue(ledger: Ledger, post: Content, size: int, policy: Policy, rules: ReviewRules) -> bool:
    decision = post.decision()
    region_rules = policy.rules(post.region)
    ranked = rank(decision.labels, region_rules)
    item = ReviewItem(
        kind="cluster",
        labels=tuple(ranked),
        p_harm=max(ranked.values(), default=0.0),
        severity=severity_of(ranked, region_rules),
        impressions=size * rules.expected_in(post.community),
        within=timedelta(hours=rules.sampled_deadline_h),
    )
    which = of_version(reviews, post.post_id, post.content_version)
    with ledger.write() as connection:
        claim(connection, "post", [post.post_id])
        if connection.execute(select(reviews.c.review_id).where(which)).first() is not None:
            return False  # somebody was faster
        queue_content(connection, post, item, language=decision.language.code)
    return True
