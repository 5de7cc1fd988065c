"""What an experiment has shown: precision and recall an arm, on the posts that were drawn for labelling at random.

Every post of the experiment is judged by the arm of its author, at the threshold that ships. Labels that nobody drew at
random (reports) are left out: people report what they see, and they see less of what an arm removes. The others weigh
the inverse of their sampling probability. Intervals resample authors, because the split is by author. What several
people of an arm posted word for word counts once, as the first author's: a wave of one message shows one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from moderation.copies import first_authors, shares
from moderation.metrics import (
    Bools,
    Floats,
    Interval,
    cluster_bootstrap,
    confusion,
    precision_interval,
    recall_interval,
)
from moderation.models.operating import Objective
from moderation.storage import experiments
from moderation.storage.experiments import Experiment, JudgedPost
from moderation.storage.ledger import Ledger
from serve.experiments.split import Arm

ExperimentVerdict = Literal["better", "worse", "no difference shown", "not enough labels"]
ARMS: tuple[Arm, ...] = ("champion", "challenger")


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One arm.

    Attributes:
        posts: judged.
        authors: who wrote them.
        labelled: of the posts, drawn at random and labelled.
        precision: with a 95 % interval.
        recall: with a 95 % interval.
    """

    posts: int
    authors: int
    labelled: int
    precision: Interval
    recall: Interval


@dataclass(frozen=True, slots=True)
class Report:
    """An experiment, so far.

    Attributes:
        experiment: what is compared.
        label: on which label.
        arms: by name.
        precision_difference: challenger minus champion, with a 95 % interval.
        recall_difference: likewise.
        objective: of the policy, which says what matters: under `precision>=0.9` precision must hold and recall gain.
        verdict: `better` where the metric that the objective leaves free gains, by its whole interval; `worse` where it
            loses, or where the objective's metric loses, by its whole interval, and lies below the bound.
        until: what was decided later is not in it.
    """

    experiment: Experiment
    label: str
    arms: dict[Arm, ArmReport]
    precision_difference: Interval
    recall_difference: Interval
    objective: Objective
    verdict: ExperimentVerdict
    until: datetime

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "experiment": self.experiment.name,
            "variant": self.experiment.variant,
            "versions": {
                "champion": self.experiment.champion_version,
                "challenger": self.experiment.challenger_version,
            },
            "share": self.experiment.share,
            "status": self.experiment.status,
            "label": self.label,
            "arms": {
                name: {
                    "posts": arm.posts,
                    "authors": arm.authors,
                    "labelled": arm.labelled,
                    "precision": arm.precision.as_dict(),
                    "recall": arm.recall.as_dict(),
                }
                for name, arm in self.arms.items()
            },
            "precision_difference": self.precision_difference.as_dict(),
            "recall_difference": self.recall_difference.as_dict(),
            "objective": str(self.objective),
            "verdict": self.verdict,
            "until": self.until.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class _Rows:
    """The labelled posts of both arms as arrays."""

    truth: Bools
    flagged: Bools
    weights: Floats
    challenger: Bools
    authors: list[str]

    def of(self, arm: Arm) -> _Rows:
        chosen = self.challenger == (arm == "challenger")
        authors = [author for author, keep in zip(self.authors, chosen, strict=True) if keep]
        return _Rows(self.truth[chosen], self.flagged[chosen], self.weights[chosen], self.challenger[chosen], authors)


def report(ledger: Ledger, name: str, *, label: str, objective: Objective, at: datetime) -> Report:
    """Compare the arms of an experiment on one label, under the policy's objective for it.

    Raises:
        NotFoundError: there is no such experiment.
    """
    experiment = experiments.get(ledger, name)
    judged = experiments.judged_posts(ledger, name)
    rows = _rows(judged, label)
    arms = {arm: _arm([post for post in judged if post.arm == arm], rows.of(arm)) for arm in ARMS}
    precision = _difference(rows, "precision")
    recall = _difference(rows, "recall")
    verdict = _verdict(objective, arms["challenger"], {"precision": precision, "recall": recall})
    return Report(experiment, label, arms, precision, recall, objective, verdict, at)


def _rows(judged: list[JudgedPost], label: str) -> _Rows:
    drawn = [
        (post, post.sampling_probability)
        for post in judged
        if post.sampling_probability is not None and label in post.labels and label in post.flagged
    ]
    keys = [f"{post.arm}:{index if post.key is None else '=' + post.key}" for index, (post, _) in enumerate(drawn)]
    return _Rows(
        truth=np.array([post.labels[label] for post, _ in drawn], dtype=bool),
        flagged=np.array([post.flagged[label] for post, _ in drawn], dtype=bool),
        weights=np.array([1 / probability for _, probability in drawn], dtype=float) * shares(keys),
        challenger=np.array([post.arm == "challenger" for post, _ in drawn], dtype=bool),
        authors=first_authors(keys, [post.author_id for post, _ in drawn]),
    )


def _arm(posts: list[JudgedPost], rows: _Rows) -> ArmReport:
    return ArmReport(
        posts=len(posts),
        authors=len({post.author_id for post in posts}),
        labelled=len(rows.authors),
        precision=precision_interval(rows.truth, rows.flagged, rows.authors, weights=rows.weights),
        recall=recall_interval(rows.truth, rows.flagged, rows.authors, weights=rows.weights),
    )


def _difference(rows: _Rows, metric: Literal["precision", "recall"]) -> Interval:
    def statistic(drawn: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        values = []
        for side in (True, False):
            chosen = drawn[rows.challenger[drawn] == side]
            found = confusion(rows.truth[chosen], rows.flagged[chosen], rows.weights[chosen])
            values.append(float(getattr(found, metric)))
        return values[0] - values[1]

    return cluster_bootstrap(statistic, rows.authors)


def _verdict(
    objective: Objective, challenger: ArmReport, differences: Mapping[Literal["precision", "recall"], Interval]
) -> ExperimentVerdict:
    """Judge by what the policy asks for: the objective's metric must hold its bound, the other one must gain."""
    guarded = differences[objective.metric]
    free = differences["recall" if objective.metric == "precision" else "precision"]
    kept = challenger.precision if objective.metric == "precision" else challenger.recall
    if guarded.high is None or free.low is None or free.high is None or kept.value is None:
        return "not enough labels"
    if free.high < 0 or (guarded.high < 0 and kept.value < objective.bound):
        return "worse"
    return "better" if free.low > 0 else "no difference shown"
