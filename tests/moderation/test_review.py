"""What a person is asked about a decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from moderation.policy import Policy
from moderation.posts import Decision, LabelDecision, LanguageDecision, ReviewDecision
from moderation.review import (
    ReviewRules,
    item_for,
    posterior,
    rank,
    reliability,
    sampling_probability,
    severity_of,
    with_reports,
)
from moderation.settings import DEPLOYMENTS

RULES = Policy.load(DEPLOYMENTS / "policies" / "default.yaml").rules("US")
AT = datetime(2026, 11, 24, tzinfo=UTC)


def scored(score: float | None, threshold: float | None = 0.6, **changes: Any) -> LabelDecision:
    if score is None:
        return LabelDecision(status="failed", reason="timed out")
    flagged = threshold is not None and score >= threshold
    return LabelDecision(status="scored", score=score, threshold=threshold, flagged=flagged, **changes)


def decision(said: Any = "allow", **labels: LabelDecision) -> Decision:
    queued = said == "review"
    return Decision(
        post_id="p-1",
        content_version=1,
        decision=said,
        mode="reactive",
        degraded=False,
        labels=labels or {"abuse": scored(0.1)},
        language=LanguageDecision(code="en", confidence=1, in_training=True),
        links=[],
        review=ReviewDecision(queued=queued, deadline=AT + timedelta(hours=5) if queued else None),
        policy_version="v",
        models={},
        decided_at=AT,
        latency_ms=1,
    )


def item(made: Decision, draw: float = 0.5, community: str = "gardening", **rules: Any) -> Any:
    return item_for(made, community=community, rules=RULES, review=ReviewRules(**rules), draw=lambda: draw)


@pytest.mark.parametrize(
    ("confidence", "prevalence", "expected"),
    [(0.5, 0.05, 0.05), (0.5, 0.5, 0.5), (0.0, 0.3, 0.0), (1.0, 0.01, 1.0), (0.9, 0.1, 0.5)],
)
def test_a_prevalence_makes_a_probability_of_a_confidence(
    confidence: float, prevalence: float, expected: float
) -> None:
    assert posterior(confidence, prevalence) == pytest.approx(expected)


def test_what_is_flagged_is_asked_with_the_policy_s_deadline() -> None:
    got = item(decision("review", abuse=scored(0.9), hate=scored(0.2)))
    assert (got.kind, got.labels, got.within) == ("flagged", ("abuse",), timedelta(hours=5))
    assert got.sampling_probability is None
    assert got.p_harm == pytest.approx(posterior(0.9, RULES["abuse"].prevalence))
    assert got.priority == pytest.approx(got.p_harm * 3 * 100)


def test_severity_ranks_before_probability_alone() -> None:
    ranked = rank({"abuse": scored(0.9), "hate": scored(0.9)}, RULES)
    assert list(ranked) == ["hate", "abuse"]


def test_the_severity_is_the_policy_s_and_the_taxonomy_s_for_what_has_no_rule() -> None:
    turned = {
        "abuse": RULES["abuse"].model_copy(update={"severity": "high"}),
        "hate": RULES["hate"].model_copy(update={"severity": "low"}),
    }
    assert list(rank({"hate": scored(0.9), "abuse": scored(0.9)}, turned)) == ["abuse", "hate"]
    assert [severity_of([name], turned) for name in ("abuse", "hate", "violence")] == [10, 1, 10]
    assert severity_of([], turned) == 1
    made = decision("review", hate=scored(0.9))
    got = item_for(made, community="gardening", rules=turned, review=ReviewRules(), draw=lambda: 0.5)
    assert got is not None
    assert got.severity == 1


def test_a_label_that_failed_is_as_likely_as_in_any_post() -> None:
    assert rank({"abuse": scored(None)}, RULES) == {"abuse": RULES["abuse"].prevalence}


def test_a_label_that_nothing_scores_is_not_asked() -> None:
    assert rank({"nudity": LabelDecision(status="not_scored", reason="no_media")}, RULES) == {}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (decision("allow", abuse=scored(0.01)), 0.002),
        (decision("allow", abuse=scored(0.59)), 0.02),
        (decision("allow", abuse=scored(0.01), hate=scored(0.55)), 0.02),
        (decision("remove", abuse=scored(0.99)), 0.03),
        (decision("allow", abuse=scored(0.99, None)), 0.002),
        (decision("allow", abuse=scored(None)), 0.002),
    ],
)
def test_the_uncertain_are_drawn_more(made: Decision, expected: float) -> None:
    rules = ReviewRules(sampled_allowed=0.002, sampled_uncertain=0.02, sampled_removed=0.03)
    assert sampling_probability(made, rules) == expected


def test_uncertain_posts_are_never_drawn_less() -> None:
    rules = ReviewRules(sampled_allowed=0.5, sampled_uncertain=0.1)
    assert sampling_probability(decision("allow", abuse=scored(0.59)), rules) == 0.5


def test_a_draw_below_the_probability_is_asked_and_keeps_it() -> None:
    assert item(decision(), draw=0.0021) is None
    got = item(decision(), draw=0.0019)
    assert (got.kind, got.sampling_probability, got.within) == ("sampled", 0.002, timedelta(hours=72))


def test_a_probability_of_none_draws_nothing_and_of_one_everything() -> None:
    assert item(decision(), draw=0.0, sampled_allowed=0) is None
    assert item(decision(), draw=0.999999, sampled_allowed=1).sampling_probability == 1


def test_a_community_has_its_own_numbers() -> None:
    numbers = {"expected_impressions_of": {"news": 5000.0}, "report_thresholds": {"news": 9.0}}
    assert item(decision("review", abuse=scored(0.9)), community="news", **numbers).impressions == 5000
    rules = ReviewRules(**numbers)
    assert (rules.report_threshold_of("news"), rules.report_threshold_of("art")) == (9.0, 1.5)


def test_a_post_that_is_queued_for_a_link_alone_asks_about_all_that_was_scored() -> None:
    got = item(decision("review", abuse=scored(0.1), hate=scored(0.1)))
    assert set(got.labels) == {"abuse", "hate"}


def test_reports_only_ever_raise_the_probability() -> None:
    assert with_reports(0.2, []) == pytest.approx(0.2)
    assert with_reports(0.2, [0.5]) == pytest.approx(0.6)
    assert with_reports(0.2, [0.5, 0.5]) == pytest.approx(0.8)
    assert with_reports(0.2, [0.0]) == pytest.approx(0.2)


@pytest.mark.parametrize(("upheld", "dismissed", "expected"), [(0, 0, 0.5), (8, 0, 0.9), (0, 8, 0.1), (1, 2, 0.4)])
def test_a_reporter_s_record_counts(upheld: int, dismissed: int, expected: float) -> None:
    assert reliability(upheld, dismissed) == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampled_allowed": -0.1},
        {"sampled_allowed": 1.1},
        {"second_share": 2},
        {"lease_s": 0},
        {"report_threshold": 0},
        {"expected_impressions": 0},
        {"unknown": 1},
    ],
)
def test_a_wrong_rule_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ReviewRules(**wrong)
