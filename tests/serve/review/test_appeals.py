"""Appeals, and what follows when one is upheld, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from moderation.errors import ConflictError, NotFoundError
from moderation.policy import Policy
from moderation.review import ReviewRules
from moderation.storage.ledger import Entry, Ledger
from moderation.storage.people_tables import exemptions, strikes
from moderation.storage.people_tables import reviews as review_rows
from moderation.storage.tables import labels as label_rows
from serve.review import appeals
from serve.review import queue as review_queue
from serve.review.models import LeaseIn
from serve.statements import rows as statement_rows
from tests.moderation.storage.rows import an_entry, record
from tests.serve.review.people import (
    NEVER,
    POLICY,
    RULES,
    acted,
    appeal,
    count,
    decide,
    decided,
    flagged,
    item,
    last_action,
    last_day,
    lease,
    newest,
    of_record,
    removed,
    report,
    rows,
    twice,
    verdict,
    weighed,
)


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


@pytest.mark.parametrize(("region", "severity"), [("US", 10.0), ("DE", 1.0)])
def test_an_appeal_weighs_as_the_policy_says_and_has_a_day(
    ledger: Ledger, urgent: Policy, region: str, severity: float
) -> None:
    removed(ledger, region=region)
    appeal(ledger, policy=urgent)
    assert weighed(ledger) == (severity, 24.0)


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


def test_an_appeal_against_older_content_is_not_shown_on_newer(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    record(ledger, an_entry(text="sorry", minutes=5))
    assert not newest(ledger).review.queued


def test_an_appeal_upheld_after_an_edit_retracts_the_statement(ledger: Ledger) -> None:
    removed(ledger)
    appeal(ledger)
    record(ledger, an_entry(text="sorry", minutes=5))
    decide(ledger, lease(ledger)[0], verdict(said="allow"))
    assert acted(ledger) == [("remove", "model"), ("allow", "model"), ("restore", "appeal")]
    assert [undone.action_id for undone in statement_rows.retractions(ledger, last_day(ledger))] == [1]
    assert newest(ledger).standing is None
