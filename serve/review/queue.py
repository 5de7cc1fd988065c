"""The review queue: leases, verdicts, and what follows from a verdict, in one transaction each.

No reviewer is asked about the same content twice. That alone keeps appeals away from who removed, and second looks
away from the first; golden items, which a reviewer meets unknowingly, are apart. Nobody judges what they wrote or
reported.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, Text, exists, insert, or_, select, update
from sqlalchemy import cast as as_type
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.posts import Actor, Decision, Standing
from moderation.review import Kind, ReviewItem, ReviewRules, rank, severity_of
from moderation.storage import labelling, post_status
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, content_of, newest_content, now, same_content
from moderation.storage.people_tables import appeals, exemptions, golden, reviews
from moderation.storage.post_status import Act, Action
from moderation.storage.tables import posts, same_version
from serve.review import reports
from serve.review.interests import check_disinterested, interested
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
        taken: list[Any] = []
        soon = at + timedelta(seconds=rules.overtake_s)
        for order in (
            _free(wanted, at).where(reviews.c.deadline <= soon).order_by(reviews.c.deadline),
            _free(wanted, at).where(reviews.c.deadline > soon).order_by(reviews.c.priority.desc(), reviews.c.review_id),
        ):
            # Skipped where another lease holds the row: that one gets it.
            query = order.limit(max(1, limit - hidden) - len(taken)).with_for_update(skip_locked=True, of=reviews)
            taken += connection.execute(query).all() if len(taken) < max(1, limit - hidden) else []
        ids = [row.review_id for row in taken]
        values = {"leased_by": wanted.reviewer_id, "leased_until": until}
        connection.execute(update(reviews).where(reviews.c.review_id.in_(ids)).values(**values))
        items = [(row.review_id, row) for row in taken]
        room = min(hidden, len(items), limit - len(items))  # among others, or not at all
        for number, row in _golden(connection, wanted, room, until, policy=policy, rules=rules, chance=chance):
            items.insert(chance.randint(0, len(items)), (number, row))
        return _shown(connection, items, until)


def _free(wanted: LeaseIn, at: datetime) -> Select[Any]:
    query = (
        select(reviews)
        .where(reviews.c.status == "open", reviews.c.kind != "golden")
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
        exists().where(
            same_version(_then, _judged),
            same_version(_present, reviews),
            _then.c.content_hash == _present.c.content_hash,
        ),
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
) -> list[tuple[int, Any]]:
    """Lease golden items that the reviewer has not met, so that they look like any that was drawn at random."""
    if room <= 0:
        return []
    same = same_version(_judged, golden)
    met = exists().where(
        same, or_(_judged.c.decided_by == wanted.reviewer_id, _judged.c.leased_by == wanted.reviewer_id)
    )
    leased: list[tuple[int, Any]] = []
    free = ~met & ~interested(wanted.reviewer_id, golden.c.post_id)
    for row in connection.execute(select(golden).where(free).order_by(golden.c.created_at)):
        post = content_of(connection, row.post_id, row.content_version)
        decision = Decision.model_validate_json(post.body, extra="ignore")
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
        about = {"language": decision.language.code, "region": post.region, "community": post.community}
        lease = {"leased_by": wanted.reviewer_id, "leased_until": until}
        number = post_status.queue(
            connection, row.post_id, row.content_version, item, **about, created_at=now(), **lease
        )
        leased.append((number, connection.execute(select(reviews).where(reviews.c.review_id == number)).one()))
        if len(leased) == room:
            break
    return leased


def _shown(connection: Connection, items: Sequence[tuple[int, Any]], until: datetime) -> list[LeasedReview]:
    reported = reports.shown(connection, [row.post_id for _, row in items])
    numbers = [number for number, _ in items]
    said = select(appeals.c.review_id, appeals.c.reason).where(appeals.c.review_id.in_(numbers))
    appealed = {row.review_id: row.reason for row in connection.execute(said)}
    result = []
    for number, row in items:
        post = content_of(connection, row.post_id, row.content_version)
        media = Decision.model_validate_json(post.body, extra="ignore").media
        result.append(
            LeasedReview(
                review_id=number,
                post_id=row.post_id,
                content_version=row.content_version,
                text=post.text,
                media=[MediumShown(kind=medium.kind, sha256=medium.sha256) for medium in media],
                author_id=post.author_id,
                community=row.community,
                region=row.region,
                language=row.language,
                labels=row.labels,
                reports=reported.get(row.post_id, []),
                appeal=appealed.get(number),
                priority=row.priority,
                deadline=row.deadline,
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
        row = connection.execute(select(reviews).where(reviews.c.review_id == review_id).with_for_update()).one()
        if row.status == "decided":
            return _repeated(connection, row, said), False
        _check_lease(row, said.reviewer_id)
        _check_first(connection, row, said.reviewer_id)
        check_disinterested(connection, said.reviewer_id, row.post_id)
        at = now()
        labels = _complete(row, said)
        values: dict[str, Any] = {"verdict": said.verdict, "verdict_labels": labels, "note": said.note}
        values |= {"decided_by": said.reviewer_id, "decided_at": at, "status": "decided"}
        connection.execute(update(reviews).where(reviews.c.review_id == review_id).values(**values))
        if row.kind != "golden":
            _follow(connection, row, said, labels, at, rules, chance)
        return _verdict(connection, review_id), True


def _check_lease(row: Any, reviewer_id: str) -> None:
    if row.leased_by == reviewer_id:
        return  # also after its time, as long as nobody else has leased it since
    holder = "nobody" if row.leased_by is None else f"{row.leased_by!r} until {row.leased_until.isoformat()}"
    raise ConflictError(f"review {row.review_id} is leased by {holder}, not by {reviewer_id!r}")


def _check_first(connection: Connection, row: Any, reviewer_id: str) -> None:
    """Nobody judges the same content twice, as when an appeal came while they held the item before it."""
    content_hash = content_of(connection, row.post_id, row.content_version).content_hash
    versions = same_content(connection, row.post_id, content_hash)
    same = (reviews.c.post_id == row.post_id) & reviews.c.content_version.in_(versions)
    theirs = same & (reviews.c.decided_by == reviewer_id) & (reviews.c.kind != "golden")
    other = connection.execute(select(reviews.c.review_id).where(theirs)).first()
    if other is not None and row.kind != "golden":
        raise ConflictError(f"{reviewer_id!r} has judged this content already, in review {other.review_id}")


def _complete(row: Any, said: VerdictIn) -> dict[str, bool]:
    """What a verdict says of each label: an `allow` denies the labels in question that it does not name."""
    denied = dict.fromkeys(row.labels, False) if said.verdict == "allow" else {}
    return denied | said.labels


def _repeated(connection: Connection, row: Any, said: VerdictIn) -> VerdictOut:
    same = (row.verdict, row.verdict_labels, row.note) == (said.verdict, _complete(row, said), said.note)
    if row.decided_by != said.reviewer_id or not same:
        other = "with another verdict" if row.decided_by == said.reviewer_id else f"by {row.decided_by!r}"
        raise ConflictError(f"review {row.review_id} is decided already, {other}")
    return _verdict(connection, row.review_id)


def _follow(
    connection: Connection,
    row: Any,
    said: VerdictIn,
    labels: dict[str, bool],
    at: datetime,
    rules: ReviewRules,
    chance: random.Random,
) -> None:
    if labels:
        label: dict[str, Any] = {
            "id": f"{labelling.OWN}{row.review_id}",
            "post_id": row.post_id,
            "content_version": row.content_version,
        }
        label |= {"labels": labels, "source": _source(row), "labelled_at": at}
        labelling.insert(connection, [label | {"sampling_probability": row.sampling_probability}])
    if row.status != "open":
        return  # newer content, or an appeal, took its place meanwhile: a label, and no more
    if row.kind == "second":
        if said.verdict != _verdict_of(connection, row.of_review):
            _ask_again(connection, row, "third", at, rules)
        else:
            reports.answer(connection, row.post_id, row.content_version, removed=said.verdict == "remove")
        return
    reports.answer(connection, row.post_id, row.content_version, removed=said.verdict == "remove")
    _act(connection, row, said, labels, at)
    if row.kind == "appeal":
        _answer_appeal(connection, row, said, at)
    elif row.kind != "third" and chance.random() < rules.second_share:
        _ask_again(connection, row, "second", at, rules)


def _source(row: Any) -> str:
    if row.kind == "appeal":
        return "appeal"
    return "review" if row.sampling_probability is None else "audit"


def _act(connection: Connection, row: Any, said: VerdictIn, labels: Mapping[str, bool], at: datetime) -> None:
    """Remove, show or show again, where the content is still the post's newest and does not stand so already."""
    post = newest_content(connection, row.post_id)
    stands = post_status.of(connection, [row.post_id]).get(row.post_id)
    state = "shown" if stands is None else stands.state
    if post.content_version != row.content_version:
        if row.kind == "appeal" and said.verdict == "allow" and state == "shown":
            # For the statement of reasons; where newer content is out of sight it would seem to be back.
            back = Act(row.post_id, row.content_version, "restore", "appeal", (), at, post.author_id, row.review_id)
            post_status.act(connection, [back])
        return
    wanted = "removed" if said.verdict == "remove" else "shown"
    if state == wanted and row.kind not in ("flagged", "reported"):
        return  # confirmed: nothing changes, and nobody waited to hear it
    action: Action = "remove" if wanted == "removed" else "restore" if state == "removed" else "allow"
    actor: Actor = "appeal" if row.kind == "appeal" else "review"
    names = tuple(name for name, true in labels.items() if true)
    done = Act(row.post_id, row.content_version, action, actor, names, at, post.author_id, row.review_id)
    post_status.act(connection, [done])


def _answer_appeal(connection: Connection, row: Any, said: VerdictIn, at: datetime) -> None:
    upheld = said.verdict == "allow"
    mine = appeals.c.review_id == row.review_id
    status = "upheld" if upheld else "rejected"
    connection.execute(update(appeals).where(mine).values(status=status, decided_at=at))
    if not upheld:
        return
    appeal_id = connection.execute(select(appeals.c.appeal_id).where(mine)).scalar_one()
    content = content_of(connection, row.post_id, row.content_version)
    if not post_status.exempt(connection, [content.content_hash]):
        values = {"content_hash": content.content_hash, "appeal_id": appeal_id, "created_at": at}
        connection.execute(insert(exemptions).values(**values))
    post_status.take_back_strike(connection, row.post_id, row.content_version, at)


def _ask_again(connection: Connection, row: Any, kind: Kind, at: datetime, rules: ReviewRules) -> None:
    within = timedelta(hours=rules.sampled_deadline_h)
    item = ReviewItem(kind, tuple(row.labels), row.p_harm, row.severity, row.impressions, within)
    about = {"language": row.language, "region": row.region, "community": row.community}
    of_review = row.review_id if kind == "second" else row.of_review
    post_status.queue(connection, row.post_id, row.content_version, item, **about, created_at=at, of_review=of_review)


def _verdict_of(connection: Connection, review_id: int) -> str:
    query = select(reviews.c.verdict).where(reviews.c.review_id == review_id)
    return cast(str, connection.execute(query).scalar_one())


def _verdict(connection: Connection, review_id: int) -> VerdictOut:
    row = connection.execute(select(reviews).where(reviews.c.review_id == review_id)).one()
    stands = post_status.of(connection, [row.post_id]).get(row.post_id)
    return VerdictOut(
        review_id=row.review_id,
        post_id=row.post_id,
        content_version=row.content_version,
        reviewer_id=row.decided_by,
        verdict=row.verdict,
        labels=row.verdict_labels,
        note=row.note,
        decided_at=row.decided_at,
        standing=stands or Standing(state="shown"),
    )
