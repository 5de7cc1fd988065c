"""Reports, and what they move, on both databases."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select, text

from moderation.errors import NotFoundError
from moderation.policy import Policy
from moderation.posts import Standing
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions
from moderation.storage.people_tables import reviews as review_rows
from moderation.storage.tables import labels as label_rows
from serve.review import queue as review_queue
from serve.review import reports
from serve.review.models import LeaseIn, ReportIn
from tests.moderation.storage.rows import an_entry, record
from tests.serve.review.people import (
    DAY,
    NEVER,
    POLICY,
    RULES,
    appeal,
    decide,
    flagged,
    item,
    lease,
    newest,
    of_record,
    removed,
    report,
    rows,
    verdict,
    weighed,
)


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


def test_reports_move_what_waits_already(ledger: Ledger) -> None:
    flagged(ledger, "p-1", 0.1)
    flagged(ledger, "p-2", 0.3)
    before = rows(ledger, select(review_rows.c.priority).where(review_rows.c.post_id == "p-1"))[0][0]
    report(ledger, "r-1")
    after = rows(ledger, select(review_rows.c.priority).where(review_rows.c.post_id == "p-1"))[0][0]
    assert after > before
    assert len(rows(ledger, select(review_rows))) == 2


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
