"""How good a classifier is: precision, recall and their kin, with intervals that respect who wrote the posts.

Every function takes one label's arrays of equal length. Rows may carry weights: the inverse of the probability with
which a row was drawn for labelling (Horvitz and Thompson, 1952), so that a rate describes the traffic, not the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        value: the point estimate; None where it is undefined (a precision without a flagged row).
        low: lower end, or None.
        high: upper end, or None.
    """

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, rounded to four digits."""
        return {
            name: None if number is None else round(number, 4)
            for name, number in (("value", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weighted counts of a confusion matrix."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float

    @property
    def precision(self) -> float:
        """Share of flagged rows that are harmful; NaN if none is flagged."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of harmful rows that are flagged; NaN if none is harmful."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def false_positive_rate(self) -> float:
        """Share of harmless rows that are flagged; NaN if none is harmless."""
        return _ratio(self.false_positive, self.false_positive + self.true_negative)


def confusion(truth: Bools, flagged: Bools, weights: Floats | None = None) -> Confusion:
    """The confusion matrix of one label.

    Args:
        truth: whether each row is harmful, shape (rows,).
        flagged: whether it was flagged, shape (rows,).
        weights: what each row counts; None: 1, shape (rows,).

    Example:
        >>> found = confusion(np.array([True, True, True, False]), np.array([True, True, False, True]))
        >>> round(found.precision, 3), round(found.recall, 3)
        (0.667, 0.667)
    """
    weights = np.ones(len(truth)) if weights is None else weights
    return Confusion(
        true_positive=float(weights[truth & flagged].sum()),
        false_positive=float(weights[~truth & flagged].sum()),
        false_negative=float(weights[truth & ~flagged].sum()),
        true_negative=float(weights[~truth & ~flagged].sum()),
    )


def roc_auc(truth: Bools, scores: Floats) -> float:
    """Area under the ROC curve, ties counted half (Mann and Whitney, 1947); NaN if one class is missing.

    Example:
        >>> roc_auc(np.array([True, False, True, False]), np.array([0.9, 0.7, 0.6, 0.1]))
        0.75
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def cluster_bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    clusters: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over whole clusters (Efron and Tibshirani, 1993): one author's posts stand or fall together.

    Args:
        statistic: of row numbers, drawn with repetition, to a number or NaN.
        clusters: the cluster (author) of each row.
        confidence: coverage aimed at, in (0, 1).
        resamples: how many times clusters are drawn anew.
        seed: of the draw; the same seed gives the same interval.

    Returns:
        The estimate on all rows and its interval; an undefined estimate, or too few defined resamples, give None.
    """
    if not clusters:
        return Interval(None, None, None)
    names, membership = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    order = np.argsort(membership, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(membership))[:-1])
    value = statistic(np.arange(len(clusters)))
    if np.isnan(value):
        return Interval(None, None, None)
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for index in range(resamples):
        chosen = generator.integers(0, len(names), len(names))
        drawn[index] = statistic(np.concatenate([members[cluster] for cluster in chosen]))
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) < resamples / 2:
        return Interval(value, None, None)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def precision_interval(
    truth: Bools, flagged: Bools, clusters: Sequence[str], *, weights: Floats | None = None, seed: int = 0
) -> Interval:
    """Precision with a 95 % cluster-bootstrap interval."""
    return cluster_bootstrap(_statistic("precision", truth, flagged, weights), clusters, seed=seed)


def recall_interval(
    truth: Bools, flagged: Bools, clusters: Sequence[str], *, weights: Floats | None = None, seed: int = 0
) -> Interval:
    """Recall with a 95 % cluster-bootstrap interval."""
    return cluster_bootstrap(_statistic("recall", truth, flagged, weights), clusters, seed=seed)


def _statistic(
    name: str, truth: Bools, flagged: Bools, weights: Floats | None
) -> Callable[[npt.NDArray[np.int64]], float]:
    weights = np.ones(len(truth)) if weights is None else weights

    def statistic(rows: npt.NDArray[np.int64]) -> float:
        return float(getattr(confusion(truth[rows], flagged[rows], weights[rows]), name))

    return statistic


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """How far two raters agree beyond chance (Cohen, 1960): 1 always, 0 as chance would have it, below 0 less.

    Args:
        pairs: what each of two raters said, an item a pair.

    Returns:
        None where it is undefined: no pairs, or both always said the same one thing.
    """
    if not pairs:
        return None
    values = {value for pair in pairs for value in pair}
    count = len(pairs)
    observed = sum(one == other for one, other in pairs) / count
    chance = sum(
        sum(one == value for one, _ in pairs) * sum(other == value for _, other in pairs) for value in values
    ) / (count * count)
    return None if chance == 1 else (observed - chance) / (1 - chance)
