"""The fuse: automatic removals beyond what is expected go to people instead, until one of them says otherwise.

Whether they are beyond it is asked of each label in each region. What is expected follows from the traffic before, or,
where there is too little of it, from the policy: removals that keep a precision P at a prevalence p are at most p / P
of all posts.
"""

from __future__ import annotations

from dataclasses import dataclass

from moderation.models.operating import Objective
from moderation.policy import Rule
from moderation.sections import FuseRules


@dataclass(frozen=True, slots=True)
class Counts:
    """Removals among posts.

    Attributes:
        removals: automatic ones, of one label.
        posts: all that were decided.
    """

    removals: int
    posts: int


def lower_rate(counts: Counts, confidence: float) -> float:
    """Lower bound of a rate (Clopper and Pearson, 1934), one-sided, in [0, 1]."""
    if counts.removals == 0:
        return 0.0
    from scipy.special import betaincinv  # late: it takes half a second to import, and most commands need it not

    return float(betaincinv(counts.removals, counts.posts - counts.removals + 1, 1 - confidence))


def lower_ratio(window: Counts, baseline: Counts, confidence: float) -> float:
    """Lower bound of how many times the baseline's rate the window's is, one-sided.

    Given both counts together, the window's is binomial, which bounds the ratio (Przyborowski and Wilenski, 1940).
    """
    share = lower_rate(Counts(window.removals, window.removals + baseline.removals), confidence)
    if share >= 1 or window.posts == 0:
        return float("inf") if window.posts else 0.0
    return share / (1 - share) * baseline.posts / window.posts


def most_expected(rule: Rule) -> float | None:
    """The largest share of posts that a rule removes if it holds what it promises; None: it promises no precision."""
    objective = rule.objective if rule.action == "remove" else rule.remove_objective
    if objective is None:
        return None
    parsed = Objective.parse(objective)
    return min(1.0, rule.prevalence / parsed.bound) if parsed.metric == "precision" else None


def blows(window: Counts, baseline: Counts, rule: Rule, fuse: FuseRules) -> dict[str, float | str] | None:
    """Whether removals are beyond what is expected, with the evidence; None: they are not."""
    if window.posts < fuse.min_posts:
        return None
    evidence: dict[str, float | str] = {"removals": window.removals, "posts": window.posts}
    if baseline.posts >= fuse.min_baseline_posts:
        bound = lower_ratio(window, baseline, fuse.confidence)
        expected = baseline.removals / baseline.posts
        by = "baseline"
    else:
        most = most_expected(rule)
        if most is None:
            return None
        bound = lower_rate(window, fuse.confidence) / most
        expected = most
        by = "policy"
    if bound <= fuse.ratio:
        return None
    return evidence | {"expected_rate": expected, "expected_by": by, "ratio_at_least": min(bound, 1e9)}
