"""From an objective to a threshold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.metrics import Bools, Floats
from moderation.models.operating import MAX_POINTS, Objective, OperatingCurve
from tests.moderation.properties import many

SEEDS = range(4)


def some_rows(seed: int, rows: int = 2000, harmful: float = 0.2) -> tuple[Bools, Floats]:
    generator = np.random.default_rng(seed)
    truth = generator.random(rows) < harmful
    return truth, 1 / (1 + np.exp(-(generator.normal(size=rows) + 2.5 * truth - 1.5)))


def promised(curve: OperatingCurve, threshold: float, prevalence: float) -> tuple[float, float]:
    """Precision and recall that a curve states for one of its thresholds."""
    place = curve.thresholds.index(threshold)
    recall, alarms = curve.recall[place], curve.false_positive_rate[place]
    return prevalence * recall / (prevalence * recall + (1 - prevalence) * alarms), recall


@pytest.mark.parametrize(
    ("text", "metric", "bound"),
    [
        ("precision>=0.95", "precision", 0.95),
        ("recall>=.5", "recall", 0.5),
        (" recall >= 0.001 ", "recall", 0.001),
        ("precision>=0.999", "precision", 0.999),
    ],
)
def test_an_objective_is_parsed_and_written_as_it_was_meant(text: str, metric: str, bound: float) -> None:
    objective = Objective.parse(text)
    assert (objective.metric, objective.bound) == (metric, bound)
    assert str(objective) == f"{metric}>={bound}"
    assert Objective.parse(str(objective)) == objective


@pytest.mark.parametrize("bound", ["0.9999999", "0.00001", "0.123456789"])
def test_an_objective_that_is_written_can_be_parsed_again(bound: str) -> None:
    objective = Objective.parse(f"precision>={bound}")
    assert objective.bound == float(bound)
    assert Objective.parse(str(objective)) == objective


@pytest.mark.parametrize(
    "text",
    [
        "", "precision", "precision>0.9", "precision>=", "precision>=1.5", "precision>=-0.5", "precision>=0.9x",
        "precision>=nan", "precision>=1e-3", "f1>=0.9", "Precision>=0.9", "precision>=0.9,recall>=0.5", "0.9",
    ],
)  # fmt: skip
def test_what_is_no_objective_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"it must look like 'precision>=0\.95' or 'recall>=0\.9'"):
        Objective.parse(text)


@pytest.mark.parametrize("text", ["precision>=0", "recall>=0.0", "precision>=1", "recall>=1.00"])
def test_a_bound_that_is_all_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must lie between 0 and 1, both excluded|it must look like"):
        Objective.parse(text)


def test_a_curve_of_four_rows_is_what_one_reckons_by_hand() -> None:
    truth = np.array([False, True, False, True])
    curve = OperatingCurve.measure(truth, np.array([0.1, 0.4, 0.6, 0.8]))
    assert curve.thresholds[:4] == (0.1, 0.4, 0.6, 0.8)
    assert 0.8 < curve.thresholds[4] < 0.8 + 1e-9
    # (k + 1/2) / (n + 1), as Jeffreys' prior has it
    assert curve.recall == pytest.approx((2.5 / 3, 2.5 / 3, 1.5 / 3, 1.5 / 3, 0.5 / 3))
    assert curve.false_positive_rate == pytest.approx((2.5 / 3, 1.5 / 3, 1.5 / 3, 0.5 / 3, 0.5 / 3))
    assert (curve.positives, curve.negatives) == (2, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rates_of_a_curve_are_those_of_the_rows(seed: int) -> None:
    truth, scores = some_rows(seed)
    curve = OperatingCurve.measure(truth, scores)
    assert (curve.positives, curve.negatives) == (int(truth.sum()), int((~truth).sum()))
    for threshold, recall, alarms in zip(curve.thresholds, curve.recall, curve.false_positive_rate, strict=True):
        flagged = scores >= threshold
        assert recall == pytest.approx((flagged[truth].sum() + 0.5) / (truth.sum() + 1))
        assert alarms == pytest.approx((flagged[~truth].sum() + 0.5) / ((~truth).sum() + 1))


@pytest.mark.parametrize(("rows", "values"), [(20, 20), (5000, 5000), (5000, 5), (300, 201)])
def test_a_curve_has_few_ascending_thresholds_and_falling_rates(rows: int, values: int) -> None:
    generator = np.random.default_rng(rows + values)
    scores = generator.choice(np.linspace(0, 1, values), rows)
    truth = generator.random(rows) < 0.5
    curve = OperatingCurve.measure(truth, scores)
    assert 2 <= len(curve.thresholds) <= MAX_POINTS
    assert all(low < high for low, high in pairwise(curve.thresholds))
    for rates in (curve.recall, curve.false_positive_rate):
        assert all(left >= right for left, right in pairwise(rates))
        assert 0 < rates[-1] <= rates[0] < 1


def test_the_harmless_rows_that_score_highest_are_all_on_the_curve() -> None:
    truth, scores = some_rows(1)
    curve = OperatingCurve.measure(truth, scores)
    assert set(np.sort(scores[~truth])[-10:].tolist()) <= set(curve.thresholds)


def test_single_precision_scores_are_flagged_like_their_curve_says() -> None:
    truth, scores = some_rows(2, rows=100)
    single = scores.astype(np.float32)
    curve = OperatingCurve.measure(truth, single.astype(np.float64))
    threshold = curve.threshold_for(Objective("recall", 0.5), prevalence=0.2)
    assert threshold is not None
    flagged = np.array([float(score) >= threshold for score in single])
    _, recall = promised(curve, threshold, 0.2)
    assert recall == pytest.approx((flagged[truth].sum() + 0.5) / (truth.sum() + 1))


@pytest.mark.parametrize("truth", [[True, True], [False, False], []])
def test_a_curve_needs_both_kinds_of_rows(truth: list[bool]) -> None:
    kinds = np.array(truth, dtype=bool)
    with pytest.raises(ValueError, match="at least one of each is needed"):
        OperatingCurve.measure(kinds, np.zeros(len(truth)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("prevalence", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("bound", [0.3, 0.8])
def test_a_threshold_meets_its_precision_with_the_most_recall(seed: int, prevalence: float, bound: float) -> None:
    curve = OperatingCurve.measure(*some_rows(seed))
    stated = [promised(curve, threshold, prevalence) for threshold in curve.thresholds]
    reachable = [recall for precision, recall in stated if precision >= bound]
    threshold = curve.threshold_for(Objective("precision", bound), prevalence=prevalence)
    assert (threshold is None) == (not reachable)
    if threshold is not None:
        precision, recall = promised(curve, threshold, prevalence)
        assert precision >= bound
        assert recall == max(reachable)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bound", [0.2, 0.5, 0.9, 0.99])
def test_a_threshold_meets_its_recall(seed: int, bound: float) -> None:
    curve = OperatingCurve.measure(*some_rows(seed))
    threshold = curve.threshold_for(Objective("recall", bound), prevalence=0.1)
    assert threshold is not None
    assert promised(curve, threshold, 0.1)[1] >= bound


def test_a_threshold_for_recall_has_the_best_precision_there_is() -> None:
    # Six harmful and five harmless rows score highest: reaching down to 0.8 adds four harmful ones and no alarm.
    truth = np.array([True] * 6 + [False] * 5 + [True] * 4 + [False] * 20)
    scores = np.concatenate([np.full(11, 0.9), np.full(4, 0.8), np.linspace(0.1, 0.5, 20)])
    curve = OperatingCurve.measure(truth, scores)
    assert curve.threshold_for(Objective("recall", 0.5), prevalence=0.5) == 0.8


@many
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=40), st.integers(1, 19))
def test_no_threshold_that_meets_a_recall_is_more_precise_than_the_chosen_one(
    rows: list[tuple[bool, int]], twentieths: int
) -> None:
    truth = np.array([True, False, *(harmful for harmful, _ in rows)])
    scores = np.array([0.5, 0.5, *(score / 12 for _, score in rows)])
    curve = OperatingCurve.measure(truth, scores)
    objective = Objective("recall", twentieths / 20)
    threshold = curve.threshold_for(objective, prevalence=0.3)
    stated = [promised(curve, each, 0.3) for each in curve.thresholds]
    reachable = [precision for precision, recall in stated if recall >= objective.bound]
    assert threshold is not None
    assert curve.meets(objective, prevalence=0.3) == bool(reachable)
    if reachable:
        assert promised(curve, threshold, 0.3)[0] == pytest.approx(max(reachable))
    else:
        assert threshold == curve.thresholds[0]


def test_a_precision_out_of_reach_has_no_threshold_and_such_a_recall_the_lowest() -> None:
    truth = np.array([True, False] * 10)
    curve = OperatingCurve.measure(truth, np.tile([0.9, 0.1], 10))
    assert curve.threshold_for(Objective("precision", 0.99), prevalence=0.01) is None  # few rows cannot promise much
    assert curve.threshold_for(Objective("recall", 0.99), prevalence=0.5) == 0.1
    assert not curve.meets(Objective("recall", 0.99), prevalence=0.5)
    assert curve.meets(Objective("precision", 0.9), prevalence=0.5)
    assert curve.threshold_for(Objective("precision", 0.9), prevalence=0.5) == 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_that_know_nothing_meet_no_precision_above_the_prevalence(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = np.arange(2000) < 40
    curve = OperatingCurve.measure(truth, np.where(truth, 0.9, 1.0) * generator.random(2000))
    assert promised(curve, curve.thresholds[-1], 0.3)[0] > 0.8  # of no row at all
    assert curve.threshold_for(Objective("precision", 0.8), prevalence=0.3) is None


def test_one_harmful_row_that_is_caught_may_be_enough() -> None:
    curve = OperatingCurve.measure(np.array([True] + [False] * 99), np.array([0.9, *np.linspace(0, 0.5, 99)]))
    assert curve.threshold_for(Objective("precision", 0.99), prevalence=0.5) == 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_more_precision_never_lowers_the_threshold(seed: int) -> None:
    curve = OperatingCurve.measure(*some_rows(seed))
    found = [curve.threshold_for(Objective("precision", bound), prevalence=0.1) for bound in np.arange(0.15, 1, 0.05)]
    reached = [threshold for threshold in found if threshold is not None]
    assert len(reached) > 5
    assert reached == sorted(reached)
    assert found[: len(reached)] == reached  # what is out of reach stays so beyond


@pytest.mark.parametrize("seed", SEEDS)
def test_more_recall_never_raises_the_threshold(seed: int) -> None:
    curve = OperatingCurve.measure(*some_rows(seed))
    found = [curve.threshold_for(Objective("recall", bound), prevalence=0.1) for bound in np.arange(0.05, 0.95, 0.05)]
    reached = [threshold for threshold in found if threshold is not None]
    assert len(reached) == len(found)
    assert reached == sorted(reached, reverse=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_rarer_harm_needs_a_higher_threshold(seed: int) -> None:
    curve = OperatingCurve.measure(*some_rows(seed))
    objective = Objective("precision", 0.5)
    thresholds = [curve.threshold_for(objective, prevalence=prevalence) for prevalence in (0.5, 0.2, 0.1, 0.05)]
    assert None not in thresholds
    assert thresholds == sorted(threshold for threshold in thresholds if threshold is not None)
    assert thresholds[0] != thresholds[-1]


def test_the_promised_precision_is_kept_on_traffic_of_that_prevalence() -> None:
    curve = OperatingCurve.measure(*some_rows(0, rows=20_000, harmful=0.5))
    threshold = curve.threshold_for(Objective("precision", 0.7), prevalence=0.1)
    assert threshold is not None
    truth, scores = some_rows(99, rows=200_000, harmful=0.1)
    assert truth[scores >= threshold].mean() == pytest.approx(0.7, abs=0.03)


def test_curves_are_told_apart_by_identity() -> None:
    truth, scores = some_rows(0, rows=50)
    first, second = OperatingCurve.measure(truth, scores), OperatingCurve.measure(truth, scores)
    assert first != second
    assert len({first, second, first}) == 2
