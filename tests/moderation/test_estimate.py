"""Inverse-probability weighting against populations whose truth is known, and its intervals' coverage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.estimate import Drawn, Population, Reviewers, Share, corrected, harmful_share, proportion
from moderation.metrics import Interval
from tests.benchmarks.prevalence import replay


def posts(number: float) -> Population:
    return Population(number, number)


def drawn(*rows: tuple[str, float, float, bool | None]) -> Drawn:
    """Rows of decision, probability, size and verdict; None: not judged."""
    decision, probability, size, verdict = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Drawn(
        np.array(decision, dtype=str),
        np.array(probability, dtype=float),
        np.array(size, dtype=float),
        np.array([said is not None for said in verdict], dtype=bool),
        np.array([bool(said) for said in verdict], dtype=bool),
    )


def some(
    decision: str, probability: float, verdicts: Sequence[bool | None]
) -> list[tuple[str, float, float, bool | None]]:
    return [(decision, probability, 1.0, verdict) for verdict in verdicts]


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def value(share: Share) -> float:
    assert share.interval.value is not None
    return share.interval.value


def test_a_census_is_the_truth_without_any_width() -> None:
    share = harmful_share({"review": posts(10)}, drawn(*some("review", 1.0, [True] * 3 + [False] * 7)))
    assert share.interval == Interval(pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.3))
    assert (share.drawn, share.judged, share.positive, share.unknown) == (10, 10, 3, 0)


def test_a_draw_stands_for_as_many_posts_as_its_probability_says() -> None:
    rows = drawn(*some("allow", 0.5, [True] * 5 + [False] * 5), *some("allow", 0.01, [False] * 10))
    share = harmful_share({"allow": posts(1020)}, rows)
    # 10 / 0.5 = 20 uncertain posts, half harmful; 1,000 others, none harmful.
    assert value(share) == pytest.approx(10 / 1020, rel=1e-6)


def test_sizes_are_calibrated_to_what_is_known_and_the_rare_draw_gives_way() -> None:
    rows = drawn(*some("allow", 0.5, [True] * 50), *some("allow", 0.01, [False] * 10))
    share = harmful_share({"allow": posts(2000)}, rows)
    # About 100 posts by the frequent draw, whatever the rare one happened to catch of the other 1,900.
    assert value(share) == pytest.approx(100 / 2000, rel=0.02)


def test_impressions_weigh_the_posts() -> None:
    rows = drawn(("allow", 1.0, 900.0, True), ("allow", 1.0, 50.0, False), ("allow", 1.0, 50.0, False))
    share = harmful_share({"allow": Population(1000, 900**2 + 2 * 50**2)}, rows)
    assert share.interval == Interval(pytest.approx(0.9), pytest.approx(0.9), pytest.approx(0.9))


def test_no_positive_does_not_mean_none() -> None:
    low, high = ends(harmful_share({"allow": posts(10_000)}, drawn(*some("allow", 0.01, [False] * 100))).interval)
    assert low == 0
    # The rule of three, two-sided: 3.7 / 100.
    assert high == pytest.approx(0.0362 * 0.99, rel=0.02)


def test_more_draws_make_it_narrower() -> None:
    widths = []
    for number in (100, 400, 1600):
        verdicts = [index % 20 == 0 for index in range(number)]
        low, high = ends(
            harmful_share({"allow": posts(20_000)}, drawn(*some("allow", number / 20_000, verdicts))).interval
        )
        widths.append(high - low)
    assert all(after < before * 0.62 for before, after in pairwise(widths))


def test_what_nobody_judged_takes_the_value_away_and_not_the_bounds() -> None:
    populations = {"allow": posts(900), "remove": posts(100)}
    share = harmful_share(populations, drawn(*some("allow", 1.0, [False] * 900)))
    assert share.interval == Interval(None, 0.0, pytest.approx(0.1))
    assert share.unknown == pytest.approx(0.1)


def test_drawn_but_not_judged_is_unknown_too() -> None:
    share = harmful_share({"allow": posts(10)}, drawn(*some("allow", 0.5, [None] * 5)))
    assert share.interval == Interval(None, 0.0, 1.0)
    assert (share.drawn, share.judged) == (5, 0)


def test_nothing_drawn_is_unknown_and_nothing_there_is_nothing() -> None:
    assert harmful_share({"allow": posts(10)}, drawn()).interval == Interval(None, 0.0, 1.0)
    assert harmful_share({}, drawn()).interval == Interval(None, None, None)
    assert harmful_share({"allow": posts(0)}, drawn()).unknown is None


def test_missing_verdicts_make_the_interval_wider_and_leave_the_value() -> None:
    verdicts: list[bool | None] = [index % 10 == 0 for index in range(200)]
    full = harmful_share({"allow": posts(2000)}, drawn(*some("allow", 0.1, verdicts)))
    half = harmful_share({"allow": posts(2000)}, drawn(*some("allow", 0.1, verdicts[:100] + [None] * 100)))
    assert value(half) == pytest.approx(value(full))
    assert ends(half.interval)[1] > ends(full.interval)[1] * 1.15


def test_a_census_with_missing_verdicts_is_a_sample() -> None:
    share = harmful_share({"review": posts(100)}, drawn(*some("review", 1.0, [True] * 25 + [False] * 25 + [None] * 50)))
    low, high = ends(share.interval)
    assert low < 0.42
    assert high > 0.58


def test_a_rule_of_which_nothing_was_drawn_here_is_unknown_here() -> None:
    rows = drawn(*some("allow", 0.2, [True, False, False, False]))
    populations = {"allow": posts(200)}
    alone = harmful_share(populations, rows)
    told = harmful_share(populations, rows, rules={"allow": np.array([0.2, 0.01])})
    assert value(alone) == pytest.approx(0.25)
    # 4 / 0.2 = 20 of the 200 are of the frequent draw; of the others nothing is known.
    assert told.interval.value is None
    assert told.unknown == pytest.approx(0.9)


def test_the_few_that_most_people_saw_may_have_been_missed() -> None:
    rows = drawn(*[("allow", 0.1, 1.0 + index % 2, False) for index in range(200)])
    even = harmful_share({"allow": Population(3000, 5000)}, rows)
    viral = harmful_share({"allow": Population(3000, 1_000_000)}, rows)
    assert ends(viral.interval)[1] > 5 * ends(even.interval)[1]


def test_erring_reviewers_are_corrected() -> None:
    # 10 % harmful: 0.9 x 10 + 0.05 x 90 = 13.5 % are called harmful.
    rows = drawn(*some("allow", 0.1, [index < 270 for index in range(2000)]))
    share = harmful_share({"allow": posts(20_000)}, rows, Reviewers(0.9, 0.95))
    assert value(share) == pytest.approx(0.1)
    low, high = ends(share.interval)
    assert low < 0.1 < high
    assert high - low < 0.05


def test_reviewers_measured_on_few_posts_widen_it() -> None:
    apparent = Interval(0.135, 0.12, 0.15)
    widths = []
    for number in (None, 1000, 50):
        low, high = ends(corrected(apparent, Reviewers(0.9, 0.95, number, number)))
        widths.append(high - low)
    assert widths[0] < widths[1] < widths[2]


def test_no_error_on_few_posts_is_not_no_error() -> None:
    low, high = ends(corrected(Interval(0.02, 0.01, 0.03), Reviewers(1.0, 1.0, 50, 50)))
    # A specificity of 0.93 would explain all of it, and cannot be excluded.
    assert low == 0
    assert 0.03 <= high < 0.04


def test_reviewers_whose_word_says_nothing_leave_nothing() -> None:
    rows = drawn(*some("allow", 1.0, [True, False]))
    assert harmful_share({"allow": posts(2)}, rows, Reviewers(0.5, 0.5)).interval == Interval(None, None, None)


def test_fewer_called_harmful_than_errors_explain_is_chance_and_not_certainty() -> None:
    rows = drawn(*some("allow", 0.01, [False] * 400))
    interval = harmful_share({"allow": posts(40_000)}, rows, Reviewers(0.9, 0.97)).interval
    low, high = ends(interval)
    assert (interval.value, low) == (0, 0)
    assert high > 0.005


def test_perfect_reviewers_change_nothing() -> None:
    rows = drawn(
        *some("allow", 0.2, [index % 9 == 0 for index in range(90)]), *some("remove", 0.5, [True] * 8 + [False])
    )
    populations = {"allow": posts(450), "remove": posts(18)}
    plain, told = harmful_share(populations, rows), harmful_share(populations, rows, Reviewers(1.0, 1.0))
    assert ends(told.interval) == pytest.approx(ends(plain.interval))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["allow", "review", "remove"]),
            st.sampled_from([0.01, 0.1, 0.5, 1.0]),
            st.integers(0, 10**6).map(float),
            st.sampled_from([True, False, None]),
        ),
        max_size=40,
    ),
    st.floats(1, 100),
    st.sampled_from([None, Reviewers(0.9, 0.95), Reviewers(0.8, 0.99, 40, 60)]),
)
def test_whatever_is_drawn_the_interval_is_one(
    rows: list[tuple[str, float, float, bool | None]], more: float, reviewers: Reviewers | None
) -> None:
    populations = {}
    for name in ("allow", "review", "remove"):
        sizes = [size for decision, _, size, _ in rows if decision == name]
        populations[name] = Population(sum(sizes) * more, sum(size**2 for size in sizes) * more)
    interval = harmful_share(populations, drawn(*rows), reviewers).interval
    if interval.low is not None and interval.high is not None:
        assert 0 <= interval.low <= interval.high <= 1 + 1e-9
        if interval.value is not None:
            assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9


@pytest.mark.parametrize(("positive", "rows"), [(0, 10), (10, 10), (3, 10), (1, 1000)])
def test_the_exact_interval_holds_by_definition(positive: int, rows: int) -> None:
    from scipy.stats import binom

    low, high = ends(proportion(positive, rows))
    if positive > 0:
        assert binom.sf(positive - 1, rows, low) == pytest.approx(0.025, rel=1e-6)
    if positive < rows:
        assert binom.cdf(positive, rows, high) == pytest.approx(0.025, rel=1e-6)


def test_of_no_rows_no_proportion_is_known() -> None:
    assert proportion(0, 0) == Interval(None, None, None)


@pytest.mark.parametrize("prevalence", [0.01, 0.03])
def test_in_93_of_100_replayed_days_the_interval_holds_the_truth(prevalence: float) -> None:
    found = replay(range(2026, 2126), prevalence)
    for name in (
        "true_reviewers",
        "erring_reviewers",
        "measured_reviewers",
        "impressions",
        "impressions_erring_reviewers",
    ):
        assert found[name]["coverage"] >= 0.93, name
    # Not by being so wide that it says nothing.
    assert found["true_reviewers"]["width"] < 0.02
    assert found["naive"]["coverage"] < 0.5
