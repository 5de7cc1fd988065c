"""From an objective such as `precision>=0.95` to a threshold, on a model's own validation rows.

A model carries, for every label, how recall and the false-positive rate move with the threshold. Precision is not
stored: it depends on how common the harm is, and labelled sets hold far more harm than traffic does. So the policy
states the prevalence, and precision follows:

    precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * false_positive_rate)

Both rates are smoothed with Jeffreys' prior, (k + 1/2) / (n + 1): without it, a threshold above the highest harmless
validation row would claim a precision of 1 however few rows there were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt

from moderation.metrics import Bools, Floats

MAX_POINTS = 200

_OBJECTIVE = re.compile(r"^(precision|recall)>=(0?\.\d+|0|1(?:\.0+)?)$")


@dataclass(frozen=True, slots=True)
class Objective:
    """What a threshold is chosen for.

    Attributes:
        metric: the one that must reach `bound`; the other is made as large as it then can be.
        bound: in (0, 1).
    """

    metric: Literal["precision", "recall"]
    bound: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Parse `precision>=0.95` or `recall>=0.9`.

        Raises:
            ValueError: it has another form, or the bound is not in (0, 1).
        """
        match = _OBJECTIVE.match(text.replace(" ", ""))
        if match is None:
            raise ValueError(f"objective is {text!r}; it must look like 'precision>=0.95' or 'recall>=0.9'")
        bound = float(match[2])
        if not 0 < bound < 1:
            raise ValueError(f"the bound of objective {text!r} is {bound}; it must lie between 0 and 1, both excluded")
        return cls("precision" if match[1] == "precision" else "recall", bound)

    def __str__(self) -> str:
        return f"{self.metric}>={Decimal(repr(self.bound)):f}"


@dataclass(frozen=True, slots=True, eq=False)
class OperatingCurve:
    """How one label's rates move with the threshold, ascending thresholds; a row is flagged at `score >= threshold`.

    Compared by identity, which keeps it cheap as a key of a cache.
    """

    thresholds: tuple[float, ...]
    recall: tuple[float, ...]
    false_positive_rate: tuple[float, ...]
    positives: int
    """Harmful validation rows."""
    negatives: int
    """Harmless validation rows."""

    @classmethod
    def measure(cls, truth: Bools, scores: Floats) -> OperatingCurve:
        """Measure the curve on validation rows, at most `MAX_POINTS` thresholds, denser where scores are high.

        Raises:
            ValueError: a class is missing.
        """
        positives, negatives = int(truth.sum()), int((~truth).sum())
        if not positives or not negatives:
            raise ValueError(f"{positives} harmful and {negatives} harmless rows; at least one of each is needed")
        candidates = np.unique(scores)
        if len(candidates) > MAX_POINTS:
            # Objectives are met in the tails: half of the points follow all rows, half the highest harmless ones.
            harmless = np.sort(scores[~truth])
            tail = harmless[np.unique(np.geomspace(1, len(harmless), MAX_POINTS // 2).astype(int) * -1)]
            spread = np.quantile(candidates, np.linspace(0, 1, MAX_POINTS - len(tail) - 1))
            candidates = np.unique(np.concatenate([tail, spread]))
        candidates = np.append(candidates, np.nextafter(scores.max(), 2.0))
        hits = np.sort(scores[truth])
        alarms = np.sort(scores[~truth])
        caught = positives - np.searchsorted(hits, candidates, side="left")
        raised = negatives - np.searchsorted(alarms, candidates, side="left")
        return cls(
            thresholds=tuple(float(value) for value in candidates),
            recall=tuple(float(value) for value in (caught + 0.5) / (positives + 1)),
            false_positive_rate=tuple(float(value) for value in (raised + 0.5) / (negatives + 1)),
            positives=positives,
            negatives=negatives,
        )

    def threshold_for(self, objective: Objective, *, prevalence: float) -> float | None:
        """The threshold that meets the objective and does best on the other metric; None if no threshold meets it.

        A precision is met only where a harmful validation row is caught, if there is one: without, it is smoothing's.
        Of a recall that none meets, the lowest threshold comes closest and is given, unless no harmful row is known.

        Args:
            objective: what must be reached.
            prevalence: share of harmful posts in the traffic that the threshold is for, in (0, 1).

        Example:
            >>> rates = {"recall": (0.9, 0.6), "false_positive_rate": (0.05, 0.001)}
            >>> curve = OperatingCurve(thresholds=(0.5, 0.9), **rates, positives=100, negatives=1000)
            >>> curve.threshold_for(Objective.parse("precision>=0.8"), prevalence=0.05)
            0.9
            >>> curve.threshold_for(Objective.parse("precision>=0.8"), prevalence=0.0001) is None  # too rare a harm
            True
        """
        met, free = self._meeting(objective, prevalence)
        if len(met):
            return self.thresholds[met[np.argmax(free[met])]]
        return self.thresholds[0] if objective.metric == "recall" and self.positives else None

    def meets(self, objective: Objective, *, prevalence: float) -> bool:
        """Whether some threshold meets the objective; arguments as of `threshold_for`."""
        return len(self._meeting(objective, prevalence)[0]) > 0

    def _meeting(self, objective: Objective, prevalence: float) -> tuple[npt.NDArray[np.int64], Floats]:
        """Indices of the thresholds that meet an objective; at every threshold, the metric that it leaves free."""
        recall = np.array(self.recall)
        alarms = np.array(self.false_positive_rate)
        precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * alarms)
        guarded, free = (recall, precision) if objective.metric == "recall" else (precision, recall)
        met = guarded >= objective.bound
        if objective.metric == "precision" and self.positives:
            met &= recall * (self.positives + 1) > 1  # k + 1/2, so one row at least
        return np.flatnonzero(met), free
