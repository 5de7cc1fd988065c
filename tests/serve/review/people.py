"""What people do in these tests: they report, lease, judge and appeal; and what the ledger then holds."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update

from moderation.policy import Policy
from moderation.posts import Decision, ReviewDecision
from moderation.review import ReviewItem, ReviewRules
from moderation.settings import DEPLOYMENTS
from moderation.storage.ledger import Entry, Ledger, now
from moderation.storage.people_tables import actions
from moderation.storage.people_tables import reporters as reporter_rows
from moderation.storage.people_tables import reviews as review_rows
from serve.review import appeals, reports
from serve.review import queue as review_queue
from serve.review.models import AppealIn, LeaseIn, ReportIn, VerdictIn
from tests.moderation.storage.rows import an_entry, record

RULES = ReviewRules(second_share=0, golden_share=0)
NEVER = random.Random(0)
POLICY = Policy.load(DEPLOYMENTS / "policies" / "default.yaml")
DAY = timedelta(hours=24)


def decided(entry: Entry, decision: str, mode: str = "reactive") -> Entry:
    """The entry with another decision, queued where that is `review`."""
    queued = decision == "review"
    review = ReviewDecision(queued=queued, deadline=entry.decision.decided_at + DAY if queued else None)
    changed = entry.decision.model_copy(update={"decision": decision, "mode": mode, "review": review})
    return replace(entry, decision=changed)


def item(p_harm: float = 0.5, *, kind: Any = "flagged", within: timedelta = DAY, **changes: Any) -> ReviewItem:
    values: dict[str, Any] = {"labels": ("abuse",), "severity": 3.0, "impressions": 100.0}
    return ReviewItem(kind, p_harm=p_harm, within=within, **(values | changes))


def flagged(ledger: Ledger, post_id: str = "p-1", p_harm: float = 0.5, **changes: Any) -> None:
    """A post that the policy queued."""
    entry = decided(an_entry(post_id, flagged={"abuse": True}, author=f"author-of-{post_id}"), "review")
    entry = replace(entry, decision=entry.decision.model_copy(update={"decided_at": now()}))
    record(ledger, replace(entry, item=item(p_harm, **changes)))


def removed(ledger: Ledger, post_id: str = "p-1", **changes: Any) -> Entry:
    """A post that the model removed."""
    entry = decided(an_entry(post_id, flagged={"abuse": True}, **changes), "remove")
    record(ledger, entry)
    return entry


def lease(ledger: Ledger, reviewer: str = "mod-1", limit: int = 10, **wanted: Any) -> list[int]:
    request = LeaseIn(reviewer_id=reviewer, limit=limit, **wanted)
    return [got.review_id for got in review_queue.lease(ledger, request, policy=POLICY, rules=RULES, chance=NEVER)]


def verdict(reviewer: str = "mod-1", said: Any = "remove", note: str = "", **labels: bool) -> VerdictIn:
    return VerdictIn(
        reviewer_id=reviewer, verdict=said, labels=labels or ({"abuse": True} if said == "remove" else {}), note=note
    )


def decide(ledger: Ledger, review_id: int, said: VerdictIn, rules: ReviewRules = RULES) -> Any:
    return review_queue.decide(ledger, review_id, said, rules=rules, chance=NEVER)[0]


def report(
    ledger: Ledger, reporter: str, post_id: str = "p-1", label: str | None = "abuse", policy: Policy = POLICY
) -> Any:
    body = ReportIn(reporter_id=reporter, reason="it is rude", label=label)
    return reports.add(ledger, post_id, body, policy=policy, rules=RULES)


def appeal(ledger: Ledger, post_id: str = "p-1", author: str = "u-1", policy: Policy = POLICY) -> Any:
    body = AppealIn(author_id=author, reason="I was quoting")
    return appeals.add(ledger, post_id, body, policy=policy, rules=RULES)


def newest(ledger: Ledger, post_id: str = "p-1") -> Decision:
    return Decision.model_validate_json(ledger.newest([post_id])[post_id].body)


def rows(ledger: Ledger, query: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(query).all())


def count(ledger: Ledger, table: Any) -> int:
    return int(rows(ledger, select(func.count()).select_from(table))[0][0])


def acted(ledger: Ledger, post_id: str = "p-1") -> list[tuple[str, str]]:
    query = select(actions.c.action, actions.c.actor).where(actions.c.post_id == post_id).order_by(actions.c.action_id)
    return [tuple(row) for row in rows(ledger, query)]


def last_day(ledger: Ledger) -> date:
    """The day of the last action: today, unless the test ran into midnight."""
    ((last,),) = rows(ledger, select(func.max(actions.c.acted_at)))
    return last.date()  # type: ignore[no-any-return]  # rows of any kind


def expire(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(update(review_rows).values(leased_until=now() - timedelta(seconds=1)))


def twice(ledger: Ledger) -> int:
    """An item decided by mod-1 (remove), with a second look queued."""
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict(), ReviewRules(second_share=1))
    assert lease(ledger, "mod-1") == []
    (second,) = lease(ledger, "mod-2")
    return second


def golden_lease(ledger: Ledger, reviewer: str, rules: ReviewRules, **wanted: Any) -> list[Any]:
    request = LeaseIn(reviewer_id=reviewer, **wanted)
    return review_queue.lease(ledger, request, policy=POLICY, rules=rules, chance=random.Random(1))


def of_record(ledger: Ledger, *reporters: str, upheld: int = 8) -> None:
    """Reporters who were right that often."""
    with ledger.write() as connection:
        for reporter in reporters:
            values = {"reporter_id": reporter, "upheld": upheld, "dismissed": 0, "muted": False}
            connection.execute(insert(reporter_rows).values(**values))


def last_action(ledger: Ledger) -> int:
    return int(rows(ledger, select(func.max(actions.c.action_id)))[0][0])


def weighed(ledger: Ledger) -> tuple[float, float]:
    """Severity of the one open item, and hours to its deadline, to the tenth."""
    columns = (review_rows.c.severity, review_rows.c.deadline)
    (row,) = rows(ledger, select(*columns).where(review_rows.c.status == "open"))
    return row.severity, round((row.deadline - now()) / timedelta(hours=1), 1)
