"""The online metrics, from rows as the gateway and people leave them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from moderation.errors import TooManyGroupsError
from moderation.sections import Dimension
from moderation.storage.ledger import Ledger
from serve.metrics.online import Estimate, Figures, GoldenRule, OnlineOut, measure
from serve.metrics.queries import Window
from tests.moderation.storage.rows import at
from tests.serve.metrics.online_rows import (
    HOUR,
    a_decided_post,
    a_golden,
    a_report,
    a_review,
    an_action,
    an_appeal,
    an_event,
    impressions,
    send,
)

DAY = Window(at(0), at(24 * HOUR))
LATER = at(1000 * HOUR)


def by(*names: Dimension) -> Window:
    return Window(DAY.begin, DAY.end, names)


def total(ledger: Ledger, window: Window = DAY) -> Figures:
    return measure(ledger, window, at=LATER).total


def groups(out: OnlineOut) -> dict[Any, Figures]:
    return {tuple(group.group.values()): group for group in out.groups}


def test_of_an_empty_ledger_nothing_is_known_and_null_is_not_zero(ledger: Ledger) -> None:
    out = measure(ledger, by("region"), at=LATER)
    assert out.groups == []
    figures = out.total
    unknown = Estimate(value=None, low=None, high=None)
    for harm in (figures.prevalence, figures.harmful_impressions):
        assert (harm.share, harm.harmful, harm.share_corrected, harm.unknown_share) == (unknown, unknown, None, None)
        assert harm.of == 0
    assert figures.reports.per_thousand_impressions is None
    assert (figures.takedown.proactive.p50_s, figures.takedown.reactive.p95_s) == (None, None)
    assert figures.appeals.overturn_rate == unknown
    assert (figures.review.backlog, figures.review.miss_rate) == (0, None)
    assert out.reviewers.sensitivity == unknown


def test_a_draw_stands_for_those_that_were_not_drawn(ledger: Ledger) -> None:
    for number in range(40):
        a_decided_post(ledger, f"p-{number}", minutes=number)
        if number < 20:
            a_review(ledger, f"p-{number}", probability=0.5, verdict="remove" if number < 5 else "allow")
    prevalence = total(ledger).prevalence
    assert prevalence.share.value == pytest.approx(0.25)
    assert prevalence.harmful.value == pytest.approx(10)
    assert (prevalence.of, prevalence.drawn, prevalence.judged, prevalence.judged_harmful) == (40, 20, 20, 5)
    assert 0 < (prevalence.share.low or 0) < 0.25 < (prevalence.share.high or 0) < 0.6


def test_a_queued_post_is_no_sample_and_a_reported_one_no_draw(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-queued", "review")
    a_review(ledger, "p-queued", "flagged", verdict="remove")
    for number in range(10):
        a_decided_post(ledger, f"p-{number}")
        a_review(ledger, f"p-{number}", probability=1.0, verdict="allow")
    a_decided_post(ledger, "p-reported")
    a_review(ledger, "p-reported", "reported", verdict="remove")
    # p-reported is one of 12 posts; its verdict is no draw, so it counts among the allowed that drawn ones stand for.
    prevalence = total(ledger).prevalence
    assert (prevalence.of, prevalence.drawn) == (12, 11)
    assert prevalence.judged_harmful == 1


def test_unreviewed_removals_are_a_stratum_of_their_own(ledger: Ledger) -> None:
    for number in range(9):
        a_decided_post(ledger, f"p-{number}")
        a_review(ledger, f"p-{number}", probability=1.0, verdict="allow")
    a_decided_post(ledger, "p-removed", "remove")
    prevalence = total(ledger).prevalence
    assert prevalence.share == Estimate(value=None, low=0.0, high=0.1)
    assert prevalence.unknown_share == pytest.approx(0.1)
    a_review(ledger, "p-removed", probability=1.0, verdict="remove")
    assert total(ledger).prevalence.share == Estimate(value=0.1, low=0.1, high=0.1)


def test_the_newest_verdict_is_the_truth_and_golden_ones_are_none(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1", "remove")
    a_review(ledger, "p-1", "appeal", verdict="allow", decided=90)
    a_review(ledger, "p-1", probability=1.0, verdict="remove", decided=10)
    a_review(ledger, "p-1", "second", verdict="remove", decided=20)
    a_review(ledger, "p-1", "golden", verdict="remove", decided=200)
    a_review(ledger, "p-1", "third")
    assert total(ledger).prevalence.share == Estimate(value=0.0, low=0.0, high=0.0)


def test_a_draw_without_a_verdict_is_counted_as_such(ledger: Ledger) -> None:
    for number in range(4):
        a_decided_post(ledger, f"p-{number}")
        a_review(ledger, f"p-{number}", probability=1.0, verdict="remove" if number else None)
    prevalence = total(ledger).prevalence
    assert (prevalence.drawn, prevalence.judged) == (4, 3)
    assert (prevalence.share.low or 1) < 0.8


def test_only_the_window_counts(ledger: Ledger) -> None:
    for number, minutes in enumerate((-1, 0, 24 * HOUR - 1, 24 * HOUR)):
        a_decided_post(ledger, f"p-{number}", minutes=minutes)
    assert total(ledger).prevalence.of == 2


def test_an_edited_post_counts_once_for_each_content(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1")
    version = a_decided_post(ledger, "p-1", minutes=5, text="they are green")
    a_review(ledger, "p-1", version=1, probability=1.0, verdict="remove")
    a_review(ledger, "p-1", version=version, probability=1.0, verdict="allow")
    assert total(ledger).prevalence.share.value == pytest.approx(0.5)


def test_harmful_impressions_are_those_of_harmful_posts_in_the_window(ledger: Ledger) -> None:
    for name, verdict in (("p-bad", "remove"), ("p-good", "allow")):
        a_decided_post(ledger, name, minutes=-500)  # decided before the window, seen in it
        a_review(ledger, name, probability=1.0, verdict=verdict)
    impressions(ledger, "p-bad", 100)
    impressions(ledger, "p-bad", 200, minutes=2)
    impressions(ledger, "p-bad", 5000, minutes=-1)
    impressions(ledger, "p-good", 700)
    send(ledger, an_event("e-like", "p-bad", kind="reaction", count=50), an_event("e-gone", "p-bad", kind="deletion"))
    figures = total(ledger)
    assert figures.prevalence.of == 0
    assert figures.harmful_impressions.of == 1000
    assert figures.harmful_impressions.share.value == pytest.approx(0.3)
    assert figures.harmful_impressions.harmful.value == pytest.approx(300)


def test_what_more_people_saw_than_64_bits_of_squares_hold_is_counted(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1")
    a_review(ledger, "p-1", probability=1.0, verdict="remove")
    send(ledger, *(an_event(f"e-{number}", count=10**9) for number in range(10)))
    harm = total(ledger).harmful_impressions
    assert (harm.of, harm.share.value) == (10**10, pytest.approx(1.0))


def test_reports_a_thousand_impressions_leave_out_muted_reporters(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1")
    a_report(ledger, "p-1", "u-1", minutes=1)
    a_report(ledger, "p-1", "u-2", minutes=2)
    a_report(ledger, "p-1", "u-3", minutes=2, weight=0.0)
    a_report(ledger, "p-1", "u-4", minutes=24 * HOUR)
    assert total(ledger).reports.per_thousand_impressions is None
    impressions(ledger, "p-1", 500)
    reports = total(ledger).reports
    assert (reports.count, reports.impressions, reports.per_thousand_impressions) == (2, 500, 4.0)


def test_takedowns_by_nearest_rank_and_by_who_noticed_first(ledger: Ledger) -> None:
    for number in range(1, 21):
        a_decided_post(ledger, f"p-{number}", minutes=0)
        an_action(ledger, f"p-{number}", minutes=number)
    for number in (1, 2):
        a_decided_post(ledger, f"r-{number}")
        a_report(ledger, f"r-{number}", minutes=1)
        an_action(ledger, f"r-{number}", minutes=10 * number, actor="review")
    taken = total(ledger).takedown
    assert (taken.proactive.count, taken.proactive.p50_s, taken.proactive.p95_s) == (20, 600.0, 1140.0)
    assert (taken.reactive.count, taken.reactive.p50_s, taken.reactive.p95_s) == (2, 600.0, 1200.0)


def test_a_removal_counts_once_and_a_report_after_it_does_not_make_it_reactive(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1")
    an_action(ledger, "p-1", "hold", minutes=1)
    an_action(ledger, "p-1", "remove", minutes=2)
    an_action(ledger, "p-1", "restore", minutes=3, actor="appeal")
    an_action(ledger, "p-1", "remove", minutes=30, actor="review")
    a_report(ledger, "p-1", minutes=5)
    taken = total(ledger).takedown
    assert (taken.proactive.count, taken.proactive.p50_s) == (1, 120.0)
    assert taken.reactive.count == 0


def test_a_muted_report_and_one_on_earlier_content_leave_a_removal_proactive(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1")
    a_decided_post(ledger, "p-1", minutes=4, text="they are green")
    a_report(ledger, "p-1", minutes=1)
    an_action(ledger, "p-1", minutes=5, version=2)
    a_decided_post(ledger, "p-2")
    a_report(ledger, "p-2", minutes=1, weight=0.0)
    an_action(ledger, "p-2", minutes=5)
    taken = total(ledger).takedown
    assert (taken.proactive.count, taken.reactive.count) == (2, 0)


def test_appeals_overturned_of_those_decided(ledger: Ledger) -> None:
    for number, status in enumerate(("upheld", "rejected", "rejected", "rejected", "open")):
        a_decided_post(ledger, f"p-{number}", "remove")
        an_appeal(ledger, f"p-{number}", status, minutes=number)
    a_decided_post(ledger, "p-9", "remove")
    an_appeal(ledger, "p-9", "upheld", minutes=24 * HOUR)
    found = total(ledger).appeals
    assert (found.filed, found.decided, found.upheld, found.overturn_rate.value) == (5, 4, 1, 0.25)
    assert (found.overturn_rate.low, found.overturn_rate.high) == pytest.approx((0.0063, 0.8059), abs=1e-4)


def test_backlog_and_deadlines(ledger: Ledger) -> None:
    for number in range(8):
        a_decided_post(ledger, f"p-{number}")
    a_review(ledger, "p-0", deadline=60)  # open, overdue
    a_review(ledger, "p-1", deadline=60, verdict="allow", decided=59)  # in time
    a_review(ledger, "p-2", deadline=60, verdict="allow", decided=61)  # late
    a_review(ledger, "p-3", deadline=60, status="dropped")  # newer content took its place
    a_review(ledger, "p-4", deadline=48 * HOUR)  # open, due after the window
    a_review(ledger, "p-5", deadline=60, verdict="allow", decided=30 * HOUR)  # late; waited at the window's end
    a_review(ledger, "p-6", "golden", deadline=60)
    a_review(ledger, "p-7", created=25 * HOUR, deadline=60)  # asked after the window
    review = total(ledger).review
    assert review.backlog == 3
    assert (review.due, review.missed) == (5, 4)
    assert review.miss_rate == pytest.approx(0.8)


def test_a_deadline_that_lies_ahead_is_not_missed_yet(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-0")
    a_review(ledger, "p-0", deadline=60)
    assert measure(ledger, DAY, at=at(59)).total.review.due == 0
    assert measure(ledger, DAY, at=at(61)).total.review.missed == 1


def test_golden_items_tell_how_often_reviewers_err(ledger: Ledger) -> None:
    for number in range(40):
        a_decided_post(ledger, f"g-{number}", minutes=-HOUR)
        truth = "remove" if number < 20 else "allow"
        a_golden(ledger, f"g-{number}", truth, "allow" if number in (0, 1) else "remove" if number == 30 else truth)
    for number in range(100):
        a_decided_post(ledger, f"p-{number}")
        a_review(ledger, f"p-{number}", probability=1.0, verdict="remove" if number < 14 else "allow")
    out = measure(ledger, DAY, GoldenRule(least=20), at=LATER)
    assert (out.reviewers.sensitivity.value, out.reviewers.specificity.value) == (0.9, 0.95)
    prevalence = out.total.prevalence
    assert prevalence.share.value == pytest.approx(0.14)
    assert prevalence.share_corrected is not None
    assert prevalence.share_corrected.value == pytest.approx((0.14 - 0.05) / 0.85, abs=1e-6)
    assert measure(ledger, DAY, GoldenRule(least=21), at=LATER).total.prevalence.share_corrected is None
    short = GoldenRule(lookback=timedelta(minutes=1), least=20)
    assert measure(ledger, DAY, short, at=LATER).total.prevalence.share_corrected is None


def a_small_world(ledger: Ledger) -> None:
    """Four posts; two of Germany, one harmful; two of Brazil by another model, one removed after a report."""
    a_decided_post(ledger, "de-1", region="DE", language="de", community="garten")
    a_decided_post(ledger, "de-2", region="DE", language="de", community="garten", minutes=1)
    a_decided_post(ledger, "br-1", region="BR", language="pt", community="jardim", model_version=2)
    a_decided_post(ledger, "br-2", "remove", region="BR", language="pt", community="jardim", model_version=2)
    a_review(ledger, "de-1", probability=1.0, verdict="remove", labels={"abuse": True, "hate": True})
    a_review(ledger, "de-2", probability=1.0, verdict="allow")
    a_review(ledger, "br-1", probability=1.0, verdict="allow")
    a_review(ledger, "br-2", probability=1.0, verdict="remove", labels={"hate": True}, asked=("hate",))
    impressions(ledger, "de-1", 10)
    impressions(ledger, "de-2", 30)
    impressions(ledger, "br-1", 60)
    a_report(ledger, "br-2", minutes=1, label="hate")
    a_report(ledger, "de-1", minutes=1)
    an_action(ledger, "br-2", minutes=2, labels=("hate", "abuse"))
    an_action(ledger, "de-1", minutes=10, labels=("abuse",), actor="review")
    an_appeal(ledger, "br-2", "rejected", minutes=5, review_id=4)


@pytest.mark.parametrize(
    ("dimension", "german", "brazilian"),
    [
        ("region", "DE", "BR"),
        ("language", "de", "pt"),
        ("community", "garten", "jardim"),
        ("model_version", "text-multi@1", "text-multi@2"),
    ],
)
def test_every_metric_by_a_dimension(ledger: Ledger, dimension: Dimension, german: str, brazilian: str) -> None:
    a_small_world(ledger)
    out = measure(ledger, by(dimension), at=LATER)
    assert [list(group.group.items()) for group in out.groups] == [
        [(dimension, name)] for name in sorted((german, brazilian))
    ]
    found = groups(out)
    de, br = found[(german,)], found[(brazilian,)]
    assert (de.prevalence.of, de.prevalence.share.value) == (2, 0.5)
    assert (br.prevalence.of, br.prevalence.share.value) == (2, 0.5)
    assert (de.harmful_impressions.of, de.harmful_impressions.share.value) == (40, 0.25)
    assert (br.harmful_impressions.of, br.harmful_impressions.share.value) == (60, 0.0)
    assert (de.reports.per_thousand_impressions, br.reports.count) == (25.0, 1)
    assert (de.takedown.reactive.p50_s, br.takedown.reactive.p50_s) == (600.0, 120.0)
    assert (de.appeals.filed, br.appeals.filed) == (0, 1)
    assert (de.review.due, br.review.due) == (2, 2)
    assert out.total.prevalence.of == 4


def test_every_metric_by_label(ledger: Ledger) -> None:
    a_small_world(ledger)
    found = groups(measure(ledger, by("label"), at=LATER))
    assert set(found) == {("abuse",), ("hate",), ("violence",), ("nudity",), ("misinformation",)}
    abuse, hate, nudity = found[("abuse",)], found[("hate",)], found[("nudity",)]
    # All posts are in each label's group; a verdict is harmful there if it names the label.
    assert [figures.prevalence.share.value for figures in (abuse, hate, nudity)] == [0.25, 0.5, 0.0]
    assert [figures.harmful_impressions.share.value for figures in (abuse, hate, nudity)] == [0.1, 0.1, 0.0]
    assert [figures.reports.count for figures in (abuse, hate, nudity)] == [0, 1, 0]
    assert [figures.takedown.reactive.count for figures in (abuse, hate, nudity)] == [2, 1, 0]
    assert [figures.appeals.filed for figures in (abuse, hate, nudity)] == [0, 1, 0]
    assert [figures.review.due for figures in (abuse, hate, nudity)] == [3, 1, 0]


def test_dimensions_together(ledger: Ledger) -> None:
    a_small_world(ledger)
    found = groups(measure(ledger, by("label", "region", "model_version"), at=LATER))
    assert len(found) == 10
    hate = found[("hate", "BR", "text-multi@2")]
    assert (hate.prevalence.share.value, hate.takedown.reactive.count, hate.appeals.filed) == (0.5, 1, 1)
    assert found[("hate", "DE", "text-multi@1")].takedown.reactive.count == 0


@pytest.mark.parametrize("dimension", ["region", "language", "community", "label", "model_version"])
def test_the_groups_of_a_dimension_make_up_the_total(ledger: Ledger, dimension: Dimension) -> None:
    a_small_world(ledger)
    out = measure(ledger, by(dimension), at=LATER)
    if dimension != "label":
        assert sum(group.prevalence.of for group in out.groups) == out.total.prevalence.of
        assert sum(group.reports.count for group in out.groups) == out.total.reports.count
        assert sum(group.takedown.reactive.count for group in out.groups) == out.total.takedown.reactive.count
        assert sum(group.review.due for group in out.groups) == out.total.review.due
    assert out.total == total(ledger)


def test_a_post_that_no_model_scored_is_in_the_total_alone(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1", variant=None)
    out = measure(ledger, by("model_version"), at=LATER)
    assert (out.total.prevalence.of, out.groups) == (1, [])


def test_a_group_without_draws_of_a_rule_is_not_told_by_those_of_another(ledger: Ledger) -> None:
    for number in range(50):
        a_decided_post(ledger, f"de-{number}", region="DE")
        a_decided_post(ledger, f"us-{number}", region="US")
    for number in range(5):
        a_review(ledger, f"de-{number}", probability=0.5, verdict="remove")
        a_review(ledger, f"us-{number}", probability=0.02, verdict="allow")
    found = groups(measure(ledger, by("region"), at=LATER))
    germany = found[("DE",)].prevalence
    assert germany.share.value is None
    assert germany.unknown_share == pytest.approx(0.8)  # 5 / 0.5 = 10 of the 50 are of the frequent draw


def test_too_many_groups_are_refused_and_not_cut(ledger: Ledger) -> None:
    for number in range(4):
        a_decided_post(ledger, f"p-{number}", community=f"c-{number}")
    window = Window(DAY.begin, DAY.end, ("community",), max_groups=3)
    with pytest.raises(TooManyGroupsError, match="the bound is 3"):
        measure(ledger, window, at=LATER)
    assert len(measure(ledger, Window(DAY.begin, DAY.end, ("community",), max_groups=4), at=LATER).groups) == 4


def test_many_too_many_groups_are_not_even_read(ledger: Ledger) -> None:
    for number in range(9):
        a_decided_post(ledger, f"p-{number}", community=f"c-{number}")
    with pytest.raises(TooManyGroupsError, match="more than 2 groups"):
        measure(ledger, Window(DAY.begin, DAY.end, ("community",), max_groups=2), at=LATER)


def test_the_answer_is_json_with_null_where_nothing_is_known(ledger: Ledger) -> None:
    a_decided_post(ledger, "p-1")
    document = measure(ledger, by("region"), at=LATER).model_dump(mode="json", by_alias=True)
    assert set(document) == {"from", "to", "by", "reviewers", "total", "groups"}
    (group,) = document["groups"]
    assert group["group"] == {"region": "US"}
    assert group["prevalence"]["share"] == {"value": None, "low": 0.0, "high": 1.0}
    assert group["reports"] == {"count": 0, "impressions": 0, "per_thousand_impressions": None}


def test_every_window_is_found_by_an_index(ledger: Ledger) -> None:
    a_small_world(ledger)
    scans = []
    with ledger.read() as connection:
        for table, column in (("decisions", "decided_at"), ("events", "happened_at"), ("actions", "acted_at")):
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {column} >= 'x'"))
            scans += [row.detail for row in plan]
    assert all("USING INDEX" in detail for detail in scans), scans
    assert len(scans) == 3
