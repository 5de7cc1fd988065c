"""Nobody judges what they have an interest in, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moderation.errors import ConflictError
from moderation.storage.ledger import Ledger
from serve.review import reviewers
from serve.review.models import GoldenIn
from tests.moderation.storage.rows import an_entry, record
from tests.serve.review.people import (
    RULES,
    appeal,
    decide,
    decided,
    expire,
    flagged,
    golden_lease,
    item,
    lease,
    removed,
    report,
    verdict,
)


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


def test_a_removed_post_is_not_queued_by_reports(ledger: Ledger) -> None:
    removed(ledger)
    assert not any(report(ledger, f"r-{number}")[0].review_queued for number in range(5))
