"""Does the 95 % interval of the prevalence hold the truth? Seeded replays of a day of 20,000 posts, estimator alone.

    python -m tests.benchmarks.prevalence [--replays 200] [--seed 0]

A model scores every post; the policy allows, reviews or removes; of what is allowed, the uncertain is drawn for review
with one probability and the rest with a smaller one; removals are drawn too; reports, which are no random draw, bring
further posts to the reviewers; reviewers err at a known rate. Ends in a line of JSON: for each prevalence, coverage and
mean width of the interval, and of the naive one, the plain share among all reviewed posts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import typer

from moderation.estimate import Drawn, Population, Reviewers, Share, harmful_share, proportion
from moderation.metrics import Bools, Floats, Interval

POSTS = 20_000
PREVALENCES = (0.01, 0.02, 0.05)
REMOVE, REVIEW, UNCERTAIN = 0.95, 0.7, 0.3
"""Scores from which a post is removed, reviewed, and drawn more often."""
DRAW_UNCERTAIN, DRAW_REST, DRAW_REMOVED = 0.2, 0.02, 0.1
SENSITIVITY, SPECIFICITY = 0.92, 0.985
GOLDEN = 400
"""Posts of known truth, half of them harmful, that every reviewer pool is measured on."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day as it was: what nobody sees (`harmful`), and what the platform sees."""

    harmful: Bools
    decision: np.ndarray
    probability: Floats
    impressions: Floats
    drawn: Bools
    verdict: Bools
    reviewed: Bools


def a_day(seed: int, prevalence: float, *, sensitivity: float, specificity: float, posts: int = POSTS) -> Day:
    """Simulate a day; the same seed gives the same one."""
    generator = np.random.default_rng([seed, round(prevalence * 1e6)])
    harmful = generator.random(posts) < prevalence
    # A tenth of the harm is new to the model and looks like anything else.
    seen = generator.random(posts) < 0.9
    scores = np.where(harmful & seen, generator.beta(4, 1.3, posts), generator.beta(0.6, 8, posts))
    decision = np.select([scores >= REMOVE, scores >= REVIEW], ["remove", "review"], "allow")
    probability = np.where(scores >= UNCERTAIN, DRAW_UNCERTAIN, DRAW_REST)
    probability = np.select([decision == "remove", decision == "review"], [DRAW_REMOVED, 1.0], probability)
    reach = np.select([decision == "remove", decision == "review"], [0.0, 0.1], 1.0)
    impressions = np.floor(generator.lognormal(3.0, 1.3, posts) * reach * np.where(harmful, 1.5, 1.0))
    drawn = generator.random(posts) < probability
    verdict = np.where(harmful, generator.random(posts) < sensitivity, generator.random(posts) > specificity)
    reported = (decision == "allow") & (generator.random(posts) < np.where(harmful, 0.3, 0.002))
    return Day(harmful, decision, probability, impressions, drawn, verdict, drawn | reported)


def estimated(day: Day, reviewers: Reviewers | None, *, by_impressions: bool = False) -> Share:
    """What the platform makes of the day."""
    size = day.impressions if by_impressions else np.ones(len(day.harmful))
    populations = {
        str(name): Population(float(size[day.decision == name].sum()), float((size[day.decision == name] ** 2).sum()))
        for name in np.unique(day.decision)
    }
    rows = day.drawn
    everyone = np.ones(int(rows.sum()), dtype=bool)
    drawn = Drawn(day.decision[rows], day.probability[rows], size[rows], everyone, day.verdict[rows])
    return harmful_share(populations, drawn, reviewers)


def truth(day: Day, *, by_impressions: bool = False) -> float:
    """What nobody sees."""
    size = day.impressions if by_impressions else np.ones(len(day.harmful))
    return float(size[day.harmful].sum() / size.sum())


def naive(day: Day) -> Interval:
    """The share of all reviewed posts that was called harmful, as if they had been drawn evenly."""
    return proportion(float(day.verdict[day.reviewed].sum()), float(day.reviewed.sum()))


def measured(seed: int) -> Reviewers:
    """The reviewers' rates, as golden posts show them."""
    generator = np.random.default_rng([seed, 7])
    half = GOLDEN // 2
    right = generator.binomial(half, SENSITIVITY) / half, generator.binomial(half, SPECIFICITY) / half
    return Reviewers(float(right[0]), float(right[1]), half, half)


def _figures(found: Sequence[tuple[Interval, float]]) -> dict[str, float]:
    low, high, real = np.array([(interval.low, interval.high, real) for interval, real in found], dtype=float).T
    known = [interval.value - real for interval, real in found if interval.value is not None]
    return {
        "coverage": round(float(np.mean((low <= real) & (real <= high))), 4),
        "width": round(float(np.mean(high - low)), 5),
        "bias": round(float(np.mean(known)), 5),
        "without_value": len(found) - len(known),
    }


def replay(seeds: Sequence[int], prevalence: float) -> dict[str, dict[str, float]]:
    """Coverage and width over days of one prevalence."""
    exact = Reviewers(SENSITIVITY, SPECIFICITY)
    found: dict[str, list[tuple[Interval, float]]] = {}

    def note(name: str, share: Interval, real: float) -> None:
        found.setdefault(name, []).append((share, real))

    for seed in seeds:
        day = a_day(seed, prevalence, sensitivity=1.0, specificity=1.0)
        note("true_reviewers", estimated(day, None).interval, truth(day))
        note("impressions", estimated(day, None, by_impressions=True).interval, truth(day, by_impressions=True))
        day = a_day(seed, prevalence, sensitivity=SENSITIVITY, specificity=SPECIFICITY)
        note("erring_reviewers", estimated(day, exact).interval, truth(day))
        share = estimated(day, exact, by_impressions=True)
        note("impressions_erring_reviewers", share.interval, truth(day, by_impressions=True))
        note("measured_reviewers", estimated(day, measured(seed)).interval, truth(day))
        note("uncorrected", estimated(day, None).interval, truth(day))
        note("naive", naive(day), truth(day))
    return {name: _figures(pairs) for name, pairs in found.items()}


def main(
    replays: int = typer.Option(200, min=1, help="Days a prevalence"), seed: int = typer.Option(0, help="Of the first")
) -> None:
    """Replay days and say how often the interval holds the truth."""
    result = {}
    for prevalence in PREVALENCES:
        result[str(prevalence)] = replay(range(seed, seed + replays), prevalence)
        for name, figures in result[str(prevalence)].items():
            print(f"{prevalence:.2%}  {name:30} {figures}", file=sys.stderr)
    print(
        json.dumps(
            {"benchmark": "prevalence", "replays": replays, "posts": POSTS, "golden": GOLDEN, "prevalence": result}
        )
    )


if __name__ == "__main__":
    typer.run(main)
