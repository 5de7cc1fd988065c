"""How good reviewers are: by golden items, whose answer is known, and by items that two people judged."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, insert, select, update

from moderation.metrics import cohens_kappa
from moderation.storage.dialect import claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import golden, reviews
from moderation.storage.tables import of_version, same_version
from serve.review.contents import newest_content
from serve.review.models import Agreement, GoldenIn, ReviewerOut

_first = reviews.alias("first")


def put_golden(ledger: Ledger, post_id: str, right: GoldenIn) -> int:
    """Say what the right verdict on a post's newest content is; the content version.

    Raises:
        NotFoundError: the post is unknown.
    """
    with ledger.write() as connection:
        claim(connection, "post", [post_id])
        version = newest_content(connection, post_id).content_version
        same = of_version(golden, post_id, version)
        values = right.model_dump()
        if not connection.execute(update(golden).where(same).values(**values)).rowcount:
            which = {"post_id": post_id, "content_version": version}
            connection.execute(insert(golden).values(**which, **values, created_at=now()))
    return version


def agreement(ledger: Ledger, begin: datetime, end: datetime) -> Agreement:
    """How far second people agreed with first ones, of second looks decided in [begin, end)."""
    query = (
        select(_first.c.verdict.label("one"), reviews.c.verdict.label("other"))
        .join(_first, _first.c.review_id == reviews.c.of_review)
        .where(reviews.c.kind == "second", reviews.c.status == "decided")
        .where(reviews.c.decided_at >= begin, reviews.c.decided_at < end)
    )
    with ledger.read() as connection:
        pairs = [(row.one, row.other) for row in connection.execute(query)]
    same = sum(one == other for one, other in pairs)
    return Agreement(items=len(pairs), agreement=same / len(pairs) if pairs else None, kappa=cohens_kappa(pairs))


def reviewer(ledger: Ledger, reviewer_id: str) -> ReviewerOut:
    """How good a reviewer is; one who decided nothing has no rates."""
    mine = (reviews.c.decided_by == reviewer_id) & (reviews.c.status == "decided")
    same = same_version(golden, reviews)
    met = (
        select(golden.c.verdict.label("right"), reviews.c.verdict.label("said"), func.count().label("items"))
        .join(golden, same)
        .where(mine, reviews.c.kind == "golden")
        .group_by(golden.c.verdict, reviews.c.verdict)
    )
    with ledger.read() as connection:
        decided = connection.execute(select(func.count()).where(mine, reviews.c.kind != "golden")).scalar_one()
        counts = {(row.right, row.said): int(row.items) for row in connection.execute(met)}
    caught, missed = counts.get(("remove", "remove"), 0), counts.get(("remove", "allow"), 0)
    passed, wronged = counts.get(("allow", "allow"), 0), counts.get(("allow", "remove"), 0)
    return ReviewerOut(
        reviewer_id=reviewer_id,
        decided=decided,
        golden_decided=caught + missed + passed + wronged,
        golden_right=caught + passed,
        sensitivity=caught / (caught + missed) if caught + missed else None,
        specificity=passed / (passed + wronged) if passed + wronged else None,
    )
