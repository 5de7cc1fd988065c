"""How posts stand: what was done with them, in order, by models and by people.

Each function works within its caller's transaction, which holds the claim on the posts it is called for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from moderation.posts import Actor, Decision, ReviewDecision, Standing, State
from moderation.review import Kind, ReviewItem
from moderation.storage.dialect import announce, chunks
from moderation.storage.people_tables import actions, exemptions, reviews, strikes
from moderation.storage.tables import of_version, posts

Action = Literal["hold", "remove", "allow", "restore"]

_STATES: dict[Action, State] = {"hold": "held", "remove": "removed", "allow": "shown", "restore": "shown"}
_DECISIONS: dict[State, Literal["allow", "review", "remove"]] = {
    "shown": "allow",
    "held": "review",
    "removed": "remove",
}
_SHOWN = Standing(state="shown")
SHOWN_AS_QUEUED = ("flagged", "reported", "appeal")
"""Kinds of review that the platform is told of; the others measure, and change nothing for the post."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done with a post.

    Attributes:
        post_id: which.
        content_version: of the content that was judged.
        action: what.
        actor: who.
        labels: the reasons.
        at: when.
        author_id: gets a strike for a removal, and loses it with a restoration.
        review_id: behind it, if any.
    """

    post_id: str
    content_version: int
    action: Action
    actor: Actor
    labels: tuple[str, ...]
    at: datetime
    author_id: str
    review_id: int | None = None


def of(connection: Connection, post_ids: Sequence[str]) -> dict[str, Standing]:
    """How posts stand. Posts that nobody acted on are left out: they are shown."""
    newest = select(func.max(actions.c.action_id)).where(actions.c.post_id.in_(post_ids)).group_by(actions.c.post_id)
    return {
        row.post_id: Standing(
            state=_STATES[row.action], actor=row.actor, since=row.acted_at, content_version=row.content_version
        )
        for row in connection.execute(select(actions).where(actions.c.action_id.in_(newest)))
    }


def act(connection: Connection, acts: Sequence[Act]) -> None:
    """Record what is done, with the strikes that follow."""
    if not acts:
        return
    announce(connection, actions.c.action_id)
    connection.execute(insert(actions), [_row(done) for done in acts])
    for done in acts:
        key = of_version(strikes, done.post_id, done.content_version)
        if done.action == "remove":
            given = {"given_at": done.at, "taken_back_at": None}
            if not connection.execute(update(strikes).where(key).values(**given)).rowcount:
                which = {"post_id": done.post_id, "content_version": done.content_version}
                connection.execute(insert(strikes).values(**which, author_id=done.author_id, **given))
        elif done.action == "restore":
            take_back_strike(connection, done.post_id, done.content_version, done.at)


def take_back_strike(connection: Connection, post_id: str, content_version: int, at: datetime) -> None:
    """Take back the strike for a content, if it stands."""
    mine = of_version(strikes, post_id, content_version)
    connection.execute(update(strikes).where(mine, strikes.c.taken_back_at.is_(None)).values(taken_back_at=at))


def _row(done: Act) -> dict[str, object]:
    return {
        "post_id": done.post_id,
        "content_version": done.content_version,
        "action": done.action,
        "actor": done.actor,
        "labels": list(done.labels),
        "review_id": done.review_id,
        "acted_at": done.at,
    }


def follows(
    decision: Decision, *, author_id: str, actor: Actor, removed_for: tuple[str, ...], before: Standing | None
) -> Act | None:
    """What a fresh decision does with its post, if anything.

    Args:
        decision: as recorded.
        author_id: of the post.
        actor: who acts by it.
        removed_for: labels that asked for the removal, if it is one.
        before: how its earlier content stood; None: nobody acted on it.
    """
    state = before.state if before else "shown"
    action: Action
    if decision.decision == "remove":
        action = "remove"
    elif decision.decision == "review" and decision.mode == "proactive":
        action = "hold"
    elif state != "shown":
        # The content that was removed or held is gone; the new one is judged by itself.
        action = "allow"
    else:
        return None
    flagged = tuple(name for name, label in decision.labels.items() if label.flagged)
    labels = removed_for if action == "remove" and removed_for else flagged
    version, at = decision.content_version, decision.decided_at
    return Act(decision.post_id, version, action, actor, labels, at, author_id)


def exempt(connection: Connection, content_hashes: Sequence[str]) -> set[str]:
    """Which of these contents were restored on appeal."""
    query = select(exemptions.c.content_hash).where(exemptions.c.content_hash.in_(content_hashes))
    return {row[0] for row in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that is recorded.

    Attributes:
        action_id: its number.
        labels: the reasons.
        review_id: behind it, if any.
    """

    action_id: int
    labels: tuple[str, ...]
    review_id: int | None


def removed_by_people(connection: Connection, post_id: str, content_hash: str) -> Removal | None:
    """The removal by which a person removed this content of a post before, if that was the last word on it."""
    same = select(posts.c.content_version).where(posts.c.post_id == post_id, posts.c.content_hash == content_hash)
    on_it = (actions.c.post_id == post_id) & actions.c.content_version.in_(same)
    last = connection.execute(select(actions).where(on_it).order_by(actions.c.action_id.desc()).limit(1)).first()
    if last is None or (last.action, last.actor) != ("remove", "review"):
        return None
    # An appeal that was upheld while newer content was out of sight is no action.
    since = (exemptions.c.content_hash == content_hash) & (exemptions.c.created_at >= last.acted_at)
    if connection.execute(select(exemptions.c.appeal_id).where(since)).first():
        return None
    return Removal(last.action_id, tuple(last.labels), last.review_id)


def left_to_models(connection: Connection, versions: Mapping[str, int]) -> set[str]:
    """Posts of which no person has said, or is asked, what a model could take back; and that are not removed.

    A person is asked where they hold the item, or where something else than the decision brought it to them.

    Args:
        connection: in any transaction.
        versions: of the content in question, by post.
    """
    ids = list(versions)
    left = set(ids)
    for post_id, stands in of(connection, ids).items():
        by_people = stands.actor in ("review", "appeal")
        if stands.content_version == versions[post_id] and (by_people or stands.state == "removed"):
            left.discard(post_id)
    asked = select(reviews).where(
        reviews.c.post_id.in_(ids), reviews.c.kind != "golden", reviews.c.status.in_(("open", "decided"))
    )
    present = datetime.now(UTC)
    for row in connection.execute(asked):
        held = row.leased_until is not None and row.leased_until >= present
        waits = row.status == "open" and row.kind in ("flagged", "sampled") and not held
        if row.content_version == versions[row.post_id] and not waits:
            left.discard(row.post_id)
    return left


def queue(
    connection: Connection,
    post_id: str,
    version: int,
    item: ReviewItem,
    *,
    language: str,
    region: str,
    community: str,
    created_at: datetime,
    of_review: int | None = None,
    leased_by: str | None = None,
    leased_until: datetime | None = None,
) -> int:
    """Queue one item; the number of its review. What the columns hold: see `people_tables.reviews`."""
    row = {
        "post_id": post_id,
        "content_version": version,
        "kind": item.kind,
        "labels": list(item.labels),
        "p_harm": item.p_harm,
        "severity": item.severity,
        "impressions": item.impressions,
        "priority": item.priority,
        "sampling_probability": item.sampling_probability,
        "deadline": created_at + item.within,
        "status": "open",
        "language": language,
        "region": region,
        "community": community,
        "created_at": created_at,
        "of_review": of_review,
        "leased_by": leased_by,
        "leased_until": leased_until,
    }
    return int(connection.execute(insert(reviews).values(**row).returning(reviews.c.review_id)).scalar_one())


def drop_open(connection: Connection, post_ids: Sequence[str]) -> None:
    """Take what is open of posts out of the queue, as newer content takes its place. An appeal is still answered."""
    of_posts = reviews.c.post_id.in_(post_ids) & (reviews.c.status == "open") & (reviews.c.kind != "appeal")
    # In one order with `reviews.count_impressions`, so that no two wait for each other.
    query = select(reviews.c.review_id).where(of_posts).order_by(reviews.c.review_id).with_for_update()
    ids = [row.review_id for row in connection.execute(query)]
    connection.execute(update(reviews).where(reviews.c.review_id.in_(ids)).values(status="dropped"))


@dataclass(frozen=True, slots=True)
class Waiting:
    """A review that waits: why, and until when at the latest."""

    kind: Kind
    deadline: datetime
    content_version: int


def state_after(done: Act) -> Standing:
    """How a post stands once this is done."""
    state = _STATES[done.action]
    return Standing(state=state, actor=done.actor, since=done.at, content_version=done.content_version)


def effective(body: str, standing: Standing | None, waiting: Waiting | None) -> str:
    """A recorded decision as it holds now.

    Args:
        body: of the decision, as JSON.
        standing: None: nobody acted.
        waiting: None: nobody is asked.
    """
    decision = Decision.model_validate_json(body, extra="ignore")
    decision.standing = standing or _SHOWN
    if standing is not None and standing.actor in ("review", "appeal"):
        decision.decision = _DECISIONS[standing.state]
    if waiting is None:
        decision.review = ReviewDecision(queued=False)
    else:
        reasons = decision.review.reasons if waiting.kind == "flagged" else [waiting.kind]
        decision.review = ReviewDecision(queued=True, deadline=waiting.deadline, reasons=reasons)
    return decision.model_dump_json()


def open_reviews(connection: Connection, post_ids: Sequence[str]) -> dict[str, Waiting]:
    """The reviews of posts that wait, of those that the platform is told of."""
    query = select(reviews).where(
        reviews.c.post_id.in_(post_ids), reviews.c.status == "open", reviews.c.kind.in_(SHOWN_AS_QUEUED)
    )
    rows = connection.execute(query.order_by(reviews.c.content_version))  # of two, the newer content's
    return {row.post_id: Waiting(row.kind, row.deadline, row.content_version) for row in rows}


def count_impressions(connection: Connection, seen: Mapping[str, int]) -> None:
    """Let impressions move what waits: a post that was seen often is expected to be seen often yet.

    Args:
        connection: in a transaction that writes.
        seen: new impressions by post.
    """
    waiting = (reviews.c.status == "open") & (reviews.c.kind != "golden")
    asked: dict[int, str] = {}
    for chunk in chunks(sorted(seen)):
        query = select(reviews.c.review_id, reviews.c.post_id).where(waiting, reviews.c.post_id.in_(chunk))
        asked |= {row.review_id: row.post_id for row in connection.execute(query)}
    for review_id, post_id in sorted(asked.items()):  # in one order, so that no two wait for each other
        expected = reviews.c.impressions + seen[post_id]
        priority = reviews.c.p_harm * reviews.c.severity * expected
        values = {"impressions": expected, "priority": priority}
        connection.execute(update(reviews).where(reviews.c.review_id == review_id).values(values))
