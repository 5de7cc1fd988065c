"""How good reviewers are, on both databases."""

from __future__ import annotations

from sqlalchemy import select

from moderation.review import ReviewRules
from moderation.storage.ledger import Ledger
from moderation.storage.tables import labels as label_rows
from serve.review import reviewers
from serve.review.models import GoldenIn
from tests.moderation.storage.rows import an_entry, record
from tests.serve.review.people import acted, decide, flagged, golden_lease, lease, rows, verdict


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


def test_a_reviewer_who_decided_nothing_has_no_rates(ledger: Ledger) -> None:
    found = reviewers.reviewer(ledger, "nobody")
    assert (found.decided, found.sensitivity, found.specificity) == (0, None, None)
