"""What a person is asked, and how soon: expected harm orders the queue, and some posts are drawn at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from moderation.labels import SEVERITY_WEIGHT
from moderation.policy import Rule, urgency_of
from moderation.posts import Decision, LabelDecision

Kind = Literal["flagged", "reported", "sampled", "cluster", "second", "third", "golden", "appeal"]


_MOST_DOUBLED = 64
"""Times that what people allowed becomes harder to bring back; by then nobody does."""


class ReviewRules(BaseModel):
    """How review works: section `review` of a topology."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    lease_s: int = Field(default=900, ge=10, le=86_400)
    """Seconds for which a reviewer holds an item; after that it returns to the queue."""
    max_lease: int = Field(default=100, ge=1, le=1000)
    """Items of one lease at most."""
    overtake_s: int = Field(default=1800, ge=0)
    """An item whose deadline is nearer than that comes before all others, the nearest first."""
    report_threshold: float = Field(default=1.5, gt=0)
    """Sum of the reporters' reliabilities at which a post enters review; an unknown reporter has 0.5."""
    report_thresholds: dict[str, float] = Field(default_factory=dict)
    """The same for single communities."""
    reopen_upheld: int = Field(default=1, ge=0)
    """Reports that a reporter must have been right with, so that what they report weighs against what a person allowed;
    0: anybody's does."""
    reopen_factor: float = Field(default=2.0, ge=1, le=100)
    """What a person allowed comes before a person again at `report_threshold` times this; at the square of it where
    people allowed it twice, and so on."""
    second_share: float = Field(default=0.05, ge=0, le=1)
    """Share of decided items that a second person is asked about."""
    golden_share: float = Field(default=0.02, ge=0, le=1)
    """Golden items a leased item, where the reviewer has not met them all."""
    sampled_allowed: float = Field(default=0.002, ge=0, le=1)
    """Probability with which a post that is allowed is drawn for review."""
    sampled_uncertain: float = Field(default=0.02, ge=0, le=1)
    """The same for an allowed post with a score near its threshold."""
    sampled_removed: float = Field(default=0.02, ge=0, le=1)
    """The same for a post that was removed without a person."""
    uncertain_within: float = Field(default=1.0, ge=0)
    """How near: distance from the threshold in log-odds."""
    sampled_deadline_h: float = Field(default=72.0, gt=0)
    """Hours within which a drawn post is reviewed."""
    expected_impressions: float = Field(default=100.0, gt=0)
    """Impressions that a post is expected to have yet, before any were counted."""
    expected_impressions_of: dict[str, float] = Field(default_factory=dict)
    """The same for single communities."""

    def report_threshold_of(self, community: str) -> float:
        """Sum of reliabilities at which a post of a community enters review."""
        return self.report_thresholds.get(community, self.report_threshold)

    def reports_needed(self, community: str, *, allowed: int) -> float:
        """Sum of reliabilities at which a post of a community enters review after people allowed it so often."""
        return self.report_threshold_of(community) * self.reopen_factor ** min(allowed, _MOST_DOUBLED)

    def expected_in(self, community: str) -> float:
        """Impressions that a new post of a community is expected to have."""
        return self.expected_impressions_of.get(community, self.expected_impressions)


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """What a person is asked about a post.

    Attributes:
        kind: why; see `people_tables.reviews`.
        labels: names of the labels in question, most pressing first.
        p_harm: probability that the post is harmful, in [0, 1].
        severity: `SEVERITY_WEIGHT` of the most pressing label.
        impressions: expected yet.
        within: time to the deadline.
        sampling_probability: with which it was drawn; None: it was not drawn at random.
    """

    kind: Kind
    labels: tuple[str, ...]
    p_harm: float
    severity: float
    impressions: float
    within: timedelta
    sampling_probability: float | None = None

    @property
    def priority(self) -> float:
        """Expected harm: orders the queue."""
        return self.p_harm * self.severity * self.impressions


def item_for(
    decision: Decision,
    *,
    community: str,
    rules: Mapping[str, Rule],
    review: ReviewRules,
    draw: Callable[[], float],
) -> ReviewItem | None:
    """What a person is asked about a fresh decision, if anything: what the policy queued, and a share of the rest.

    Args:
        decision: as the policy made it.
        community: of the post.
        rules: the policy's, of the post's region.
        review: how review works.
        draw: uniform in [0, 1).
    """
    ranked = rank(decision.labels, rules)
    within = timedelta(hours=review.sampled_deadline_h)
    probability = None
    if decision.review.queued and decision.review.deadline is not None:
        within = decision.review.deadline - decision.decided_at
        flagged = [name for name in ranked if decision.labels[name].flagged]
        asked = flagged or list(ranked)
    else:
        probability = sampling_probability(decision, review)
        if draw() >= probability:
            return None
        asked = list(ranked)
    first = asked[0] if asked else None
    return ReviewItem(
        kind="flagged" if probability is None else "sampled",
        labels=tuple(asked),
        p_harm=0.0 if first is None else ranked[first],
        severity=severity_of(asked, rules),
        impressions=review.expected_in(community),
        within=within,
        sampling_probability=probability,
    )


def sampling_probability(decision: Decision, review: ReviewRules) -> float:
    """With which a post that the policy did not queue is drawn for review."""
    if decision.decision == "remove":
        return review.sampled_removed
    near = any(_near(label, review.uncertain_within) for label in decision.labels.values())
    return max(review.sampled_uncertain, review.sampled_allowed) if near else review.sampled_allowed


def rank(labels: Mapping[str, LabelDecision], rules: Mapping[str, Rule]) -> dict[str, float]:
    """Probability of each label that was scored, or should have been, most pressing (times severity) first.

    A confidence is calibrated with both classes weighing the same; the rule's prevalence makes a probability of it. A
    label that failed to score is as likely as in any post.
    """
    found: dict[str, float] = {}
    for name, label in labels.items():
        rule = rules.get(name)
        if rule is None or label.status == "not_scored":
            continue
        found[name] = rule.prevalence if label.score is None else posterior(label.score, rule.prevalence)
    return dict(sorted(found.items(), key=lambda item: -item[1] * severity_of([item[0]], rules)))


def posterior(confidence: float, prevalence: float) -> float:
    """Probability of a label from a confidence for which both classes weigh the same (Saerens et al., 2002).

    Example:
        >>> round(posterior(0.5, 0.02), 3), round(posterior(0.98, 0.02), 3)
        (0.02, 0.5)
    """
    harmful, harmless = confidence * prevalence, (1 - confidence) * (1 - prevalence)
    return harmful / (harmful + harmless)


def with_reports(p_harm: float, reliabilities: Iterable[float]) -> float:
    """Probability of harm where people with these shares of upheld reports say so as well (noisy or)."""
    return 1 - (1 - p_harm) * math.prod(1 - reliability for reliability in reliabilities)


def reliability(upheld: int, dismissed: int) -> float:
    """Share of a reporter's reports that is expected to be upheld (Laplace's rule of succession), in (0, 1)."""
    return (upheld + 1) / (upheld + dismissed + 2)


def severity_of(labels: Iterable[str], rules: Mapping[str, Rule]) -> float:
    """Weight, under a region's rules, of the first of these labels; the lowest where there is none."""
    return next((SEVERITY_WEIGHT[urgency_of(name, rules).severity] for name in labels), SEVERITY_WEIGHT["low"])


def _near(label: LabelDecision, within: float) -> bool:
    if label.score is None or label.threshold is None:
        return False
    return abs(_log_odds(label.score) - _log_odds(label.threshold)) <= within


def _log_odds(value: float) -> float:
    bounded = min(max(value, 1e-9), 1 - 1e-9)
    return math.log(bounded / (1 - bounded))
