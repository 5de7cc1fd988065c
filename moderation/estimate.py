"""How much harm there is, from the posts that people looked at: inverse-probability weighting, with 95 % intervals.

The population is finite: the posts (or the impressions) of a window. Some of its posts are drawn for review, each by a
coin of its own with a known probability, and what the reviewers say of a drawn post stands for `1 / probability` posts
(Horvitz and Thompson, 1952). What was decided (allow, review, remove) is known of every post, so each decision's posts
are counted, not estimated, and the weights are calibrated to the counts (Deville and Sarndal, 1992).

The interval is made for few positives, where the normal one fails: in each stratum (a decision, and draws of about the
same probability) an exact binomial interval on the effective number of posts (Clopper and Pearson, 1934; Korn and
Graubard, 1998), and the strata put together by their half-widths (Zou, Huang and Zhang, 2009). It is valid with no
positives at all, and rather too wide than too narrow.

Reviewers err. Where it is known how often, the share that they call harmful is turned into the share that is (Rogan and
Gladen, 1978), and what is uncertain about their errors widens the interval.

All functions are pure; arrays are of equal length, a row a drawn post.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.metrics import Bools, Floats, Interval

Z95 = 1.959963984540054
_ALPHA = 0.05
_UNKNOWN = Interval(None, None, None)


@dataclass(frozen=True, slots=True)
class Population:
    """What is known of all posts of a decision.

    Attributes:
        size: sum of their sizes: the number of posts, or of their impressions.
        squares: sum of the squared sizes; equal to `size` where every post counts as one.
    """

    size: float
    squares: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """Posts that were drawn for review.

    Attributes:
        decision: of each post; a key of the populations, shape (n,).
        probability: with which it was drawn, in (0, 1], shape (n,).
        size: what it counts: 1, or its impressions, shape (n,).
        judged: whether a verdict is there, shape (n,).
        harmful: what the verdict says; without meaning where there is none, shape (n,).
    """

    decision: npt.NDArray[np.str_]
    probability: Floats
    size: Floats
    judged: Bools
    harmful: Bools


@dataclass(frozen=True, slots=True)
class Reviewers:
    """How often reviewers are right, as measured on posts whose truth is known.

    Attributes:
        sensitivity: share of harmful posts that they call harmful.
        specificity: share of harmless posts that they call harmless.
        harmful: number of harmful posts that this was measured on; None: the rate is known exactly.
        harmless: likewise.
    """

    sensitivity: float
    specificity: float
    harmful: int | None = None
    harmless: int | None = None

    @property
    def informative(self) -> float:
        """Youden's index; 0: verdicts say nothing of the truth."""
        return self.sensitivity + self.specificity - 1


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share of a population.

    Attributes:
        interval: the share and its 95 % interval. No value, yet bounds: of some of the population nothing is known.
        drawn: number of posts drawn.
        judged: number of those that have a verdict.
        positive: number of those that were called harmful.
        unknown: share of the population in strata without any verdict.
    """

    interval: Interval
    drawn: int
    judged: int
    positive: int
    unknown: float | None


@dataclass(frozen=True, slots=True)
class _Stratum:
    """Draws of about the same probability among the posts of a decision."""

    share: float
    """Of the whole population, as calibrated."""
    positive: float | None
    """Called harmful, in [0, 1]; None: nobody has judged any."""
    low: float
    high: float


def harmful_share(
    populations: Mapping[str, Population],
    drawn: Drawn,
    reviewers: Reviewers | None = None,
    *,
    rules: Mapping[str, Floats] | None = None,
) -> Share:
    """Estimate which share of a population is harmful.

    Verdicts that are not there yet are taken to be missing at random within their stratum.

    Args:
        populations: by decision.
        drawn: from them.
        reviewers: how often they err; None: what they say is taken for the truth.
        rules: by decision, the probabilities with which posts like these are drawn; None: those of `drawn`. For a part
            of a population: posts that are drawn seldom are in it even where none of them was drawn.

    Returns:
        The share. Decisions of which no verdict is known enter the bounds as anything between all and none harmful, and
        take the value away. Reviewers who say nothing of the truth, or an empty population, give no bounds either.

    Example:
        Of 1,000 posts that were allowed 100 were drawn, one in ten, and 2 of these were called harmful.

        >>> drawn = Drawn(
        ...     decision=np.full(100, "allow"),
        ...     probability=np.full(100, 0.1),
        ...     size=np.ones(100),
        ...     judged=np.full(100, True),
        ...     harmful=np.arange(100) < 2,
        ... )
        >>> harmful_share({"allow": Population(size=1000, squares=1000)}, drawn).interval.as_dict()
        {'value': 0.02, 'low': 0.0028, 'high': 0.0666}
    """
    total = sum(population.size for population in populations.values())
    judged = drawn.judged
    counts = (len(drawn.judged), int(judged.sum()), int((drawn.harmful & judged).sum()))
    if total <= 0:
        return Share(_UNKNOWN, *counts, None)
    strata: list[_Stratum] = []
    wobble = 0.0
    for name, population in populations.items():
        if population.size > 0:
            rule = np.array([]) if rules is None else rules.get(name, np.array([]))
            part = _only(drawn, drawn.decision == name)
            found, variance = _of_decision(population, part, rule, total, reviewers)
            strata += found
            wobble += variance
    unknown = sum(stratum.share for stratum in strata if stratum.positive is None)
    apparent = _together(strata, wobble)
    interval = apparent if reviewers is None else corrected(apparent, reviewers, known=1 - unknown)
    if unknown > 0 and interval.low is not None and interval.high is not None:
        interval = Interval(None, interval.low, min(1.0, interval.high + unknown))
    return Share(interval, *counts, unknown)


def corrected(apparent: Interval, reviewers: Reviewers, *, known: float = 1.0) -> Interval:
    """From the share that reviewers call harmful to the share that is (Rogan and Gladen, 1978).

    The uncertainty of their rates is added by the half-widths of exact intervals (Zou and Donner, 2008), which are
    longer on the side where a measured rate can be wrong: no error on n posts is not taken for none at all.

    Args:
        apparent: share called harmful, with its interval.
        reviewers: how often they err.
        known: share of the population that the apparent one was measured on.
    """
    index = reviewers.informative
    if index <= 0 or apparent.value is None or apparent.low is None or apparent.high is None:
        return _UNKNOWN

    def right(share: float) -> float:
        return (share - (1 - reviewers.specificity) * known) / index

    value, low, high = right(apparent.value), right(apparent.low), right(apparent.high)
    middle = min(max(value, 0.0), known)
    by_sensitivity = _half_widths(reviewers.sensitivity, reviewers.harmful)
    by_specificity = _half_widths(reviewers.specificity, reviewers.harmless)
    # The share falls as the sensitivity grows, and grows with the specificity.
    below = value - low, middle / index * by_sensitivity[1], (known - middle) / index * by_specificity[0]
    above = high - value, middle / index * by_sensitivity[0], (known - middle) / index * by_specificity[1]
    # From the share within its bounds: one far below 0 is chance, and would leave an interval of no width at all.
    ends = min(value, known) - math.hypot(*below), max(value, 0.0) + math.hypot(*above)
    low, high = (min(max(end, 0.0), known) for end in ends)
    return Interval(middle, low, high)


def proportion(positive: float, rows: float) -> Interval:
    """A binomial proportion with its exact 95 % interval (Clopper and Pearson, 1934).

    Args:
        positive: number of successes; need not be whole.
        rows: number of trials; 0: nothing is known.

    Example:
        >>> proportion(0, 100).as_dict()  # none of a hundred is not none at all
        {'value': 0.0, 'low': 0.0, 'high': 0.0362}
    """
    if rows <= 0:
        return _UNKNOWN
    from scipy.special import betaincinv  # late: it takes half a second to import, and most commands need it not

    low = 0.0 if positive <= 0 else float(betaincinv(positive, rows - positive + 1, _ALPHA / 2))
    high = 1.0 if positive >= rows else float(betaincinv(positive + 1, rows - positive, 1 - _ALPHA / 2))
    return Interval(positive / rows, low, high)


def _only(drawn: Drawn, rows: Bools) -> Drawn:
    return Drawn(
        drawn.decision[rows], drawn.probability[rows], drawn.size[rows], drawn.judged[rows], drawn.harmful[rows]
    )


def _of_decision(
    population: Population, drawn: Drawn, rule: Floats, total: float, reviewers: Reviewers | None
) -> tuple[list[_Stratum], float]:
    """The strata of a decision, and the variance that comes of not knowing how many posts each holds."""
    levels = np.unique(_level(drawn.probability))
    groups = [_only(drawn, _level(drawn.probability) == level) for level in levels]
    complete = bool(np.isin(_level(rule), levels).all())
    sizes, variances = _calibrated(population.size, groups, complete=complete)
    strata = [
        _stratum(group, float(size), population, total, reviewers) for group, size in zip(groups, sizes, strict=True)
    ]
    left = population.size - float(sizes.sum())
    if left > 1e-9 * population.size:  # of what is no draw's
        strata.append(_Stratum(left / total, None, 0.0, 1.0))
    rates = np.array([0.0 if stratum.positive is None else stratum.positive for stratum in strata[: len(groups)]])
    wobble = 0.0
    if variances.sum() > 0:
        wobble = float((rates**2 * variances).sum() - (rates * variances).sum() ** 2 / variances.sum())
    return strata, max(0.0, wobble) / total**2


def _level(probability: Floats) -> npt.NDArray[np.int64]:
    """Draws whose probabilities differ by less than about a factor of the square root of 2 share a stratum."""
    levels: npt.NDArray[np.int64] = np.round(-2 * np.log2(probability)).astype(np.int64)
    return levels


def _calibrated(size: float, groups: list[Drawn], *, complete: bool) -> tuple[Floats, Floats]:
    """How large each group's part of a decision is, so that all make up `size`, and with which variance before that.

    The estimate of each is moved by its share of the variance: what is drawn rarely gives way, what is drawn always
    does not. Where there are posts of which none was drawn (not `complete`), what is left is theirs.
    """
    sizes = np.array([float((group.size / group.probability).sum()) for group in groups])
    variances = np.array(
        [float((group.size**2 * (1 - group.probability) / group.probability**2).sum()) for group in groups]
    )
    if complete and variances.sum() > 0:
        sizes = np.maximum(sizes + variances / variances.sum() * (size - sizes.sum()), 0.0)
    if sizes.sum() > size:
        sizes *= size / sizes.sum()
    return sizes, variances


def _stratum(drawn: Drawn, size: float, population: Population, total: float, reviewers: Reviewers | None) -> _Stratum:
    share = size / total
    rows = _only(drawn, drawn.judged)
    weights = rows.size / rows.probability
    if weights.sum() <= 0:
        return _Stratum(share, None, 0.0, 1.0)
    rate = float(weights[rows.harmful].sum() / weights.sum())
    # Verdicts that are missing make the draw a smaller one.
    answered = len(rows.judged) / len(drawn.judged)
    probability = min(1.0, float(np.mean(rows.probability)) * answered)
    effective = _effective(rows, weights, rate, probability * size * population.size / population.squares)
    fixed = min(1.0, probability * _known_part(rate, reviewers, effective))
    if fixed >= 1 - 1e-12:  # every post was judged, and truly
        return _Stratum(share, rate, rate, rate)
    bounds = proportion(rate * effective / (1 - fixed), effective / (1 - fixed))
    assert bounds.low is not None
    assert bounds.high is not None
    return _Stratum(share, rate, bounds.low, bounds.high)


def _effective(rows: Drawn, weights: Floats, rate: float, expected: float) -> float:
    """How many posts of equal size the judged ones are worth, the least by three ways of counting.

    By their weights (Kish, 1965); by the sizes of all posts (`expected`), as the draw may have missed the few that
    matter most; and by how far the harmful ones' weights stray (Korn and Graubard, 1998), where there are some.
    """
    ways = [float(weights.sum() ** 2 / (weights**2).sum())]
    if np.ptp(rows.size) > 0:
        ways.append(expected)
    residuals = weights * (rows.harmful - rate)
    if 0 < rate < 1 and rows.harmful.sum() >= 2:
        ways.append(rate * (1 - rate) * float(weights.sum() ** 2 / (residuals**2).sum()))
    return max(min(ways), 1e-9)


def _known_part(rate: float, reviewers: Reviewers | None, rows: float) -> float:
    """Which part of the verdicts' variance is the posts' own: a post that was judged truly is known for good."""
    if reviewers is None:
        return 1.0
    index = reviewers.informative
    if index <= 0:
        return 0.0
    smooth = (rate * rows + 0.5) / (rows + 1)
    truth = min(max((smooth - (1 - reviewers.specificity)) / index, 0.0), 1.0)
    return min(1.0, truth * (1 - truth) * index**2 / (smooth * (1 - smooth)))


def _together(strata: list[_Stratum], wobble: float) -> Interval:
    known = [stratum for stratum in strata if stratum.positive is not None]
    if not known:
        return Interval(0.0, 0.0, 0.0)  # of no part: all of it is unknown, which the caller adds
    value = low = high = 0.0
    for stratum in known:
        assert stratum.positive is not None
        value += stratum.share * stratum.positive
        low += (stratum.share * (stratum.positive - stratum.low)) ** 2
        high += (stratum.share * (stratum.high - stratum.positive)) ** 2
    wobble *= Z95**2
    whole = sum(stratum.share for stratum in known)
    return Interval(value, max(0.0, value - math.sqrt(low + wobble)), min(whole, value + math.sqrt(high + wobble)))


def _half_widths(rate: float, rows: int | None) -> tuple[float, float]:
    """How far below and above a measured rate its exact interval reaches; none where it is known exactly."""
    if rows is None:
        return 0.0, 0.0
    bounds = proportion(rate * rows, rows)
    if bounds.low is None or bounds.high is None:
        return rate, 1 - rate
    return rate - bounds.low, bounds.high - rate
