"""The review queue: leases, verdicts, and what follows from a verdict, in one transaction each.

No reviewer is asked about the same content twice. That alone keeps appeals away from who removed, and second looks
away from the first; golden items, which a reviewer meets unknowingly, are apart. Nobody judges what they wrote or
reported.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Select, Text, exists, insert, or_, select, update
from sqlalchemy import cast as as_type
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.posts import Actor, LabelIn, Standing
from moderation.review import Kind, ReviewItem, ReviewRules, rank, severity_of
from moderation.storage import labelling, post_status
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import appeals, exemptions, golden, reviews
from moderation.storage.post_status import Act, Action
from moderation.storage.tables import posts, same_version
from serve.review import items, reports
from serve.review.contents import content_of, newest_content, queue_content, same_content
from serve.review.interests import check_disinterested, interested
from serve.review.items import Review
from serve.review.models import LeasedReview, LeaseIn, MediumShown, VerdictIn, VerdictOut

_judged = reviews.alias("judged")
_then, _present = posts.alias("judged_post"), posts.alias("present_post")


def lease(
    ledger: Ledger, wanted: LeaseIn, *, policy: Policy, rules: ReviewRules, chance: random.Random
) -> list[LeasedReview]:
    """Lease the most pressing items to a reviewer, for `rules.lease_s`.

    Those whose deadline is near come first, the nearest first; then by priority. Golden items are mixed in.

    Args:
        ledger: of the queue.
        wanted: by whom, how many, of which labels and languages.
        policy: its prevalences weigh the scores of golden items.
        rules: how review works.
        chance: where golden items are put.
    """
    at = now()
    until = at + timedelta(seconds=rules.lease_s)
    limit = min(wanted.limit, rules.max_lease)
    hidden = sum(chance.random() < rules.golden_share for _ in range(limit))
    with ledger.write() as connection:
        taken: list[Review] = []
        soon = at + timedelta(seconds=rules.overtake_s)
        for order in (
            _free(wanted, at).where(reviews.c.deadline <= soon).order_by(reviews.c.deadline),
            _free(wanted, at).where(reviews.c.deadline > soon).order_by(reviews.c.priority.desc(), reviews.c.review_id),
        ):
            # Skipped where another lease holds the row: that one gets it.
            query = order.limit(max(1, limit - hidden) - len(taken)).with_for_update(skip_locked=True, of=reviews)
            taken += items.read(connection, query) if len(taken) < max(1, limit - hidden) else []
        ids = [review.review_id for review in taken]
        values = {"leased_by": wanted.reviewer_id, "leased_until": until}
        connection.execute(update(reviews).where(reviews.c.review_id.in_(ids)).values(**values))
        room = min(hidden, len(taken), limit - len(taken))  # among others, or not at all
        for review in _golden(connection, wanted, room, until, policy=policy, rules=rules, chance=chance):
            taken.insert(chance.randint(0, len(taken)), review)
        return _leased_items(connection, taken, until)


def _free(wanted: LeaseIn, at: datetime) -> Select[Any]:
    query = (
        items.REVIEW.where(reviews.c.status == "open", reviews.c.kind != "golden")
        .where(or_(reviews.c.leased_until.is_(None), reviews.c.leased_until < at))
        .where(~interested(wanted.reviewer_id, reviews.c.post_id))
        .where(
            ~exists().where(
                _judged.c.post_id == reviews.c.post_id,
                _same_content(),
                or_(
                    _judged.c.decided_by == wanted.reviewer_id,
                    (_judged.c.leased_by == wanted.reviewer_id) & (_judged.c.status == "dropped"),
                ),
            )
        )
    )
    if wanted.languages is not None:
        query = query.where(reviews.c.language.in_(wanted.languages))
    if wanted.labels is not None:
        written = as_type(reviews.c.labels, Text)
        query = query.where(or_(*(written.contains(f'"{name}"') for name in wanted.labels)))
    return query


def _same_content() -> ColumnElement[bool]:
    """Whether what was judged of a post is the content in question; that may have come back as a later version."""
    return or_(
        same_version(_judged, reviews),
        exists()
        .where(
            same_version(_then, _judged),
            same_version(_present, reviews),
            _then.c.content_hash == _present.c.content_hash,
        )
        .correlate(_judged, reviews),
    )


def _golden(
    connection: Connection,
    wanted: LeaseIn,
    room: int,
    until: datetime,
    *,
    policy: Policy,
    rules: ReviewRules,
    chance: random.Random,
) -> list[Review]:
    """Lease golden items that the reviewer has not met, so that they look like any that was drawn at random."""
    if room <= 0:
        return []
    met = exists().where(
        same_version(_judged, golden),
        or_(_judged.c.decided_by == wanted.reviewer_id, _judged.c.leased_by == wanted.reviewer_id),
    )
    leased: list[Review] = []
    free = ~met & ~interested(wanted.reviewer_id, golden.c.post_id)
    for row in connection.execute(select(golden).where(free).order_by(golden.c.created_at)):
        post = content_of(connection, row.post_id, row.content_version)
        decision = post.decision()
        region_rules = policy.rules(post.region)
        ranked = rank(decision.labels, region_rules)
        names = tuple(ranked)
        if wanted.languages is not None and decision.language.code not in wanted.languages:
            continue
        if wanted.labels is not None and not set(wanted.labels) & set(names):
            continue
        within = timedelta(hours=rules.sampled_deadline_h * chance.uniform(0.05, 1))
        p_harm, expected = max(ranked.values(), default=0.0), rules.expected_in(post.community)
        item = ReviewItem("golden", names, p_harm, severity_of(names, region_rules), expected, within)
        number = queue_content(
            connection,
            post,
            item,
            language=decision.language.code,
            leased_by=wanted.reviewer_id,
            leased_until=until,
        )
        leased.append(items.read_one(connection, number))
        if len(leased) == room:
            break
    return leased


def _leased_items(connection: Connection, leased: Sequence[Review], until: datetime) -> list[LeasedReview]:
    reported = reports.reports_of(connection, [review.post_id for review in leased])
    numbers = [review.review_id for review in leased]
    said = select(appeals.c.review_id, appeals.c.reason).where(appeals.c.review_id.in_(numbers))
    appealed = {row.review_id: row.reason for row in connection.execute(said)}
    result = []
    for review in leased:
        post = content_of(connection, review.post_id, review.content_version)
        media = post.decision().media
        result.append(
            LeasedReview(
                review_id=review.review_id,
                post_id=review.post_id,
                content_version=review.content_version,
                text=post.text,
                media=[MediumShown(kind=medium.kind, sha256=medium.sha256) for medium in media],
                author_id=post.author_id,
                community=review.community,
                region=review.region,
                language=review.language,
                labels=review.labels,
                reports=reported.get(review.post_id, []),
                appeal=appealed.get(review.review_id),
                priority=review.priority,
                deadline=review.deadline,
                leased_until=until,
            )
        )
    return result


def decide(
    ledger: Ledger, review_id: int, said: VerdictIn, *, rules: ReviewRules, chance: random.Random
) -> tuple[VerdictOut, bool]:
    """Record a verdict and everything that follows from it: action, strike, label, reporters' record, second look.

    Returns:
        What is recorded, and whether it is new: the same verdict of the same reviewer is recorded once.

    Raises:
        NotFoundError: there is no such item.
        ConflictError: somebody else decided it or holds it, or this reviewer said something else, never leased it, or
            wrote or reported the post.
    """
    with ledger.write() as connection:
        first = connection.execute(select(reviews.c.post_id).where(reviews.c.review_id == review_id)).first()
        if first is None:
            raise NotFoundError(f"review {review_id} is not recorded")
        claim(connection, "post", [first.post_id])
        (review,) = items.read(connection, items.REVIEW.where(reviews.c.review_id == review_id).with_for_update())
        if review.status == "decided":
            return _repeated(connection, review, said), False
        _check_lease(review, said.reviewer_id)
        _check_first(connection, review, said.reviewer_id)
        check_disinterested(connection, said.reviewer_id, review.post_id)
        at = now()
        labels = _complete(review, said)
        values: dict[str, object] = {"verdict": said.verdict, "verdict_labels": labels, "note": said.note}
        values |= {"decided_by": said.reviewer_id, "decided_at": at, "status": "decided"}
        connection.execute(update(reviews).where(reviews.c.review_id == review_id).values(**values))
        if review.kind != "golden":
            _follow(connection, review, said, labels, at, rules, chance)
        return _verdict(connection, review_id), True


def _check_lease(review: Review, reviewer_id: str) -> None:
    if review.leased_by == reviewer_id:
        return  # also after its time, as long as nobody else has leased it since
    until = review.leased_until
    holder = "nobody" if until is None else f"{review.leased_by!r} until {until.isoformat()}"
    raise ConflictError(f"review {review.review_id} is leased by {holder}, not by {reviewer_id!r}")


def _check_first(connection: Connection, review: Review, reviewer_id: str) -> None:
    """Nobody judges the same content twice, as when an appeal came while they held the item before it."""
    content_hash = content_of(connection, review.post_id, review.content_version).content_hash
    versions = same_content(connection, review.post_id, content_hash)
    same = (reviews.c.post_id == review.post_id) & reviews.c.content_version.in_(versions)
    theirs = same & (reviews.c.decided_by == reviewer_id) & (reviews.c.kind != "golden")
    other = connection.execute(select(reviews.c.review_id).where(theirs)).first()
    if other is not None and review.kind != "golden":
        raise ConflictError(f"{reviewer_id!r} has judged this content already, in review {other.review_id}")


def _complete(review: Review, said: VerdictIn) -> dict[str, bool]:
    """What a verdict says of each label: an `allow` denies the labels in question that it does not name."""
    denied = dict.fromkeys(review.labels, False) if said.verdict == "allow" else {}
    return denied | said.labels


def _repeated(connection: Connection, review: Review, said: VerdictIn) -> VerdictOut:
    same = (review.verdict, review.verdict_labels, review.note) == (said.verdict, _complete(review, said), said.note)
    if review.decided_by != said.reviewer_id or not same:
        other = "with another verdict" if review.decided_by == said.reviewer_id else f"by {review.decided_by!r}"
        raise ConflictError(f"review {review.review_id} is decided already, {other}")
    return _verdict(connection, review.review_id)


def _follow(
    connection: Connection,
    review: Review,
    said: VerdictIn,
    labels: dict[str, bool],
    at: datetime,
    rules: ReviewRules,
    chance: random.Random,
) -> None:
    if labels:
        label = LabelIn(
            id=f"{labelling.OWN}{review.review_id}",
            post_id=review.post_id,
            content_version=review.content_version,
            labels=labels,
            source=_source(review),
            labelled_at=at,
            sampling_probability=review.sampling_probability,
        )
        labelling.insert(connection, [label])
    if review.status != "open":
        return  # newer content, or an appeal, took its place meanwhile: a label, and no more
    if review.kind == "second":
        if said.verdict != _first_verdict(connection, review):
            _ask_again(connection, review, "third", at, rules)
        else:
            reports.answer(connection, review.post_id, review.content_version, removed=said.verdict == "remove")
        return
    reports.answer(connection, review.post_id, review.content_version, removed=said.verdict == "remove")
    _act(connection, review, said, labels, at)
    if review.kind == "appeal":
        _answer_appeal(connection, review, said, at)
    elif review.kind != "third" and chance.random() < rules.second_share:
        _ask_again(connection, review, "second", at, rules)


def _source(review: Review) -> Literal["appeal", "review", "audit"]:
    if review.kind == "appeal":
        return "appeal"
    return "review" if review.sampling_probability is None else "audit"


def _act(connection: Connection, review: Review, said: VerdictIn, labels: Mapping[str, bool], at: datetime) -> None:
    """Remove, show or show again, where the content is still the post's newest and does not stand so already."""
    post = newest_content(connection, review.post_id)
    stands = post_status.of(connection, [review.post_id]).get(review.post_id)
    state = "shown" if stands is None else stands.state
    if post.content_version != review.content_version:
        if review.kind == "appeal" and said.verdict == "allow" and state == "shown":
            # For the statement of reasons; where newer content is out of sight it would seem to be back.
            back = Act(
                review.post_id, review.content_version, "restore", "appeal", (), at, post.author_id, review.review_id
            )
            post_status.act(connection, [back])
        return
    wanted = "removed" if said.verdict == "remove" else "shown"
    if state == wanted and review.kind not in ("flagged", "reported"):
        return  # confirmed: nothing changes, and nobody waited to hear it
    action: Action = "remove" if wanted == "removed" else "restore" if state == "removed" else "allow"
    actor: Actor = "appeal" if review.kind == "appeal" else "review"
    names = tuple(name for name, true in labels.items() if true)
    done = Act(review.post_id, review.content_version, action, actor, names, at, post.author_id, review.review_id)
    post_status.act(connection, [done])


def _answer_appeal(connection: Connection, review: Review, said: VerdictIn, at: datetime) -> None:
    upheld = said.verdict == "allow"
    mine = appeals.c.review_id == review.review_id
    status = "upheld" if upheld else "rejected"
    connection.execute(update(appeals).where(mine).values(status=status, decided_at=at))
    if not upheld:
        return
    appeal_id = connection.execute(select(appeals.c.appeal_id).where(mine)).scalar_one()
    content = content_of(connection, review.post_id, review.content_version)
    if not post_status.exempt(connection, [content.content_hash]):
        values = {"content_hash": content.content_hash, "appeal_id": appeal_id, "created_at": at}
        connection.execute(insert(exemptions).values(**values))
    post_status.take_back_strike(connection, review.post_id, review.content_version, at)


def _ask_again(connection: Connection, review: Review, kind: Kind, at: datetime, rules: ReviewRules) -> None:
    within = timedelta(hours=rules.sampled_deadline_h)
    item = ReviewItem(kind, tuple(review.labels), review.p_harm, review.severity, review.impressions, within)
    post_status.queue(
        connection,
        review.post_id,
        review.content_version,
        item,
        language=review.language,
        region=review.region,
        community=review.community,
        created_at=at,
        of_review=review.review_id if kind == "second" else review.of_review,
    )


def _first_verdict(connection: Connection, second: Review) -> str:
    query = select(reviews.c.verdict).where(reviews.c.review_id == second.of_review)
    return cast(str, connection.execute(query).scalar_one())


def _verdict(connection: Connection, review_id: int) -> VerdictOut:
    review = items.read_one(connection, review_id)
    assert review.verdict is not None, "a verdict is shown of what is decided"
    assert review.decided_by is not None
    assert review.decided_at is not None
    stands = post_status.of(connection, [review.post_id]).get(review.post_id)
    return VerdictOut(
        review_id=review.review_id,
        post_id=review.post_id,
        content_version=review.content_version,
        reviewer_id=review.decided_by,
        verdict=review.verdict,
        labels=review.verdict_labels or {},
        note=review.note or "",
        decided_at=review.decided_at,
        standing=stands or Standing(state="shown"),
    )
