"""The online metrics: how much harm the public saw, how fast it went, and how people and models fared.

A window of the ledger, all of it and by group. What cannot be known is null, never 0. docs/metrics.md has the formulas.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import Connection

from moderation.errors import TooManyGroupsError
from moderation.estimate import Drawn, Population, Reviewers, harmful_share, proportion
from moderation.labels import BY_NAME
from moderation.metrics import Floats, Interval
from moderation.sections import Dimension
from moderation.storage.ledger import Ledger, now
from serve.metrics import queries
from serve.metrics.queries import Frame, Golden, Judged, Key, Window

Value = TypeVar("Value")


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Estimate(_Out):
    """A figure and its 95 % interval. No value, yet ends: part of what it describes is unknown."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Harm(_Out):
    """Which share of the posts, or of the impressions, was harmful, and what that rests on."""

    share: Estimate
    """As reviewers judge; their errors are in it."""
    share_corrected: Estimate | None
    """Without the errors of reviewers, as far as golden items show them; null: too few golden items."""
    of: int
    """Posts decided in the window, or impressions in it."""
    harmful: Estimate
    """How many of them: the share of reviewers times all."""
    drawn: int
    """Posts that were drawn for review, or queued by the policy."""
    judged: int
    """Those of them that have a verdict."""
    judged_harmful: int
    """Those of them that were judged harmful."""
    unknown_share: float | None
    """Of posts, or impressions, of whose kind no verdict is known."""


class Reports(_Out):
    """What people report."""

    count: int
    """Reports filed in the window, without those of muted reporters."""
    impressions: int
    """In the window."""
    per_thousand_impressions: float | None
    """null: no impressions are known."""


class Took(_Out):
    """How long removals took, from the post's receipt."""

    count: int
    """First removals of a content version in the window."""
    p50_s: float | None
    """Seconds within which half of them came; null: there were none."""
    p95_s: float | None
    """Seconds within which 95 % of them came."""


class Takedowns(_Out):
    """Removals, by who noticed first."""

    proactive: Took
    """Nobody had reported the post."""
    reactive: Took
    """Somebody had."""


class AppealsOut(_Out):
    """Appeals that were filed in the window."""

    filed: int
    decided: int
    """Until now."""
    upheld: int
    overturn_rate: Estimate
    """Upheld of decided."""


class Queue(_Out):
    """Reviews, without golden items."""

    backlog: int
    """Waited for a verdict at the window's end."""
    due: int
    """Had their deadline in the window, and it has passed."""
    missed: int
    """Those of them without a verdict by then."""
    miss_rate: float | None
    """null: none was due."""


class Figures(_Out):
    """The metrics of a group."""

    prevalence: Harm
    harmful_impressions: Harm
    reports: Reports
    takedown: Takedowns
    appeals: AppealsOut
    review: Queue


class Group(Figures):
    """The metrics of one group; `group` holds its value in each dimension."""

    group: dict[str, str]


class Rates(_Out):
    """How often reviewers were right on golden items."""

    sensitivity: Estimate
    """Of harmful ones."""
    specificity: Estimate
    """Of harmless ones."""
    harmful: int
    """Verdicts on harmful golden items."""
    harmless: int
    """Verdicts on harmless golden items."""


class OnlineOut(_Out):
    """The answer of `GET /v1/metrics/online`."""

    begin: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    by: list[str]
    reviewers: Rates
    """Over all groups and labels."""
    total: Figures
    groups: list[Group]
    """Ordered by their values; posts of several models, and labels, are in several."""


@dataclass(frozen=True, slots=True)
class GoldenRule:
    """When golden items are enough to correct for the errors of reviewers.

    Attributes:
        lookback: how far before the window's end they were judged.
        least: verdicts on harmful, and on harmless, golden items that it takes.
    """

    lookback: timedelta = timedelta(days=30)
    least: int = 30


def measure(ledger: Ledger, window: Window, rule: GoldenRule | None = None, *, at: datetime | None = None) -> OnlineOut:
    """Compute the metrics of a window, in total and by group, from one state of the ledger.

    Args:
        ledger: blocking.
        window: begin, end and dimensions.
        rule: for golden items; None: the default one.
        at: the present; None: now.

    Raises:
        TooManyGroupsError: the dimensions have more values than the window allows.
    """
    (out,) = measure_by(ledger, window, [window.by], rule, at=at)
    return out


def measure_by(
    ledger: Ledger,
    window: Window,
    divisions: Sequence[tuple[Dimension, ...]],
    rule: GoldenRule | None = None,
    *,
    at: datetime | None = None,
) -> list[OnlineOut]:
    """As `measure`, for several divisions of one window, which share its total.

    Args:
        ledger: blocking.
        window: begin and end; its own dimensions do not matter.
        divisions: the dimensions of each answer.
        rule: for golden items; None: the default one.
        at: the present; None: now.

    Raises:
        TooManyGroupsError: a division has more groups than the window allows.
    """
    rule = rule or GoldenRule()
    at = at or now()
    undivided = replace(window, by=())
    with ledger.read() as connection:
        rates = _Rates(queries.golden_verdicts(connection, window.end - rule.lookback, window.end), rule)
        whole = _Counted(connection, undivided, at)
        divided = [(by, _Counted(connection, replace(window, by=by), at) if by else None) for by in divisions]
    rules = {frame: _rules(whole.judged[frame][()]) for frame in whole.judged}
    total = _figures(whole, (), undivided, rates, rules)
    return [
        OnlineOut(
            begin=window.begin,
            end=window.end,
            by=list(by),
            reviewers=rates.out(),
            total=total,
            groups=[] if parts is None else _groups(parts, replace(window, by=by), rates, rules),
        )
        for by, parts in divided
    ]


def _groups(parts: _Counted, window: Window, rates: _Rates, rules: Mapping[Frame, Mapping[str, Floats]]) -> list[Group]:
    keys = parts.keys()
    if len(keys) > window.max_groups:
        raise TooManyGroupsError(
            f"by={','.join(window.by)} has {len(keys)} groups, the bound is {window.max_groups}", window.max_groups
        )
    return [
        Group(group=dict(zip(window.by, key, strict=True)), **dict(_figures(parts, key, window, rates, rules)))
        for key in keys
    ]


class _Counted:
    """What the ledger says of a window, by group."""

    def __init__(self, connection: Connection, window: Window, at: datetime) -> None:
        self._window = window
        frames: tuple[Frame, ...] = ("posts", "impressions")
        self.populations = {name: _Known(queries.populations(connection, window, name), {}) for name in frames}
        empty: list[Judged] = []
        self.judged = {name: _Known(queries.judged(connection, window, name), empty) for name in frames}
        self.reports = _Known(queries.reported(connection, window), 0)
        self.takedowns = _Known(queries.takedowns(connection, window), {})
        self.appeals = _Known(queries.appealed(connection, window), queries.Appeals(0, 0, 0))
        self.backlog = _Known(queries.backlog(connection, window), 0)
        self.deadlines = _Known(queries.deadlines(connection, window, at), queries.Deadlines(0, 0))

    def keys(self) -> list[Key]:
        """All groups of which anything is known, in order; every label is in every other group."""
        found: set[Key] = set()
        for counted in (self.reports, self.takedowns, self.appeals, self.backlog, self.deadlines):
            found |= set(counted.known)
        for population in self.populations.values():
            for key in population.known:
                found |= set(self._with_labels(key))
        return sorted(found)

    def _with_labels(self, key: Key) -> Iterable[Key]:
        if "label" not in self._window.by:
            return [key]
        place = self._window.by.index("label")
        return [(*key[:place], label, *key[place:]) for label in BY_NAME]


@dataclass(frozen=True, slots=True)
class _Known(Generic[Value]):
    """Counts by group; a group that is not there has none."""

    known: Mapping[Key, Value]
    none: Value

    def __getitem__(self, key: Key) -> Value:
        return self.known.get(key, self.none)


class _Rates:
    """How often reviewers err, in all and on a label."""

    def __init__(self, verdicts: Sequence[Golden], rule: GoldenRule) -> None:
        self._rule = rule
        counts: dict[str | None, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for said in verdicts:
            pairs: list[tuple[str | None, bool, bool]] = [(None, said.truth == "remove", said.verdict == "remove")]
            pairs += [(name, said.truth_labels.get(name, False), said.labels.get(name, False)) for name in BY_NAME]
            for name, truth, verdict in pairs:
                counts[name][2 * truth] += truth == verdict
                counts[name][2 * truth + 1] += 1
        self._counts = counts

    def of(self, label: str | None) -> Reviewers | None:
        """The rates on a label, or on whether to remove (None); None: too few golden items."""
        specific, harmless, sensitive, harmful = self._counts[label]
        if min(harmless, harmful) < max(1, self._rule.least):
            return None
        return Reviewers(sensitive / harmful, specific / harmless, harmful, harmless)

    def out(self) -> Rates:
        """For the answer, however few golden items there are."""
        specific, harmless, sensitive, harmful = self._counts[None]
        return Rates(
            sensitivity=_estimate(proportion(sensitive, harmful)),
            specificity=_estimate(proportion(specific, harmless)),
            harmful=harmful,
            harmless=harmless,
        )


def _figures(
    counted: _Counted, key: Key, window: Window, rates: _Rates, rules: Mapping[Frame, Mapping[str, Floats]]
) -> Figures:
    label = None
    bare = key
    if "label" in window.by:
        place = window.by.index("label")
        label, bare = key[place], (*key[:place], *key[place + 1 :])
    harm = {
        frame: _harm(
            counted.populations[frame][bare], counted.judged[frame][bare], label, rates.of(label), rules[frame]
        )
        for frame in counted.populations
    }
    impressions = harm["impressions"].of
    reports = counted.reports[key]
    taken = counted.takedowns[key]
    appeals, due = counted.appeals[key], counted.deadlines[key]
    return Figures(
        prevalence=harm["posts"],
        harmful_impressions=harm["impressions"],
        reports=Reports(
            count=reports,
            impressions=impressions,
            per_thousand_impressions=round(1000 * reports / impressions, 6) if impressions else None,
        ),
        takedown=Takedowns(proactive=_took(taken.get(True)), reactive=_took(taken.get(False))),
        appeals=AppealsOut(
            filed=appeals.filed,
            decided=appeals.decided,
            upheld=appeals.upheld,
            overturn_rate=_estimate(proportion(appeals.upheld, appeals.decided)),
        ),
        review=Queue(
            backlog=counted.backlog[key],
            due=due.due,
            missed=due.missed,
            miss_rate=round(due.missed / due.due, 6) if due.due else None,
        ),
    )


def _harm(
    populations: Mapping[str, Population],
    judged: Sequence[Judged],
    label: str | None,
    reviewers: Reviewers | None,
    rules: Mapping[str, Floats],
) -> Harm:
    drawn = Drawn(
        decision=np.array([post.decision for post in judged], dtype=str),
        probability=np.array([post.probability for post in judged], dtype=float),
        size=np.array([post.size for post in judged], dtype=float),
        judged=np.array([post.verdict is not None for post in judged], dtype=bool),
        harmful=np.array([_is_harmful(post, label) for post in judged], dtype=bool),
    )
    share = harmful_share(populations, drawn, rules=rules)
    number = sum(population.size for population in populations.values())
    corrected = None if reviewers is None else harmful_share(populations, drawn, reviewers, rules=rules)
    return Harm(
        share=_estimate(share.interval),
        share_corrected=None if corrected is None else _estimate(corrected.interval),
        of=round(number),
        harmful=_estimate(share.interval, times=number, digits=1),
        drawn=share.drawn,
        judged=share.judged,
        judged_harmful=share.positive,
        unknown_share=None if share.unknown is None else round(share.unknown, 6),
    )


def _is_harmful(post: Judged, label: str | None) -> bool:
    if post.verdict != "remove":
        return False
    return label is None or post.labels.get(label, False)


def _rules(judged: Sequence[Judged]) -> dict[str, Floats]:
    """The probabilities with which a decision's posts are drawn, as far as any was."""
    found: dict[str, set[float]] = defaultdict(set)
    for post in judged:
        found[post.decision].add(post.probability)
    return {decision: np.array(sorted(values)) for decision, values in found.items()}


def _took(takedown: queries.Takedown | None) -> Took:
    if takedown is None:
        return Took(count=0, p50_s=None, p95_s=None)
    return Took(count=takedown.count, p50_s=round(takedown.p50, 3), p95_s=round(takedown.p95, 3))


def _estimate(interval: Interval, *, times: float = 1.0, digits: int = 6) -> Estimate:
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (None if end is None else round(end * times, digits) for end in ends)
    return Estimate(value=value, low=low, high=high)
