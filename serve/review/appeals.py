"""Appeals: an author objects to a removal, and somebody else looks again. There is one a removal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError
from moderation.labels import BY_NAME
from moderation.policy import LINK_DEADLINE, Policy
from moderation.review import ReviewItem, ReviewRules, rank, severity_of
from moderation.storage import post_status
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions, appeals, reviews
from moderation.storage.post_status import Removal
from moderation.storage.tables import of_version
from serve.review.contents import Content, newest_content, queue_content
from serve.review.models import AppealIn, AppealOut

_APPEAL = select(*(appeals.c[name] for name in AppealOut.model_fields))


def add(
    ledger: Ledger, post_id: str, appeal: AppealIn, *, policy: Policy, rules: ReviewRules
) -> tuple[AppealOut, bool]:
    """Record an appeal against the removal of a post's newest content, its last one; a second is the first.

    Returns:
        What is recorded, and whether it is new.

    Raises:
        NotFoundError: the post is unknown.
        ConflictError: the post is not removed, or somebody else wrote it.
    """
    with ledger.write() as connection:
        claim(connection, "post", [post_id])
        post = newest_content(connection, post_id)
        if post.author_id != appeal.author_id:
            raise ConflictError(f"post {post_id!r} is not by {appeal.author_id!r}; its author may appeal")
        removal = _removal(connection, post)
        found = _appealed(connection, post, removal)
        fresh = found is None
        if found is None:
            _check_removed(connection, post_id)
            assert removal is not None  # as it stands removed
            review_id = _queue(connection, post, removal, policy, rules)
            values = {"post_id": post_id, "content_version": post.content_version, "reason": appeal.reason}
            values |= {"action_id": removal.action_id}
            values |= {"review_id": review_id, "status": "open", "created_at": now()}
            connection.execute(insert(appeals).values(**values))
            found = _out(connection.execute(_APPEAL.where(appeals.c.action_id == removal.action_id)).one())
    return found, fresh


def of_post(ledger: Ledger, post_id: str) -> list[AppealOut]:
    """A post's appeals, the first first.

    Raises:
        NotFoundError: the post is unknown.
    """
    with ledger.read() as connection:
        newest_content(connection, post_id)
        rows = connection.execute(_APPEAL.where(appeals.c.post_id == post_id).order_by(appeals.c.appeal_id))
        return [_out(row) for row in rows]


def _removal(connection: Connection, post: Content) -> Removal | None:
    """The last removal of a content, if any."""
    theirs = of_version(actions, post.post_id, post.content_version)
    query = select(actions).where(theirs, actions.c.action == "remove").order_by(actions.c.action_id.desc())
    last = connection.execute(query.limit(1)).first()
    return None if last is None else Removal(last.action_id, tuple(last.labels), last.review_id)


def _appealed(connection: Connection, post: Content, removal: Removal | None) -> AppealOut | None:
    """The appeal against a removal, or the one against an earlier removal of the same content that is still open."""
    mine = of_version(appeals, post.post_id, post.content_version)
    against = None if removal is None else removal.action_id
    query = _APPEAL.where(mine, or_(appeals.c.action_id == against, appeals.c.status == "open"))
    found = connection.execute(query.order_by(appeals.c.appeal_id.desc()).limit(1)).first()
    return None if found is None else _out(found)


def _check_removed(connection: Connection, post_id: str) -> None:
    stands = post_status.of(connection, [post_id]).get(post_id)
    if stands is None or stands.state != "removed":
        raise ConflictError(f"post {post_id!r} is {'shown' if stands is None else stands.state}, not removed")


def _queue(connection: Connection, post: Content, removal: Removal, policy: Policy, rules: ReviewRules) -> int:
    """Queue the appeal, in the place of whatever else is asked about the content."""
    same = of_version(reviews, post.post_id, post.content_version)
    waiting = same & (reviews.c.status == "open") & (reviews.c.kind != "golden")
    connection.execute(update(reviews).where(waiting).values(status="dropped"))
    decision = post.decision()
    region_rules = policy.rules(post.region)
    ranked = rank(decision.labels, region_rules)
    removed_for = [name for name in removal.labels if name in BY_NAME]
    labels = tuple(dict.fromkeys([*removed_for, *ranked]))
    item = ReviewItem(
        kind="appeal",
        labels=labels,
        # What is lost while the author waits is what would be seen if they are right.
        p_harm=1 - ranked.get(labels[0], 0.5) if labels else 0.5,
        severity=severity_of(labels, region_rules),
        impressions=rules.expected_in(post.community),
        within=LINK_DEADLINE,
    )
    return queue_content(connection, post, item, language=decision.language.code)


def _out(row: Row[Any]) -> AppealOut:
    return AppealOut.model_validate(row, from_attributes=True)
