"""Metrics against scikit-learn, and intervals against what one knows of them."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_auc_score

from moderation.metrics import (
    Bools,
    Confusion,
    Floats,
    Interval,
    cluster_bootstrap,
    confusion,
    precision_interval,
    recall_interval,
    roc_auc,
)
from tests.moderation.properties import many

SEEDS = range(6)


def some_rows(seed: int, rows: int = 300) -> tuple[Bools, Floats, Floats]:
    """Truth, scores with ties, weights."""
    generator = np.random.default_rng(seed)
    truth = generator.random(rows) < 0.3
    scores: Floats = np.clip(generator.normal(0.4 + 0.2 * truth, 0.2), 0, 1).round(1)
    return truth, scores, 1 / generator.choice([0.1, 0.5, 1.0], rows)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_counts_precision_and_recall_are_those_of_scikit_learn(seed: int, weighted: bool) -> None:
    truth, scores, weights = some_rows(seed)
    flagged = scores >= 0.5
    given_weights = weights if weighted else None
    found = confusion(truth, flagged, given_weights)
    matrix = confusion_matrix(truth, flagged, sample_weight=given_weights)
    assert [found.true_negative, found.false_positive, found.false_negative, found.true_positive] == pytest.approx(
        matrix.ravel().tolist()
    )
    assert found.precision == pytest.approx(precision_score(truth, flagged, sample_weight=given_weights))
    assert found.recall == pytest.approx(recall_score(truth, flagged, sample_weight=given_weights))
    assert found.false_positive_rate == pytest.approx(1 - recall_score(~truth, ~flagged, sample_weight=given_weights))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_area_under_the_curve_is_that_of_scikit_learn(seed: int) -> None:
    truth, scores, _ = some_rows(seed)
    assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


@many
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=30))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    truth = np.array([harmful for harmful, _ in rows], dtype=bool)
    scores = np.array([score for _, score in rows], dtype=np.float64)
    area = roc_auc(truth, scores)
    pairs = [(high > low) + (high == low) / 2 for high in scores[truth] for low in scores[~truth]]
    if pairs:
        assert area == pytest.approx(sum(pairs) / len(pairs))
    else:
        assert np.isnan(area)


def test_weights_that_undo_the_sampling_describe_the_traffic() -> None:
    # Of the flagged rows all were labelled, of the others one in a hundred.
    truth = np.array([True] * 80 + [False] * 20 + [True] * 2 + [False] * 98)
    flagged = np.array([True] * 100 + [False] * 100)
    weights = np.where(flagged, 1.0, 100.0)
    assert confusion(truth, flagged).recall == pytest.approx(80 / 82)
    assert confusion(truth, flagged, weights).recall == pytest.approx(80 / 280)
    assert confusion(truth, flagged, weights).precision == pytest.approx(0.8)
    assert confusion(truth, flagged, weights).false_positive_rate == pytest.approx(20 / 9820)


def test_what_is_undefined_is_nan_and_not_zero() -> None:
    nothing = Confusion(0.0, 0.0, 0.0, 0.0)
    assert np.isnan([nothing.precision, nothing.recall, nothing.false_positive_rate]).all()
    nobody_flagged = confusion(np.array([True, False]), np.array([False, False]))
    assert np.isnan(nobody_flagged.precision)
    assert (nobody_flagged.recall, nobody_flagged.false_positive_rate) == (0.0, 0.0)


@pytest.mark.parametrize("truth", [[], [True, True], [False]])
def test_one_class_alone_has_no_area(truth: list[bool]) -> None:
    assert np.isnan(roc_auc(np.array(truth, dtype=bool), np.zeros(len(truth))))


def test_an_interval_is_rounded_for_json_and_null_stays_null() -> None:
    assert Interval(1 / 3, None, 1.0).as_dict() == {"value": 0.3333, "low": None, "high": 1.0}


def mean_of(values: Floats, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    return float(values[rows].mean())


def authors(rows: int, count: int) -> list[str]:
    return [f"a-{row % count}" for row in range(rows)]


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    truth, scores, weights = some_rows(0)
    flagged = scores >= 0.5
    first = precision_interval(truth, flagged, authors(300, 60), weights=weights, seed=3)
    again = precision_interval(truth, flagged, authors(300, 60), weights=weights, seed=3)
    other = precision_interval(truth, flagged, authors(300, 60), weights=weights, seed=4)
    assert first == again
    assert first.value == other.value
    assert (first.low, first.high) != (other.low, other.high)


def test_an_interval_lies_around_its_estimate_on_all_rows() -> None:
    truth, scores, weights = some_rows(1)
    flagged = scores >= 0.5
    precise = precision_interval(truth, flagged, authors(300, 100), weights=weights)
    recalled = recall_interval(truth, flagged, authors(300, 100))
    assert precise.value == pytest.approx(confusion(truth, flagged, weights).precision)
    assert recalled.value == pytest.approx(confusion(truth, flagged).recall)
    for interval in (precise, recalled):
        assert interval.low is not None
        assert interval.high is not None
        assert interval.value is not None
        assert 0 <= interval.low < interval.value < interval.high <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_an_interval_is_that_of_all_the_ways_to_draw_the_authors(seed: int) -> None:
    # Of five authors, with 1 to 4 rows each, all 5 ** 5 draws, each as likely as any other.
    generator = np.random.default_rng(seed)
    names = [f"a-{author}" for author in range(5) for _ in range(int(generator.integers(1, 5)))]
    values: Floats = generator.normal(size=len(names))
    rows = {name: np.flatnonzero(np.array(names) == name) for name in set(names)}
    every = [mean_of(values, np.concatenate([rows[name] for name in draw])) for draw in product(rows, repeat=5)]
    found = cluster_bootstrap(partial(mean_of, values), names, resamples=20_000, seed=seed)
    assert found.value == mean_of(values, np.arange(len(names)))
    spread = float(np.std(every))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=spread / 10)


def test_the_order_of_rows_and_the_names_of_authors_do_not_move_the_estimate() -> None:
    truth, scores, _ = some_rows(2)
    flagged, names = scores >= 0.5, authors(300, 50)
    order = np.random.default_rng(0).permutation(300)
    straight = recall_interval(truth, flagged, names)
    shuffled = recall_interval(truth[order], flagged[order], [names[row] for row in order])
    assert straight.value == shuffled.value
    assert straight.low == pytest.approx(shuffled.low)
    assert straight.high == pytest.approx(shuffled.high)


def test_authors_are_drawn_whole() -> None:
    sizes: set[int] = set()
    clusters = ["ann"] * 5 + ["bob"] * 3 + ["cem"]

    def statistic(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        counts = np.bincount(rows, minlength=9)
        assert len(set(counts[:5])) == len(set(counts[5:8])) == 1
        assert counts[0] + counts[5] + counts[8] in (1, 3)  # all rows once, or three authors
        sizes.add(len(rows))
        return 0.5

    assert cluster_bootstrap(statistic, clusters, resamples=200) == Interval(0.5, 0.5, 0.5)
    assert sizes == {9, 15, 13, 11, 7, 5, 3}


def test_posts_of_few_authors_say_less_than_posts_of_many() -> None:
    generator = np.random.default_rng(5)
    kind = generator.random(20) < 0.5
    truth = np.repeat(kind, 50)  # an author's posts are all alike
    flagged = np.ones(1000, dtype=bool)
    by_author = precision_interval(truth, flagged, [f"a-{row // 50}" for row in range(1000)])
    by_post = precision_interval(truth, flagged, [f"p-{row}" for row in range(1000)])
    assert by_author.value == by_post.value
    assert None not in (by_author.low, by_author.high, by_post.low, by_post.high)
    width = float(by_author.high or 0) - float(by_author.low or 0)
    assert width > 4 * (float(by_post.high or 0) - float(by_post.low or 0))


def test_higher_confidence_is_a_wider_interval() -> None:
    truth, _, _ = some_rows(3)
    values = truth.astype(np.float64)

    def bounds(confidence: float) -> Interval:
        return cluster_bootstrap(partial(mean_of, values), authors(300, 100), confidence=confidence, resamples=400)

    narrow, wide = bounds(0.5), bounds(0.99)
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert float(wide.low or 0) < float(narrow.low or 0) < float(narrow.high or 0) < float(wide.high or 0)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # 60 authors with 5 posts each, whose share of harm differs from author to author around 0.3.
    generator = np.random.default_rng(11)
    covered = 0
    rounds = 120
    for turn in range(rounds):
        tendency = generator.beta(3, 7, 60)
        truth = generator.random((60, 5)) < tendency[:, None]
        values = truth.ravel().astype(np.float64)
        names = [f"a-{row // 5}" for row in range(300)]
        interval = cluster_bootstrap(partial(mean_of, values), names, confidence=0.9, resamples=200, seed=turn)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0.3 <= interval.high
    assert 0.82 <= covered / rounds <= 0.97


def test_nothing_is_said_of_nothing() -> None:
    empty = np.zeros(0, dtype=bool)
    assert precision_interval(empty, empty, []) == Interval(None, None, None)
    assert cluster_bootstrap(lambda rows: float("nan"), ["a", "b"]) == Interval(None, None, None)


def test_an_estimate_that_most_resamples_cannot_repeat_has_no_interval() -> None:
    # One of three authors was flagged; without that author there is no precision. (2/3)**3 is 0.3: enough are left.
    flagged = np.array([True, False, False])
    harmful = np.array([True, False, False])
    assert precision_interval(harmful, flagged, ["a", "b", "c"]) == Interval(1.0, 1.0, 1.0)

    def rarely_defined(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        return 0.25 if len(set(rows.tolist())) == 3 else float("nan")

    # All three authors are drawn in 6 of 27 cases.
    assert cluster_bootstrap(rarely_defined, ["a", "b", "c"]) == Interval(0.25, None, None)
