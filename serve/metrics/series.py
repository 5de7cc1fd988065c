"""What Prometheus is told, through Ray's metrics: decisions as they are made, the online metrics of the last window.

Every replica of the gateway tells the same gauges, each from the ledger; a dashboard takes the largest and needs no
leader. A metric that is not known is not told: there is no point, not a 0.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ray.serve import metrics as ray_metrics

from moderation.sections import Dimension, Metrics
from moderation.storage.ledger import Entry, Ledger, now
from serve.metrics.online import Estimate, Figures, Harm, OnlineOut, measure_by
from serve.metrics.queries import Window
from serve.metrics.routes import rule_of

logger = logging.getLogger("ray.serve")

REPEAT_S = 5.0
"""Ray drops a gauge that was not told anew within two of its reports, 10 s apart: so it is, between refreshes."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric as Ray takes it.

    Attributes:
        name: here.
        kind: what it is to Prometheus.
        tags: its dimensions.
        description: shown in Prometheus.
    """

    name: str
    kind: Literal["counter", "gauge"]
    tags: tuple[str, ...]
    description: str

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a gauge."""

    series: str
    tags: tuple[str, ...]
    value: float


_GROUP = ("by", "group")
_BOUNDED = (*_GROUP, "bound")
SERIES = {
    series.name: series
    for series in (
        Series("seawall_decisions", "counter", ("decision", "region", "label"), "Posts decided, once a flagged label"),
        Series("seawall_prevalence", "gauge", _BOUNDED, "Share of posts that are harmful"),
        Series("seawall_prevalence_corrected", "gauge", _BOUNDED, "Likewise, without the errors of reviewers"),
        Series("seawall_harmful_impressions_share", "gauge", _BOUNDED, "Share of impressions that are harmful"),
        Series("seawall_harmful_impressions_share_corrected", "gauge", _BOUNDED, "Likewise, without errors"),
        Series("seawall_impressions", "gauge", _GROUP, "Impressions in the window"),
        Series("seawall_judged_draws", "gauge", _GROUP, "Drawn posts with a verdict, behind the prevalence"),
        Series("seawall_reports_per_thousand_impressions", "gauge", _GROUP, "Reports a thousand impressions"),
        Series(
            "seawall_takedown_seconds", "gauge", (*_GROUP, "noticed", "quantile"), "From receipt to the first removal"
        ),
        Series("seawall_appeal_overturn_rate", "gauge", _BOUNDED, "Share of decided appeals that were upheld"),
        Series("seawall_review_backlog", "gauge", _GROUP, "Reviews that wait for a verdict"),
        Series("seawall_review_deadlines_due", "gauge", _GROUP, "Reviews whose deadline was in the window"),
        Series("seawall_review_deadlines_missed", "gauge", _GROUP, "Those without a verdict by then"),
        Series("seawall_online_refreshed_at", "gauge", (), "When these gauges were computed, in seconds since 1970"),
        Series("seawall_online_refresh_seconds", "gauge", (), "How long that took"),
    )
}
"""Everything that is told; the dashboard uses each of them, and nothing else."""


class DecisionSeries:
    """Counts decisions as they are recorded."""

    def __init__(self) -> None:
        series = SERIES["seawall_decisions"]
        self._tags = series.tags
        self._counter = ray_metrics.Counter(series.name, series.description, series.tags)

    def count(self, entries: Sequence[Entry]) -> None:
        """Count entries that were new."""
        for tags, number in counted(entries).items():
            self._counter.inc(number, dict(zip(self._tags, tags, strict=True)))


def counted(entries: Sequence[Entry]) -> Counter[tuple[str, str, str]]:
    """How many entries have each decision, region and flagged label; `none`: no label was flagged."""
    found: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        flagged = [name for name, label in entry.decision.labels.items() if label.flagged]
        for label in flagged or ["none"]:
            found[(entry.decision.decision, entry.post.region, label)] += 1
    return found


def points(out: OnlineOut) -> list[Point]:
    """The gauges of a measurement by at most one dimension; `all` is the total."""
    found = list(_points(out.total, ("all", "all")))
    for group in out.groups:
        ((name, value),) = group.group.items()
        found += _points(group, (name, value))
    return found


def _points(figures: Figures, group: tuple[str, str]) -> Iterator[Point]:
    yield from _harm("seawall_prevalence", figures.prevalence, group)
    yield from _harm("seawall_harmful_impressions_share", figures.harmful_impressions, group)
    yield from _estimate("seawall_appeal_overturn_rate", figures.appeals.overturn_rate, group)
    yield Point("seawall_impressions", group, figures.harmful_impressions.of)
    yield Point("seawall_judged_draws", group, figures.prevalence.judged)
    rate = figures.reports.per_thousand_impressions
    if rate is not None:
        yield Point("seawall_reports_per_thousand_impressions", group, rate)
    for noticed, took in (("proactive", figures.takedown.proactive), ("reactive", figures.takedown.reactive)):
        for quantile, seconds in (("0.5", took.p50_s), ("0.95", took.p95_s)):
            if seconds is not None:
                yield Point("seawall_takedown_seconds", (*group, noticed, quantile), seconds)
    yield Point("seawall_review_backlog", group, figures.review.backlog)
    yield Point("seawall_review_deadlines_due", group, figures.review.due)
    yield Point("seawall_review_deadlines_missed", group, figures.review.missed)


def _harm(name: str, harm: Harm, group: tuple[str, str]) -> Iterator[Point]:
    yield from _estimate(name, harm.share, group)
    if harm.share_corrected is not None:
        yield from _estimate(f"{name}_corrected", harm.share_corrected, group)


def _estimate(name: str, estimate: Estimate, group: tuple[str, str]) -> Iterator[Point]:
    for bound in ("value", "low", "high"):
        value = getattr(estimate, bound)
        if value is not None:
            yield Point(name, (*group, bound), value)


def refreshed(ledger: Ledger, metrics: Metrics) -> list[Point]:
    """The gauges of the window that ends now, in total and by each configured dimension."""
    begun = time.perf_counter()
    end = now()
    window = Window(end - timedelta(hours=metrics.window_hours), end, (), metrics.max_groups)
    found: dict[tuple[str, tuple[str, ...]], Point] = {}
    divisions: list[tuple[Dimension, ...]] = [(), *((name,) for name in metrics.series_by)]
    for out in measure_by(ledger, window, divisions, rule_of(metrics), at=end):
        found |= {(point.series, point.tags): point for point in points(out)}
    took = Point("seawall_online_refresh_seconds", (), time.perf_counter() - begun)
    return [*found.values(), took, Point("seawall_online_refreshed_at", (), end.timestamp())]


def start_refreshing(ledger: Ledger, metrics: Metrics) -> None:
    """Tell the gauges for as long as this process lives, on a thread of its own."""
    if metrics.refresh_s > 0:
        threading.Thread(target=_refresh, args=(ledger, metrics), name="online-metrics", daemon=True).start()


def _refresh(ledger: Ledger, metrics: Metrics) -> None:
    gauges = {
        series.name: ray_metrics.Gauge(series.name, series.description, series.tags)
        for series in SERIES.values()
        if series.kind == "gauge"
    }
    told: list[Point] = []
    due = 0.0
    while True:
        if time.monotonic() >= due:
            try:
                told = refreshed(ledger, metrics)
            except Exception:  # the old gauges would look like news
                logger.exception("the online metrics could not be computed")
                told = []
            due = time.monotonic() + metrics.refresh_s
        tell(told, gauges)
        time.sleep(min(REPEAT_S, metrics.refresh_s))


def tell(told: Sequence[Point], gauges: Mapping[str, ray_metrics.Gauge]) -> None:
    """Set the gauges to what is known."""
    for point in told:
        gauges[point.series].set(point.value, dict(zip(SERIES[point.series].tags, point.tags, strict=True)))
