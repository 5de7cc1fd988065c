"""The review queue: leases, verdicts, what is drawn at random, second looks and golden items; on both databases."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.posts import Decision
from moderation.review import ReviewRules
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions, strikes
from moderation.storage.people_tables import reviews as review_rows
from moderation.storage.tables import labels as label_rows
from serve.review import queue as review_queue
from serve.review import reviewers
from serve.review.models import GoldenIn, LeaseIn, VerdictIn
from serve.statements import rows as statement_rows
from tests.moderation.storage.rows import a_label, an_entry, at, record, say
from tests.serve.review.people import (
    DAY,
    NEVER,
    POLICY,
    RULES,
    acted,
    count,
    decide,
    decided,
    expire,
    flagged,
    golden_lease,
    item,
    last_day,
    lease,
    newest,
    report,
    rows,
    twice,
    verdict,
)

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


def test_who_judged_one_content_of_a_post_is_asked_of_its_next_one(ledger: Ledger) -> None:
    for minutes, text in enumerate(("the tomatoes are ripe", "you idiot", "the tomatoes are ripe")):
        entry = decided(an_entry("p-1", text, minutes=minutes, author="u-2"), "review")
        record(ledger, replace(entry, item=item()))
        [number] = lease(ledger, "mod-1") or [0]
        assert bool(number) == (minutes < 2), "a content that came back is not asked of who judged it"
        if number:
            decide(ledger, number, verdict("mod-1", "allow"))
    assert lease(ledger, "mod-2")


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


def test_nobody_else_s_label_takes_a_verdict_s_id(ledger: Ledger) -> None:
    record(ledger, an_entry())
    out = say(ledger, a_label("review:1"))
    assert (out.accepted, "as those of verdicts" in out.errors[0].detail) == (0, True)


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
