"""May a retrained model challenge the champion? Reasons, not a mood: every check has a value, a bound and a sentence.

Both models are judged on the same rows, so differences are paired; intervals resample authors. A row is a text,
however many people posted it: copies were merged before (`moderation.copies`). A check that cannot be made for want of
rows, or of authors, does not pass: what is not shown is not claimed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from moderation.metrics import Bools, Interval, cluster_bootstrap, confusion
from moderation.sections import GateRules
from train.evaluate import Paired


@dataclass(frozen=True, slots=True)
class Check:
    """One condition.

    Attributes:
        name: of the condition.
        passed: whether it holds.
        value: what was found, or None.
        bound: what it is held against.
        reason: for people.
    """

    name: str
    passed: bool
    value: float | None
    bound: float
    reason: str


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The gate's word: passed only if every check is."""

    checks: tuple[Check, ...]
    figures: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether the model may challenge."""
        return all(check.passed for check in self.checks)

    @property
    def refusals(self) -> list[str]:
        """Why not."""
        return [check.reason for check in self.checks if not check.passed]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks], "figures": self.figures}


def judge(
    holdout: Paired,
    anchor: Paired,
    *,
    threshold: float | None,
    has_new_words: bool,
    rules: GateRules,
) -> GateVerdict:
    """Judge a challenger.

    Args:
        holdout: rows of authors and of a time that training never saw.
        anchor: the fixed, trusted texts.
        threshold: of the challenger; None: no threshold meets the policy's objective.
        has_new_words: the alert named new words: the challenger must have learned posts with them.
        rules: bounds.
    """
    recall = difference(holdout, "recall")
    precision = difference(holdout, "precision")
    flagged = holdout.champion | holdout.challenger
    checks = [
        _enough("harmful holdout rows", int(holdout.truth.sum()), rules.minimum_harmful),
        _enough("harmless holdout rows", int((~holdout.truth).sum()), rules.minimum_harmless),
        Check(
            "objective",
            threshold is not None,
            threshold,
            0.0,
            "a threshold meets the policy's objective on validation rows"
            if threshold is not None
            else "no threshold meets the policy's objective on validation rows",
        ),
        _above("recall", recall, 0.0, _authors(holdout, holdout.truth), rules, "recall on the holdout"),
        _above(
            "precision",
            precision,
            -rules.precision_margin,
            _authors(holdout, flagged),
            rules,
            "precision on the holdout",
        ),
        *_anchor_checks(anchor, rules),
    ]
    if has_new_words:
        checks += _new_word_checks(holdout.where(holdout.drifted), rules)
    figures = {
        "holdout": {"rows": len(holdout.units), "harmful": int(holdout.truth.sum()), **_rates(holdout)},
        "anchor": {"rows": len(anchor.units), "harmful": int(anchor.truth.sum()), **_rates(anchor)},
        "recall_difference": recall.as_dict(),
        "precision_difference": precision.as_dict(),
    }
    return GateVerdict(tuple(checks), figures)


def difference(rows: Paired, metric: Literal["precision", "recall"]) -> Interval:
    """Challenger minus champion, paired, with a 95 % interval over authors."""

    def statistic(drawn: npt.NDArray[np.int64]) -> float:
        truth = rows.truth[drawn]
        challenger = confusion(truth, rows.challenger[drawn])
        champion = confusion(truth, rows.champion[drawn])
        return float(getattr(challenger, metric)) - float(getattr(champion, metric))

    return cluster_bootstrap(statistic, rows.units)


def _rates(rows: Paired) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            rate: None if np.isnan(value) else round(value, 4)
            for rate, value in (
                ("precision", found.precision),
                ("recall", found.recall),
                ("false_positive_rate", found.false_positive_rate),
            )
        }
        for name, found in (
            ("champion", confusion(rows.truth, rows.champion)),
            ("challenger", confusion(rows.truth, rows.challenger)),
        )
    }


def _enough(what: str, found: int, bound: int) -> Check:
    said = f"{found} {what}, {bound} are needed"
    return Check(what, found >= bound, found, bound, said)


def _authors(rows: Paired, chosen: Bools) -> int:
    return len(set(rows.where(chosen).units))


def _above(name: str, interval: Interval, bound: float, authors: int, rules: GateRules, of: str) -> Check:
    """The lower end of a difference, which so many authors' rows bear on, must exceed a bound."""
    what = f"{of}, challenger minus champion"
    if interval.low is None:
        return Check(name, False, None, bound, f"{what}: cannot be told from these rows")
    if authors < rules.minimum_authors:
        said = f"{what}: {interval.value:+.3f}, of too few authors: {authors}, {rules.minimum_authors} are needed"
        return Check(name, False, interval.low, bound, said)
    said = f"{what}: {interval.value:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}"
    return Check(name, interval.low > bound, interval.low, bound, f"{said}; the lower end must exceed {bound:+.3f}")


def _new_word_checks(inside: Paired, rules: GateRules) -> list[Check]:
    """Of the holdout's rows with new words."""
    new, authors = difference(inside, "recall"), _authors(inside, inside.truth)
    return [
        _enough("harmful rows with new words", int(inside.truth.sum()), rules.minimum_slice),
        _above("new words", new, 0.0, authors, rules, "recall on posts with new words"),
    ]


def _anchor_checks(anchor: Paired, rules: GateRules) -> list[Check]:
    champion = confusion(anchor.truth, anchor.champion)
    challenger = confusion(anchor.truth, anchor.challenger)
    lost = champion.recall - challenger.recall
    raised = challenger.false_positive_rate - champion.false_positive_rate
    bound = rules.anchor_margin
    return [
        Check(
            "anchor recall",
            lost <= bound,  # false for NaN: what cannot be told does not pass
            None if np.isnan(lost) else lost,
            bound,
            f"recall lost on the anchor texts: {lost:+.3f}, at most {bound:g}",
        ),
        Check(
            "anchor false positives",
            raised <= bound,
            None if np.isnan(raised) else raised,
            bound,
            f"false positives added on the anchor texts: {raised:+.3f}, at most {bound:g}",
        ),
    ]
