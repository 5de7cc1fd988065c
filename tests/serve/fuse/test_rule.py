"""When the fuse blows, and when it does not."""

from __future__ import annotations

import numpy as np
import pytest

from moderation.policy import Rule
from moderation.sections import FuseRules
from serve.fuse.rule import Counts, blows, lower_rate, lower_ratio, most_expected

FUSE = FuseRules()
RULE = Rule(
    severity="medium",
    mode="reactive",
    deadline_h=24,
    objective="precision>=0.8",
    prevalence=0.02,
    action="remove",
    on_failure="review",
)


def rule(**changes: object) -> Rule:
    return Rule.model_validate(RULE.model_dump() | changes)


@pytest.mark.parametrize(
    ("removals", "posts", "confidence", "expected"),
    [(0, 10, 0.95, 0.0), (1, 1, 0.95, 0.05), (10, 10, 0.95, 0.05**0.1), (1, 2, 0.975, 0.012579)],
)
def test_the_lower_bound_is_clopper_and_pearson_s(
    removals: int, posts: int, confidence: float, expected: float
) -> None:
    assert lower_rate(Counts(removals, posts), confidence) == pytest.approx(expected, rel=1e-4)


def test_the_ratio_s_bound_covers_what_it_says() -> None:
    chance = np.random.default_rng(7)
    bounds = [
        lower_ratio(Counts(chance.binomial(4000, 0.02), 4000), Counts(chance.binomial(20_000, 0.01), 20_000), 0.95)
        for _ in range(1000)
    ]
    assert np.mean([bound <= 2 for bound in bounds]) >= 0.94
    assert np.median(bounds) > 1.4


def test_the_ratio_of_nothing() -> None:
    assert lower_ratio(Counts(0, 100), Counts(5, 100), 0.99) == 0
    assert lower_ratio(Counts(0, 0), Counts(5, 100), 0.99) == 0
    assert lower_ratio(Counts(50, 100), Counts(0, 100_000), 0.99) > 100


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.025),
        ({"prevalence": 0.9}, 1.0),
        ({"objective": "recall>=0.9"}, None),
        ({"action": "review"}, None),
        ({"action": "review", "remove_objective": "precision>=0.5"}, 0.04),
        ({"action": "review", "remove_objective": "recall>=0.5"}, None),
    ],
)
def test_what_a_policy_promises_bounds_what_it_removes(changes: dict[str, object], expected: float | None) -> None:
    assert most_expected(rule(**changes)) == (None if expected is None else pytest.approx(expected))


def test_twice_the_rate_blows_it() -> None:
    evidence = blows(Counts(200, 10_000), Counts(1000, 100_000), RULE, FUSE)
    assert evidence is not None
    assert evidence["expected_by"] == "baseline"
    assert evidence["expected_rate"] == 0.01
    assert 1.25 < float(evidence["ratio_at_least"]) < 2


@pytest.mark.parametrize("removals", [0, 90, 100, 110, 125])
def test_the_expected_rate_does_not(removals: int) -> None:
    assert blows(Counts(removals, 10_000), Counts(1000, 100_000), RULE, FUSE) is None


def test_few_posts_show_nothing() -> None:
    assert blows(Counts(4, 100), Counts(1000, 100_000), RULE, FuseRules(min_posts=1)) is None
    assert blows(Counts(9_999, 9_999), Counts(1000, 100_000), RULE, FUSE) is None
    assert blows(Counts(9_999, 10_000), Counts(1000, 100_000), RULE, FUSE) is not None


def test_without_traffic_before_the_policy_says_what_is_expected() -> None:
    none = Counts(0, 0)
    assert blows(Counts(500, 10_000), none, RULE, FUSE) is not None
    assert blows(Counts(250, 10_000), none, RULE, FUSE) is None
    assert blows(Counts(9000, 10_000), none, rule(objective="recall>=0.5"), FUSE) is None


def test_a_steady_day_does_not_blow_it_and_a_doubled_rate_does_within_minutes() -> None:
    """25 posts a second in a region, looked at every minute; 1 % removed, then 2 %."""
    chance = np.random.default_rng(11)
    minutes = 1440
    posts = chance.poisson(1500, 3 * minutes)
    steady = chance.binomial(posts, 0.01)

    def looks(removals: np.ndarray, begin: int, end: int) -> list[int]:
        blown = []
        for minute in range(begin, end):
            window, before = slice(minute - 10, minute), slice(minute - 10 - minutes, minute - 10)
            seen = Counts(int(removals[window].sum()), int(posts[window].sum()))
            usual = Counts(int(removals[before].sum()), int(posts[before].sum()))
            if blows(seen, usual, RULE, FUSE):
                blown.append(minute)
        return blown

    assert looks(steady, minutes + 10, 3 * minutes) == []
    doubled = steady.copy()
    doubled[2 * minutes :] = chance.binomial(posts[2 * minutes :], 0.02)
    first = looks(doubled, 2 * minutes, 2 * minutes + 30)[0]
    assert first - 2 * minutes <= 10
