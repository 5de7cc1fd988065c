"""Reports, the review queue, verdicts, appeals: what people say, and what follows, on both databases."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import func, insert, select, text, update

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.posts import Decision, ReviewDecision, Standing
from moderation.review import ReviewItem, ReviewRules
from moderation.settings import DEPLOYMENTS
from moderation.storage import post_status
from moderation.storage.ledger import Entry, Ledger, now
from moderation.storage.people_tables import actions, exemptions, strikes
from moderation.storage.people_tables import reporters as reporter_rows
from moderation.storage.people_tables import reviews as review_rows
from moderation.storage.tables import labels as label_rows
from serve.posts import due as rejudging
from serve.review import appeals, reports, reviewers
from serve.review import queue as review_queue
from serve.review.models import AppealIn, GoldenIn, LeaseIn, ReportIn, VerdictIn
from serve.statements import rows as statement_rows
from tests.fresh import fresh_ledger
from tests.moderation.storage.rows import a_label, an_entry, at, record, say

RULES = ReviewRules(second_share=0, golden_share=0)
NEVER = random.Random(0)
POLICY = Policy.load(DEPLOYMENTS / "policies" / "default.yaml")
DAY = timedelta(hours=24)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    fresh = request.param == "sqlite"
    made = fresh_ledger(tmp_path / "ledger.db") if fresh else Ledger(request.getfixturevalue("postgres_ledger"))
    yield made
    made.close()


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


# What a decision does.


@pytest.mark.parametrize(
    ("decision", "mode", "expected"),
    [
        ("allow", "reactive", []),
        ("review", "reactive", []),
        ("review", "proactive", [("hold", "model")]),
        ("remove", "reactive", [("remove", "model")]),
        ("remove", "proactive", [("remove", "model")]),
    ],
)
def test_a_decision_is_an_action_where_it_changes_what_is_shown(
    ledger: Ledger, decision: str, mode: str, expected: list[tuple[str, str]]
) -> None:
    record(ledger, decided(an_entry(), decision, mode))
    assert acted(ledger) == expected
    assert count(ledger, strikes) == (decision == "remove")


def test_a_repeated_decision_acts_once(ledger: Ledger) -> None:
    entry = removed(ledger)
    assert not record(ledger, entry).fresh
    assert acted(ledger) == [("remove", "model")]


@pytest.mark.parametrize("first", ["remove", "hold"])
def test_newer_content_is_judged_by_itself(ledger: Ledger, first: str) -> None:
    record(ledger, decided(an_entry(), "remove" if first == "remove" else "review", "proactive"))
    record(ledger, an_entry(text="sorry", minutes=5))
    assert acted(ledger) == [(first, "model"), ("allow", "model")]


def test_newer_content_takes_the_place_of_older_in_the_queue(ledger: Ledger) -> None:
    flagged(ledger)
    record(ledger, an_entry(text="sorry", minutes=5, author="author-of-p-1"))
    assert lease(ledger) == []


def test_what_nobody_acted_on_is_answered_as_it_was_recorded(ledger: Ledger) -> None:
    recorded = record(ledger, decided(an_entry(), "remove"))
    assert ledger.newest(["p-1"])["p-1"].body == recorded.body


# Leases.


def test_the_most_harm_comes_first(ledger: Ledger) -> None:
    for post_id, p_harm in (("p-1", 0.2), ("p-2", 0.9), ("p-3", 0.5)):
        flagged(ledger, post_id, p_harm)
    got = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert [leased.post_id for leased in got] == ["p-2", "p-3", "p-1"]
    assert got[0].priority == pytest.approx(0.9 * 3 * 100)
    assert got[0].text == "the tomatoes are ripe"


def test_severity_and_impressions_weigh_as_well(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.9)
    flagged(ledger, "p-2", 0.4, severity=10.0)
    flagged(ledger, "p-3", 0.1, impressions=100_000.0)
    got = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert [leased.post_id for leased in got] == ["p-3", "p-2", "p-1"]


def test_a_near_deadline_overtakes(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.9)
    flagged(ledger, "p-2", 0.1, within=timedelta(minutes=20))
    flagged(ledger, "p-3", 0.1, within=timedelta(minutes=10))
    got = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1", limit=2), policy=POLICY, rules=RULES, chance=NEVER)
    assert [leased.post_id for leased in got] == ["p-3", "p-2"]


def test_two_reviewers_never_get_one_item(ledger: Ledger) -> None:
    for number in range(30):
        flagged(ledger, f"p-{number}")
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda number: lease(ledger, f"mod-{number}", 5), range(6)))
    leased = [review_id for ids in got for review_id in ids]
    assert len(leased) == len(set(leased)) == 30


def test_an_item_is_not_leased_again_meanwhile(ledger: Ledger) -> None:
    flagged(ledger)
    assert len(lease(ledger)) == 1
    assert lease(ledger) == lease(ledger, "mod-2") == []


def expire(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(update(review_rows).values(leased_until=now() - timedelta(seconds=1)))


def test_a_lost_lease_returns(ledger: Ledger) -> None:
    flagged(ledger)
    (first,) = lease(ledger)
    expire(ledger)
    assert lease(ledger, "mod-2") == [first]
    with pytest.raises(ConflictError, match="leased by 'mod-2'"):
        decide(ledger, first, verdict("mod-1"))


def test_a_verdict_after_the_lease_counts_as_long_as_nobody_else_has_it(ledger: Ledger) -> None:
    flagged(ledger)
    (first,) = lease(ledger)
    expire(ledger)
    assert decide(ledger, first, verdict()).verdict == "remove"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"labels": ["abuse"]}, 1),
        ({"labels": ["hate"]}, 0),
        ({"labels": ["hate", "abuse"]}, 1),
        ({"languages": ["en"]}, 1),
        ({"languages": ["de"]}, 0),
        ({"languages": ["de"], "labels": ["abuse"]}, 0),
    ],
)
def test_a_reviewer_may_choose(ledger: Ledger, wanted: dict[str, Any], expected: int) -> None:
    flagged(ledger)
    assert len(lease(ledger, **wanted)) == expected


# Verdicts.


def test_a_removal_acts_labels_and_strikes(ledger: Ledger) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    out = decide(ledger, review_id, verdict(hate=True, abuse=False))
    assert out.standing.state == "removed"
    assert out.standing.actor == "review"
    assert acted(ledger) == [("remove", "review")]
    (label,) = rows(ledger, select(label_rows))
    assert (label.id, label.source, label.labels) == (f"review:{review_id}", "review", {"hate": True, "abuse": False})
    assert rows(ledger, select(strikes.c.author_id)) == [("author-of-p-1",)]
    decision = newest(ledger)
    assert (decision.decision, decision.review.queued) == ("remove", False)


def test_an_allow_denies_what_was_in_question(ledger: Ledger) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    assert decide(ledger, review_id, verdict(said="allow")).labels == {"abuse": False}
    assert acted(ledger) == [("allow", "review")]
    assert newest(ledger).decision == "allow"
    assert not newest(ledger).review.queued
    assert count(ledger, strikes) == 0


def test_the_history_tells_what_the_model_decided(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict())
    (recorded,) = ledger.history("p-1")
    assert Decision.model_validate_json(recorded.body).decision == "review"


def test_the_same_verdict_twice_is_one(ledger: Ledger) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    first, fresh = review_queue.decide(ledger, review_id, verdict(), rules=RULES, chance=NEVER)
    again, repeated = review_queue.decide(ledger, review_id, verdict(), rules=RULES, chance=NEVER)
    assert (first, fresh, repeated) == (again, True, False)
    assert count(ledger, label_rows) == count(ledger, actions) == 1


@pytest.mark.parametrize("other", [verdict(said="allow"), verdict("mod-2"), verdict(note="x"), verdict(hate=True)])
def test_another_verdict_on_a_decided_item_is_a_conflict(ledger: Ledger, other: VerdictIn) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    decide(ledger, review_id, verdict())
    with pytest.raises(ConflictError, match="decided already"):
        decide(ledger, review_id, other)
    assert count(ledger, label_rows) == 1


def test_many_send_the_same_verdict_at_once(ledger: Ledger) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    with ThreadPoolExecutor(6) as pool:
        outs = list(pool.map(lambda _: decide(ledger, review_id, verdict()), range(12)))
    assert all(out == outs[0] for out in outs)
    assert count(ledger, label_rows) == count(ledger, actions) == 1


def test_an_item_that_was_never_leased_is_not_decided(ledger: Ledger) -> None:
    flagged(ledger)
    with pytest.raises(ConflictError, match="leased by nobody"):
        decide(ledger, 1, verdict())


def test_an_unknown_item(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="review 7"):
        decide(ledger, 7, verdict())


def test_a_verdict_on_content_that_was_edited_meanwhile_is_a_label_and_no_action(ledger: Ledger) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    record(ledger, an_entry(text="sorry", minutes=5, author="author-of-p-1"))
    assert decide(ledger, review_id, verdict()).standing.state == "shown"
    assert acted(ledger) == []
    (label,) = rows(ledger, select(label_rows))
    assert label.content_version == 1


# Drawn at random.


def test_a_drawn_post_s_label_keeps_its_probability(ledger: Ledger) -> None:
    record(ledger, replace(an_entry(), item=item(0.01, kind="sampled", sampling_probability=0.02)))
    assert not newest(ledger).review.queued
    (review_id,) = lease(ledger)
    decide(ledger, review_id, verdict(said="allow"))
    (label,) = rows(ledger, select(label_rows))
    assert (label.source, label.sampling_probability) == ("audit", 0.02)
    assert acted(ledger) == []


def test_a_drawn_post_that_is_harmful_is_removed(ledger: Ledger) -> None:
    record(ledger, replace(an_entry(), item=item(0.01, kind="sampled", sampling_probability=0.02)))
    decide(ledger, lease(ledger)[0], verdict())
    assert acted(ledger) == [("remove", "review")]


@pytest.mark.parametrize(("said", "after"), [("remove", []), ("allow", [("restore", "review")])])
def test_a_drawn_removal(ledger: Ledger, said: str, after: list[tuple[str, str]]) -> None:
    entry = decided(an_entry(flagged={"abuse": True}), "remove")
    record(ledger, replace(entry, item=item(0.9, kind="sampled", sampling_probability=0.1)))
    decide(ledger, lease(ledger)[0], verdict(said=said))
    assert acted(ledger) == [("remove", "model"), *after]
    (strike,) = rows(ledger, select(strikes))
    assert (strike.taken_back_at is None) == (said == "remove")


# A second look, a third, golden items.


def twice(ledger: Ledger) -> int:
    """An item decided by mod-1 (remove), with a second look queued."""
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict(), ReviewRules(second_share=1))
    assert lease(ledger, "mod-1") == []
    (second,) = lease(ledger, "mod-2")
    return second


def test_a_second_person_who_agrees_changes_nothing(ledger: Ledger) -> None:
    decide(ledger, twice(ledger), verdict("mod-2"))
    assert acted(ledger) == [("remove", "review")]
    assert lease(ledger, "mod-3") == []
    found = reviewers.agreement(ledger, at(0), now() + DAY)
    assert (found.items, found.agreement, found.kappa) == (1, 1.0, None)


def test_where_two_differ_a_third_decides(ledger: Ledger) -> None:
    decide(ledger, twice(ledger), verdict("mod-2", "allow"))
    assert acted(ledger) == [("remove", "review")]
    assert lease(ledger, "mod-1") == lease(ledger, "mod-2") == []
    (third,) = lease(ledger, "mod-3")
    decide(ledger, third, verdict("mod-3", "allow"), ReviewRules(second_share=1))
    assert acted(ledger) == [("remove", "review"), ("restore", "review")]
    assert lease(ledger, "mod-4") == []
    assert reviewers.agreement(ledger, at(0), now() + DAY).agreement == 0


def golden_lease(ledger: Ledger, reviewer: str, rules: ReviewRules, **wanted: Any) -> list[Any]:
    request = LeaseIn(reviewer_id=reviewer, **wanted)
    return review_queue.lease(ledger, request, policy=POLICY, rules=rules, chance=random.Random(1))


def test_golden_items_measure_a_reviewer_and_change_nothing(ledger: Ledger) -> None:
    record(ledger, an_entry("p-1"))
    record(ledger, an_entry("p-2", text="other"))
    reviewers.put_golden(ledger, "p-1", GoldenIn(verdict="remove", labels={"abuse": True}))
    reviewers.put_golden(ledger, "p-2", GoldenIn(verdict="allow", labels={"abuse": False}))
    for number in (3, 4, 5):
        flagged(ledger, f"p-{number}")
    rules = ReviewRules(golden_share=1, second_share=0)
    got = [leased for _ in range(3) for leased in golden_lease(ledger, "mod-1", rules)]
    assert sorted(leased.post_id for leased in got) == ["p-1", "p-2", "p-3", "p-4", "p-5"]
    for leased in got:
        decide(ledger, leased.review_id, verdict(), rules)
    found = reviewers.reviewer(ledger, "mod-1")
    assert (found.golden_decided, found.golden_right) == (2, 1)
    assert (found.sensitivity, found.specificity) == (1.0, 0.0)
    assert acted(ledger, "p-1") == acted(ledger, "p-2") == []
    assert len(rows(ledger, select(label_rows))) == 3
    assert not [leased for leased in lease(ledger, "mod-2") if leased in {g.review_id for g in got}]


def test_golden_items_come_once_a_reviewer_and_to_each(ledger: Ledger) -> None:
    record(ledger, an_entry("p-1"))
    reviewers.put_golden(ledger, "p-1", GoldenIn(verdict="remove", labels={"abuse": True}))
    rules = ReviewRules(golden_share=1)
    for reviewer in ("mod-1", "mod-2"):
        flagged(ledger, f"q-{reviewer}-1")
        flagged(ledger, f"q-{reviewer}-2")
        wanted = LeaseIn(reviewer_id=reviewer)
        posts = [
            got.post_id
            for got in review_queue.lease(ledger, wanted, policy=POLICY, rules=rules, chance=random.Random(1))
        ]
        assert posts.count("p-1") == 1
        flagged(ledger, f"q-{reviewer}-3")
        again = [
            got.post_id
            for got in review_queue.lease(ledger, wanted, policy=POLICY, rules=rules, chance=random.Random(1))
        ]
        assert "p-1" not in again


def test_a_reviewer_who_decided_nothing_has_no_rates(ledger: Ledger) -> None:
    found = reviewers.reviewer(ledger, "nobody")
    assert (found.decided, found.sensitivity, found.specificity) == (0, None, None)


# Reports.


def test_enough_reporters_put_a_post_before_a_person(ledger: Ledger) -> None:
    record(ledger, an_entry())
    assert [report(ledger, f"r-{number}")[0].review_queued for number in (1, 2, 3)] == [False, False, True]
    decision = newest(ledger)
    assert (decision.decision, decision.review.queued, decision.review.reasons) == ("allow", True, ["reported"])
    (got,) = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert got.labels[0] == "abuse"
    assert [shown.reason for shown in got.reports] == ["it is rude"] * 3


def test_a_reporter_counts_once(ledger: Ledger) -> None:
    record(ledger, an_entry())
    first, fresh = report(ledger, "r-1")
    for _ in range(4):
        again, repeated = report(ledger, "r-1")
        assert (again, repeated) == (first, False)
    assert fresh
    assert lease(ledger) == []


def test_many_report_at_once(ledger: Ledger) -> None:
    record(ledger, an_entry())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: report(ledger, f"r-{number % 8}"), range(32)))
    assert len(rows(ledger, text("SELECT 1 FROM reports"))) == 8
    assert len(lease(ledger)) == 1


def test_an_unknown_post_is_not_reported(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError):
        report(ledger, "r-1", "nothing")


def test_verdicts_make_reporters_more_and_less_reliable(ledger: Ledger) -> None:
    for post_id, said in (("p-1", "remove"), ("p-2", "remove"), ("p-3", "allow")):
        record(ledger, an_entry(post_id, text=post_id))
        for number in (1, 2, 3):
            report(ledger, f"r-{number}", post_id)
        decide(ledger, lease(ledger)[0], verdict(said=said))
    found = reports.reporter(ledger, "r-1")
    assert (found.upheld, found.dismissed, found.reliability) == (2, 1, 0.6)


def test_a_reliable_pair_is_enough_and_unreliable_people_are_not(ledger: Ledger) -> None:
    for number in range(12):
        record(ledger, an_entry(f"p-{number}", text=str(number)))
        for reporter in ("good-1", "good-2", "bad-1", "bad-2", "bad-3"):
            if reporter.startswith("bad") == (number % 2 == 0):
                report(ledger, reporter, f"p-{number}")
        for review_id in lease(ledger, "mod-1"):
            decide(ledger, review_id, verdict(said="allow" if number % 2 == 0 else "remove"))
        for review_id in lease(ledger, "mod-2"):
            decide(ledger, review_id, verdict("mod-2"))
    record(ledger, an_entry("q-1", text="q1"))
    record(ledger, an_entry("q-2", text="q2"))
    assert not any(report(ledger, name, "q-1")[0].review_queued for name in ("bad-1", "bad-2", "bad-3"))
    good = reports.reporter(ledger, "good-1").reliability
    bad = reports.reporter(ledger, "bad-1").reliability
    assert bad < 0.5 <= good


def test_a_muted_reporter_weighs_nothing_and_can_be_heard_again(ledger: Ledger) -> None:
    record(ledger, an_entry())
    for name in ("r-1", "r-2", "r-3"):
        reports.mute(ledger, name, muted=True)
        assert not report(ledger, name)[0].review_queued
    assert reports.mute(ledger, "r-1", muted=False).muted is False
    record(ledger, an_entry("p-2", text="other"))
    assert [report(ledger, name, "p-2")[0].review_queued for name in ("r-1", "r-2", "r-4", "r-5")] == [False] * 3 + [
        True
    ]


def of_record(ledger: Ledger, *reporters: str, upheld: int = 8) -> None:
    """Reporters who were right that often."""
    with ledger.write() as connection:
        for reporter in reporters:
            values = {"reporter_id": reporter, "upheld": upheld, "dismissed": 0, "muted": False}
            connection.execute(insert(reporter_rows).values(**values))


def allowed_again(ledger: Ledger, reviewer: str) -> None:
    decide(ledger, lease(ledger, reviewer)[0], verdict(reviewer, said="allow"))


def test_reports_after_a_verdict_begin_anew_and_strangers_bring_back_nothing_that_a_person_allowed(
    ledger: Ledger,
) -> None:
    record(ledger, an_entry())
    for number in (1, 2, 3):
        report(ledger, f"r-{number}")
    allowed_again(ledger, "mod-1")
    assert newest(ledger).standing == Standing(
        state="shown", actor="review", since=rows(ledger, select(actions.c.acted_at))[0][0], content_version=1
    )
    assert not any(report(ledger, f"stranger-{number}")[0].review_queued for number in range(210))
    # Each of a record weighs 0.9: twice 1.5 is what it takes, however many strangers came before them.
    of_record(ledger, *(f"known-{number}" for number in range(12)))
    queued = [report(ledger, f"known-{number}")[0].review_queued for number in range(4)]
    assert queued == [False, False, False, True]
    allowed_again(ledger, "mod-2")
    queued = [report(ledger, f"known-{number}")[0].review_queued for number in range(4, 12)]
    assert queued == [False] * 6 + [True, True]  # four times 1.5


def test_what_was_allowed_is_as_any_other_once_it_was_edited(ledger: Ledger) -> None:
    record(ledger, an_entry())
    for number in (1, 2, 3):
        report(ledger, f"r-{number}")
    allowed_again(ledger, "mod-1")
    record(ledger, an_entry(text="other", minutes=1))
    assert [report(ledger, f"s-{number}")[0].review_queued for number in (1, 2, 3)] == [False, False, True]
    # And content that comes back was allowed already.
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2", said="allow"))
    record(ledger, an_entry(minutes=2))
    assert not any(report(ledger, f"t-{number}")[0].review_queued for number in (1, 2, 3))


def test_operators_may_hear_strangers_against_what_was_allowed(ledger: Ledger) -> None:
    rules = RULES.model_copy(update={"reopen_upheld": 0, "reopen_factor": 1.0})
    record(ledger, an_entry())
    for number in (1, 2, 3):
        report(ledger, f"r-{number}")
    allowed_again(ledger, "mod-1")
    queued = [
        reports.add(ledger, "p-1", ReportIn(reporter_id=f"s-{number}", reason="rude"), policy=POLICY, rules=rules)[
            0
        ].review_queued
        for number in (1, 2, 3)
    ]
    assert queued == [False, False, True]


def test_what_reports_needed_grows_without_end_is_a_number() -> None:
    assert RULES.reports_needed("gardening", allowed=0) == 1.5
    assert RULES.reports_needed("gardening", allowed=3) == 12
    assert math.isfinite(RULES.model_copy(update={"reopen_factor": 100.0}).reports_needed("c", allowed=10**9))


def test_a_reporter_reports_each_content_of_a_post_once(ledger: Ledger) -> None:
    record(ledger, an_entry())
    first, fresh = report(ledger, "r-1")
    assert fresh
    record(ledger, an_entry(text="worse", minutes=1))
    second, fresh = report(ledger, "r-1")
    assert (fresh, first.content_version, second.content_version) == (True, 1, 2)
    assert report(ledger, "r-1") == (second, False)
    # Both are unanswered, and the reporter is one: 0.5, and not 1.
    assert not report(ledger, "r-2")[0].review_queued
    assert report(ledger, "r-3")[0].review_queued


def test_who_reported_what_a_person_allowed_reports_what_it_became(ledger: Ledger) -> None:
    record(ledger, an_entry())
    for number in (1, 2, 3):
        report(ledger, f"r-{number}")
    allowed_again(ledger, "mod-1")
    record(ledger, an_entry(text="worse", minutes=1))
    assert all(report(ledger, f"r-{number}")[1] for number in (1, 2, 3))
    # Each was wrong once, and weighs a third: not enough yet.
    assert not newest(ledger).review.queued
    assert report(ledger, "r-4")[0].review_queued


def test_authors_reports_of_their_own_posts_count_nothing_and_make_them_no_record(ledger: Ledger) -> None:
    record(ledger, an_entry(author="u-1"))
    report(ledger, "r-1")
    report(ledger, "r-2")
    assert not report(ledger, "u-1")[0].review_queued
    assert report(ledger, "r-3")[0].review_queued
    decide(ledger, lease(ledger)[0], verdict())
    assert [reports.reporter(ledger, name).upheld for name in ("r-1", "u-1")] == [1, 0]


# Nobody judges what they have an interest in.


def test_an_author_is_not_asked_about_their_own_post(ledger: Ledger) -> None:
    flagged(ledger)
    assert lease(ledger, "author-of-p-1") == []
    [number] = lease(ledger)
    assert decide(ledger, number, verdict()).verdict == "remove"
    removed(ledger, "p-2", author="u-2")
    appeal(ledger, "p-2", "u-2")
    assert lease(ledger, "u-2") == []


def test_who_wrote_an_earlier_content_is_not_asked_either(ledger: Ledger) -> None:
    record(ledger, an_entry(author="mod-1"))
    record(ledger, replace(decided(an_entry(text="other", author="u-2", minutes=1), "review"), item=item()))
    assert lease(ledger, "mod-1") == []
    assert len(lease(ledger, "mod-2")) == 1


def test_a_reporter_is_not_asked_about_what_they_reported(ledger: Ledger) -> None:
    record(ledger, an_entry())
    for number in (1, 2, 3):
        report(ledger, f"r-{number}")
    assert [lease(ledger, f"r-{number}") for number in (1, 2, 3)] == [[], [], []]
    assert len(lease(ledger)) == 1


def test_who_reports_what_they_hold_does_not_decide_it(ledger: Ledger) -> None:
    flagged(ledger)
    [number] = lease(ledger)
    report(ledger, "mod-1")
    with pytest.raises(ConflictError, match="'mod-1' wrote or reported post 'p-1'"):
        decide(ledger, number, verdict())
    expire(ledger)
    assert lease(ledger) == []
    [number] = lease(ledger, "mod-2")
    assert decide(ledger, number, verdict("mod-2")).verdict == "remove"


def test_a_golden_item_is_not_its_author_s_nor_its_reporter_s(ledger: Ledger) -> None:
    rules = RULES.model_copy(update={"golden_share": 1.0})
    record(ledger, an_entry("gold", author="mod-1"))
    reviewers.put_golden(ledger, "gold", GoldenIn(verdict="allow", labels={"abuse": False}))
    report(ledger, "mod-2", "gold")
    flagged(ledger)
    met = {}
    for reviewer in ("mod-1", "mod-2", "mod-3"):
        got = golden_lease(ledger, reviewer, rules, limit=4)
        met[reviewer] = [one.post_id for one in got if one.post_id == "gold"]
        expire(ledger)
    assert met == {"mod-1": [], "mod-2": [], "mod-3": ["gold"]}


def test_reports_move_what_waits_already(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.1)
    flagged(ledger, "p-2", 0.3)
    before = rows(ledger, select(review_rows.c.priority).where(review_rows.c.post_id == "p-1"))[0][0]
    report(ledger, "r-1")
    after = rows(ledger, select(review_rows.c.priority).where(review_rows.c.post_id == "p-1"))[0][0]
    assert after > before
    assert len(rows(ledger, select(review_rows))) == 2


def test_impressions_move_what_waits(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.1)
    flagged(ledger, "p-2", 0.3)
    with ledger.write() as connection:
        post_status.count_impressions(connection, {"p-1": 900, "unknown": 5})
    got = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert [(leased.post_id, round(leased.priority, 3)) for leased in got] == [("p-1", 300.0), ("p-2", 90.0)]


def test_a_removed_post_is_not_queued_by_reports(ledger: Ledger) -> None:
    removed(ledger)
    assert not any(report(ledger, f"r-{number}")[0].review_queued for number in range(5))


# Appeals.


def test_an_upheld_appeal_restores_everything(ledger: Ledger) -> None:
    entry = removed(ledger)
    out, fresh = appeal(ledger)
    assert (out.status, fresh) == ("open", True)
    assert newest(ledger).review.reasons == ["appeal"] or newest(ledger).review.queued
    (got,) = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert got.appeal == "I was quoting"
    decide(ledger, got.review_id, verdict(said="allow"))
    assert acted(ledger) == [("remove", "model"), ("restore", "appeal")]
    assert appeals.of_post(ledger, "p-1")[0].status == "upheld"
    (strike,) = rows(ledger, select(strikes))
    assert strike.taken_back_at is not None
    (label,) = rows(ledger, select(label_rows))
    assert (label.source, label.labels["abuse"]) == ("appeal", False)
    assert ledger.exempt([entry.content_hash, "0" * 64]) == {entry.content_hash}
    decision = newest(ledger)
    assert decision.decision == "allow"
    assert decision.standing is not None
    assert decision.standing.state == "shown"


def test_a_rejected_appeal_changes_nothing(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    decide(ledger, lease(ledger)[0], verdict())
    assert acted(ledger) == [("remove", "model")]
    assert appeals.of_post(ledger, "p-1")[0].status == "rejected"
    assert count(ledger, exemptions) == 0
    assert appeal(ledger)[1] is False


def test_a_second_removal_of_the_same_content_can_be_appealed(ledger: Ledger) -> None:
    removed(ledger)
    first, _ = appeal(ledger)
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    of_record(ledger, *(f"known-{number}" for number in range(4)))
    for number in range(4):
        report(ledger, f"known-{number}")
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2"))
    assert newest(ledger).decision == "remove"
    second, fresh = appeal(ledger)
    assert fresh
    assert (second.content_version, second.status, second.action_id) == (1, "open", last_action(ledger))
    assert second.appeal_id != first.appeal_id
    assert appeal(ledger) == (second, False)
    assert [lease(ledger, reviewer) for reviewer in ("mod-1", "mod-2")] == [[], []]
    decide(ledger, lease(ledger, "mod-3")[0], verdict("mod-3", said="allow"))
    assert acted(ledger)[-1] == ("restore", "appeal")
    assert [one.status for one in appeals.of_post(ledger, "p-1")] == ["upheld", "upheld"]
    # What is shown is not removed: the answer is the last appeal.
    assert appeal(ledger)[0].status == "upheld"


def last_action(ledger: Ledger) -> int:
    return int(rows(ledger, select(func.max(actions.c.action_id)))[0][0])


def test_a_removal_that_was_upheld_is_not_appealed_again(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    decide(ledger, lease(ledger)[0], verdict())
    again, fresh = appeal(ledger)
    assert (fresh, again.status) == (False, "rejected")


def test_who_removed_never_judges_the_appeal(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict())
    appeal(ledger, author="author-of-p-1")
    assert lease(ledger, "mod-1") == []
    assert len(lease(ledger, "mod-2")) == 1


def test_neither_do_those_who_looked_again(ledger: Ledger) -> None:
    decide(ledger, twice(ledger), verdict("mod-2"))
    appeal(ledger, author="author-of-p-1")
    assert lease(ledger, "mod-1") == lease(ledger, "mod-2") == []
    assert len(lease(ledger, "mod-3")) == 1


def test_an_appeal_takes_the_place_of_a_second_look(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict(), ReviewRules(second_share=1))
    appeal(ledger, author="author-of-p-1")
    (got,) = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-2"), policy=POLICY, rules=RULES, chance=NEVER)
    assert got.appeal is not None


@pytest.mark.parametrize("decision", ["allow", "review"])
def test_only_a_removal_can_be_appealed(ledger: Ledger, decision: str) -> None:
    record(ledger, decided(an_entry(), decision))
    with pytest.raises(ConflictError, match="not removed"):
        appeal(ledger)


def test_only_the_author_appeals(ledger: Ledger) -> None:
    removed(ledger)
    with pytest.raises(ConflictError, match="not by 'u-2'"):
        appeal(ledger, author="u-2")


def test_an_appeal_on_an_unknown_post(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError):
        appeal(ledger, "nothing")
    with pytest.raises(NotFoundError):
        appeals.of_post(ledger, "nothing")


def test_the_same_appeal_many_times_at_once_is_one(ledger: Ledger) -> None:
    removed(ledger)
    with ThreadPoolExecutor(6) as pool:
        outs = list(pool.map(lambda _: appeal(ledger), range(12)))
    assert len({out.appeal_id for out, _ in outs}) == 1
    assert sum(fresh for _, fresh in outs) == 1
    assert len(lease(ledger)) == 1


def test_an_appeal_outlives_an_edit_and_leaves_the_newer_content_alone(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    record(ledger, decided(an_entry(text="worse", minutes=5, flagged={"abuse": True}), "remove"))
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    assert acted(ledger) == [("remove", "model"), ("remove", "model")]
    taken_back = dict(rows(ledger, select(strikes.c.content_version, strikes.c.taken_back_at)))
    assert taken_back[1] is not None
    assert taken_back[2] is None


def test_nobody_else_s_label_takes_a_verdict_s_id(ledger: Ledger) -> None:
    record(ledger, an_entry())
    out = say(ledger, a_label("review:1"))
    assert (out.accepted, "as those of verdicts" in out.errors[0].detail) == (0, True)


# What the policy says of severity and deadline.


@pytest.fixture
def urgent(tmp_path: Path) -> Policy:
    """Of abuse, severity and deadline are changed, and changed again in Germany."""
    raw = yaml.safe_load((DEPLOYMENTS / "policies" / "default.yaml").read_text(encoding="utf-8"))
    raw["labels"]["abuse"] |= {"severity": "high", "deadline_h": 2}
    raw["regions"]["DE"]["abuse"] = {"severity": "low", "deadline_h": 48}
    path = tmp_path / "urgent.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return Policy.load(path)


def weighed(ledger: Ledger) -> tuple[float, float]:
    """Severity of the one open item, and hours to its deadline, to the tenth."""
    columns = (review_rows.c.severity, review_rows.c.deadline)
    (row,) = rows(ledger, select(*columns).where(review_rows.c.status == "open"))
    return row.severity, round((row.deadline - now()) / timedelta(hours=1), 1)


@pytest.mark.parametrize(("region", "expected"), [("US", (10.0, 2.0)), ("DE", (1.0, 48.0))])
def test_what_is_reported_is_as_urgent_as_the_region_s_policy_says(
    ledger: Ledger, urgent: Policy, region: str, expected: tuple[float, float]
) -> None:
    record(ledger, an_entry(region=region))
    for number in range(3):
        report(ledger, f"r-{number}", policy=urgent)
    assert weighed(ledger) == expected


def test_a_report_of_what_the_policy_has_no_rule_for_is_as_urgent_as_the_taxonomy_says(
    ledger: Ledger, tmp_path: Path
) -> None:
    rule = {"objective": "precision>=0.3", "prevalence": 0.05, "action": "review", "on_failure": "review"}
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({"version": "v1", "labels": {"abuse": rule}}), encoding="utf-8")
    record(ledger, an_entry())
    for number in range(3):
        report(ledger, f"r-{number}", label="hate", policy=Policy.load(path))
    assert weighed(ledger) == (10.0, 1.0)


def test_reports_move_what_waits_to_the_policy_s_severity_and_deadline(ledger: Ledger, urgent: Policy) -> None:
    flagged(ledger)
    assert weighed(ledger) == (3.0, 24.0)
    for number in range(3):
        report(ledger, f"r-{number}", policy=urgent)
    assert weighed(ledger) == (10.0, 2.0)


@pytest.mark.parametrize(("region", "severity"), [("US", 10.0), ("DE", 1.0)])
def test_an_appeal_weighs_as_the_policy_says_and_has_a_day(
    ledger: Ledger, urgent: Policy, region: str, severity: float
) -> None:
    removed(ledger, region=region)
    appeal(ledger, policy=urgent)
    assert weighed(ledger) == (severity, 24.0)


@pytest.mark.parametrize(("region", "severity"), [("US", 10.0), ("DE", 1.0)])
def test_a_golden_item_weighs_as_the_policy_says(ledger: Ledger, urgent: Policy, region: str, severity: float) -> None:
    record(ledger, an_entry(region=region))
    reviewers.put_golden(ledger, "p-1", GoldenIn(verdict="remove", labels={"abuse": True}))
    for number in (2, 3):
        flagged(ledger, f"p-{number}")
    golden = ReviewRules(golden_share=1)
    review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=urgent, rules=golden, chance=random.Random(1))
    ((found,),) = rows(ledger, select(review_rows.c.severity).where(review_rows.c.kind == "golden"))
    assert found == severity


# What a review found.


def sampled(ledger: Ledger, entry: Entry, probability: float = 0.5) -> None:
    record(ledger, replace(entry, item=item(0.9, kind="sampled", sampling_probability=probability)))


def test_an_item_that_an_appeal_replaced_is_a_label_and_undoes_nothing(ledger: Ledger) -> None:
    sampled(ledger, decided(an_entry(flagged={"abuse": True}), "remove"))
    (held,) = lease(ledger, "mod-1")
    appeal(ledger)
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2", "allow"))
    assert decide(ledger, held, verdict("mod-1")).standing.state == "shown"
    assert acted(ledger) == [("remove", "model"), ("restore", "appeal")]
    assert count(ledger, label_rows) == 2


def test_a_second_look_that_an_appeal_replaced_asks_nobody_a_third_time(ledger: Ledger) -> None:
    second = twice(ledger)
    appeal(ledger, author="author-of-p-1")
    decide(ledger, second, verdict("mod-2", "allow"))
    assert [row.kind for row in rows(ledger, select(review_rows).where(review_rows.c.status == "open"))] == ["appeal"]


def test_who_held_the_item_before_does_not_judge_the_appeal(ledger: Ledger) -> None:
    sampled(ledger, decided(an_entry(flagged={"abuse": True}), "remove"))
    (held,) = lease(ledger, "mod-1")
    appeal(ledger)
    assert lease(ledger, "mod-1") == []
    (appealed,) = lease(ledger, "mod-2")
    with ledger.write() as connection:  # as if it had been leased before that rule
        connection.execute(update(review_rows).where(review_rows.c.review_id == appealed).values(leased_by="mod-1"))
    decide(ledger, held, verdict("mod-1"))
    with pytest.raises(ConflictError, match="judged this content already"):
        decide(ledger, appealed, verdict("mod-1"))


def test_a_golden_item_looks_like_any_that_was_drawn(ledger: Ledger) -> None:
    record(ledger, an_entry("p-1", flagged={"abuse": True, "hate": False}))
    reviewers.put_golden(ledger, "p-1", GoldenIn(verdict="allow", labels={"abuse": False}))
    flagged(ledger, "p-2")
    got = {leased.post_id: leased for leased in golden_lease(ledger, "mod-1", ReviewRules(golden_share=1))}
    assert set(got["p-1"].labels) == {"abuse", "hate"}
    assert got["p-1"].deadline - got["p-1"].leased_until > timedelta(hours=1)
    assert got["p-1"].priority > 10


@pytest.mark.parametrize("wanted", [{"languages": ["de"]}, {"labels": ["nudity"]}])
def test_golden_items_are_of_the_kind_that_was_asked_for(ledger: Ledger, wanted: dict[str, Any]) -> None:
    record(ledger, an_entry("p-1"))
    reviewers.put_golden(ledger, "p-1", GoldenIn(verdict="allow", labels={"abuse": False}))
    flagged(ledger, "p-2")
    with ledger.write() as connection:
        connection.execute(update(review_rows).values(language="de", labels=["nudity"]))
    got = golden_lease(ledger, "mod-1", ReviewRules(golden_share=1), **wanted)
    assert [leased.post_id for leased in got] == ["p-2"]


def test_a_lease_is_no_longer_than_was_asked_for_and_golden_items_never_come_alone(ledger: Ledger) -> None:
    for number in range(6):
        record(ledger, an_entry(f"g-{number}", text=str(number)))
        reviewers.put_golden(ledger, f"g-{number}", GoldenIn(verdict="allow", labels={"abuse": False}))
    rules = ReviewRules(golden_share=0.5)
    assert golden_lease(ledger, "mod-1", rules) == []
    for number in range(6):
        flagged(ledger, f"p-{number}")
    assert len(golden_lease(ledger, "mod-1", rules, limit=4)) == 4
    assert len(golden_lease(ledger, "mod-2", rules, limit=1)) == 1


def test_what_people_said_of_older_content_says_nothing_of_newer(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    newer = decided(an_entry(text="worse", minutes=5, flagged={"abuse": True}, author="author-of-p-1"), "review")
    recorded = record(ledger, replace(newer, item=item()))
    assert ledger.newest(["p-1"])["p-1"].body == recorded.body
    assert newest(ledger).decision == "review"


def test_an_appeal_against_older_content_is_not_shown_on_newer(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    record(ledger, an_entry(text="sorry", minutes=5))
    assert not newest(ledger).review.queued


def test_a_report_never_lowers_what_waits(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.9, labels=("hate",), severity=10.0)
    before = rows(ledger, select(review_rows.c.priority))[0][0]
    report(ledger, "r-1", label="misinformation")
    (row,) = rows(ledger, select(review_rows))
    assert row.priority >= before
    assert row.labels == ["hate", "misinformation"]


def test_reports_leave_the_question_alone_while_somebody_holds_it(ledger: Ledger) -> None:
    flagged(ledger)
    (review_id,) = lease(ledger)
    report(ledger, "r-1", label="hate")
    assert decide(ledger, review_id, verdict(said="allow")).labels == {"abuse": False}


def test_muted_reports_and_reports_on_appeals_move_nothing(ledger: Ledger) -> None:
    flagged(ledger)
    reports.mute(ledger, "r-1", muted=True)
    before = rows(ledger, select(review_rows))
    report(ledger, "r-1", label="hate")
    assert rows(ledger, select(review_rows)) == before
    removed(ledger, "p-2")
    appeal(ledger, "p-2")
    before = rows(ledger, select(review_rows))
    report(ledger, "r-2", "p-2", label="hate")
    assert rows(ledger, select(review_rows)) == before


def test_enough_reports_make_a_drawn_item_urgent_and_it_keeps_its_probability(ledger: Ledger) -> None:
    entry = an_entry()
    entry = replace(entry, decision=entry.decision.model_copy(update={"decided_at": now()}))
    record(ledger, replace(entry, item=item(0.01, kind="sampled", sampling_probability=0.02, within=3 * DAY)))
    assert [report(ledger, f"r-{number}", label="hate")[0].review_queued for number in range(3)] == [False, False, True]
    (row,) = rows(ledger, select(review_rows))
    assert (row.kind, row.sampling_probability, row.severity) == ("reported", 0.02, 10.0)
    assert row.deadline - now() < timedelta(hours=1)
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    (label,) = rows(ledger, select(label_rows))
    assert (label.source, label.sampling_probability) == ("audit", 0.02)


def test_who_reported_what_was_edited_away_is_not_blamed(ledger: Ledger) -> None:
    record(ledger, an_entry())
    report(ledger, "r-1")
    report(ledger, "r-2")
    record(ledger, an_entry(text="sorry", minutes=5))
    assert report(ledger, "r-3")[0].review_queued
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    assert [reports.reporter(ledger, f"r-{number}").dismissed for number in (1, 2, 3)] == [0, 0, 1]


def test_a_reviewer_is_shown_a_bounded_number_of_reports(ledger: Ledger) -> None:
    record(ledger, an_entry())
    for number in range(30):
        report(ledger, f"r-{number}")
    (got,) = review_queue.lease(ledger, LeaseIn(reviewer_id="mod-1"), policy=POLICY, rules=RULES, chance=NEVER)
    assert len(got.reports) == 20
    decide(ledger, got.review_id, verdict())
    assert {reports.reporter(ledger, f"r-{number}").upheld for number in range(30)} == {1}


def test_a_removal_s_reasons_are_the_labels_that_asked_for_it(ledger: Ledger) -> None:
    entry = decided(an_entry(flagged={"abuse": True, "misinformation": True}), "remove")
    record(ledger, replace(entry, removed_for=("abuse",)))
    assert rows(ledger, select(actions.c.labels)) == [(["abuse"],)]


def test_a_text_to_learn_from_is_recorded_and_nothing_is_done_with_it(ledger: Ledger) -> None:
    entry = decided(an_entry(flagged={"abuse": True}), "remove")
    record(ledger, replace(entry, removed_for=("abuse",), item=item(), acts=False))
    assert newest(ledger).decision == "remove"
    assert acted(ledger) == rows(ledger, select(review_rows)) == rows(ledger, select(strikes)) == []
    assert say(ledger, a_label()).accepted == 1


def test_two_contents_of_a_post_in_one_group_both_act(ledger: Ledger) -> None:
    first = decided(an_entry(flagged={"abuse": True}), "remove")
    second = an_entry(text="sorry", minutes=5)
    ledger.record([first, second])
    assert acted(ledger) == [("remove", "model"), ("allow", "model")]


def test_an_appeal_upheld_after_an_edit_retracts_the_statement(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    record(ledger, an_entry(text="sorry", minutes=5))
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    assert acted(ledger) == [("remove", "model"), ("allow", "model"), ("restore", "appeal")]
    assert [undone.action_id for undone in statement_rows.retractions(ledger, last_day(ledger))] == [1]
    assert newest(ledger).standing is None


@pytest.mark.parametrize(
    ("kind", "detected", "told"), [("cluster", True, False), ("sampled", False, False), ("reported", False, True)]
)
def test_a_statement_knows_how_the_post_came_to_the_reviewer(
    ledger: Ledger, kind: str, detected: bool, told: bool
) -> None:
    record(ledger, replace(an_entry(), item=item(kind=kind)))
    report(ledger, "r-1")
    decide(ledger, lease(ledger)[0], verdict())
    (found,) = statement_rows.removals(ledger, last_day(ledger))
    assert (found.detected, found.reported) == (detected, told)


# What was decided while a model was away.


def degraded(entry: Entry) -> Entry:
    return replace(entry, decision=entry.decision.model_copy(update={"degraded": True}))


def due(ledger: Ledger, after: int = 0, limit: int = 10) -> list[str]:
    found = rejudging.due(ledger, since=at(-1), after=after, limit=limit)
    return [one.post_id for one in found]


def test_what_was_decided_while_a_model_was_away_is_due_until_another_decision_takes_its_place(ledger: Ledger) -> None:
    record(ledger, an_entry("p-0"))
    for number in (1, 2, 3):
        record(ledger, degraded(decided(an_entry(f"p-{number}"), "review")))
    assert due(ledger) == ["p-1", "p-2", "p-3"]
    [first, *_] = rejudging.due(ledger, since=at(-1), after=0, limit=1)
    assert due(ledger, after=first.decision_id) == ["p-2", "p-3"]
    assert first.post.content_hash() == first.content_hash

    again = replace(an_entry("p-1"), again=True)
    assert record(ledger, degraded(again)).content_version == 1  # a model is still away
    recorded = record(ledger, again)
    assert (recorded.content_version, recorded.fresh, recorded.rejudges) == (2, True, 1)
    assert record(ledger, again) == replace(recorded, fresh=False, rejudges=None)
    assert due(ledger) == ["p-2", "p-3"]
    assert [one.content_version for one in ledger.history("p-1")] == [1, 2]

    record(ledger, an_entry("p-2", text="other", minutes=1))
    stands = record(ledger, replace(an_entry("p-2"), again=True))
    assert (stands.content_version, stands.fresh) == (2, False)
    assert due(ledger) == ["p-3"]


def test_many_judge_one_post_again_at_once_and_one_decision_takes_the_place(ledger: Ledger) -> None:
    record(ledger, degraded(an_entry()))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: record(ledger, replace(an_entry(), again=True)), range(8)))
    assert sorted(one.fresh for one in found) == [False] * 7 + [True]
    assert {one.content_version for one in found} == {2}


def test_a_removal_while_a_model_was_away_is_left_and_so_is_what_people_have_to_do_with(ledger: Ledger) -> None:
    record(ledger, degraded(decided(an_entry("removed", flagged={"abuse": True}), "remove")))
    for name in ("leased", "decided", "waits"):
        record(ledger, replace(degraded(decided(an_entry(name), "review")), item=item()))
    [first, second, _] = lease(ledger)
    decide(ledger, first, verdict(said="allow"))
    ((held,),) = rows(ledger, select(review_rows.c.post_id).where(review_rows.c.review_id == second))
    assert set(due(ledger)) == set()
    expire(ledger)
    left = set(due(ledger))
    assert held in left
    assert "removed" not in left
    assert len(left) == 2
    for name in left:
        record(ledger, replace(an_entry(name), again=True))
    assert rows(ledger, select(review_rows.c.review_id).where(review_rows.c.status == "open")) == []


# What a person removed, and what comes back.


def removed_by_a_person(ledger: Ledger) -> None:
    flagged(ledger)
    decide(ledger, lease(ledger)[0], verdict())


def back_and_forth(ledger: Ledger, minutes: int = 1) -> Any:
    """Another content of the post, and then the one before."""
    author = "author-of-p-1"
    record(ledger, an_entry(text="other", author=author, minutes=minutes))
    back = an_entry(flagged={"abuse": True}, author=author, minutes=minutes + 1)
    return record(ledger, replace(decided(back, "review"), item=item()))


def test_what_a_person_removed_is_not_back_by_an_edit_there_and_one_back(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    back = back_and_forth(ledger)
    assert Decision.model_validate_json(back.body).decision == "remove"
    assert (back.content_version, newest(ledger).decision) == (3, "remove")
    assert newest(ledger).standing == Standing(
        state="removed", actor="review", since=newest(ledger).decided_at, content_version=3
    )
    assert acted(ledger) == [("remove", "review"), ("allow", "model"), ("remove", "review")]
    assert lease(ledger, "mod-2") == []  # nobody is asked what was said already
    assert back_and_forth(ledger, 3).content_version == 5
    assert newest(ledger).decision == "remove"
    ((labels,),) = rows(ledger, select(actions.c.labels).where(actions.c.action_id == last_action(ledger)))
    assert labels == ["abuse"]
    assert count(ledger, strikes) == 3  # one a removal


def test_it_is_appealed_by_itself_and_is_back_once_that_is_upheld(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    back_and_forth(ledger)
    appeal(ledger, author="author-of-p-1")
    assert lease(ledger, "mod-1") == []  # who removed it first
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2", said="allow"))
    assert newest(ledger).decision == "allow"
    back_and_forth(ledger, 3)
    assert acted(ledger)[-1] != ("remove", "review")


def test_an_appeal_that_was_upheld_after_an_edit_counts_as_well(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    appeal(ledger, author="author-of-p-1")
    author = "author-of-p-1"
    record(ledger, decided(an_entry(text="worse", flagged={"abuse": True}, author=author, minutes=1), "remove"))
    decide(ledger, lease(ledger, "mod-2")[0], verdict("mod-2", said="allow"))
    back_and_forth(ledger, 2)
    assert acted(ledger)[-1] != ("remove", "review")


def test_another_post_with_the_same_content_is_judged_by_itself(ledger: Ledger) -> None:
    removed_by_a_person(ledger)
    record(ledger, an_entry("p-2", text="other", author="author-of-p-1"))
    record(ledger, an_entry("p-2", author="author-of-p-1", minutes=1))
    assert newest(ledger, "p-2").decision == "allow"
