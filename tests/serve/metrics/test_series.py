"""What Prometheus is told, and that the dashboard shows just that."""

from __future__ import annotations

import json
import re
from typing import Any

from moderation.sections import Metrics
from moderation.settings import DEPLOYMENTS
from moderation.storage.ledger import Ledger, now
from serve.metrics.online import measure
from serve.metrics.queries import Window
from serve.metrics.series import SERIES, Point, counted, points, refreshed
from tests.moderation.storage.rows import at
from tests.rooms import a_post, an_entry
from tests.serve.metrics.online_rows import a_decided_post, a_report, a_review, an_action, impressions

DASHBOARD = json.loads((DEPLOYMENTS / "dashboards" / "online.json").read_text(encoding="utf-8"))


def expressions(node: Any) -> list[str]:
    """Every query of a dashboard, those of its variables too."""
    if isinstance(node, dict):
        return [
            value
            for key, value in node.items()
            if key in ("expr", "query") and isinstance(value, str) and "ray_" in value
        ] + [found for value in node.values() for found in expressions(value)]
    if isinstance(node, list):
        return [found for value in node for found in expressions(value)]
    return []


def tags_of(expression: str) -> set[str]:
    """The labels that a query selects or groups by."""
    grouped = {name.strip() for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(",")}
    return grouped | set(re.findall(r"[{,]\s*(\w+)=", expression))


def value(found: list[Point], series: str, *tags: str) -> float | None:
    (known,) = [point.value for point in found if (point.series, point.tags) == (series, tags)] or [None]
    return known


def test_the_dashboard_shows_every_series_and_nothing_that_is_none() -> None:
    shown = {name for text in expressions(DASHBOARD) for name in re.findall(r"ray_\w+", text)}
    assert shown == {series.exported for series in SERIES.values()}


def test_the_dashboard_asks_each_series_only_for_tags_that_it_has() -> None:
    by_name = {series.exported: set(series.tags) for series in SERIES.values()}
    asked = 0
    for expression in expressions(DASHBOARD["panels"]):
        known = set.intersection(*(by_name[name] for name in re.findall(r"ray_\w+", expression)))
        assert tags_of(expression) <= known, expression
        asked += 1
    assert asked == len(DASHBOARD["panels"])


def test_the_dashboard_is_as_grafana_takes_it() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(DASHBOARD)))
    assert used == variables
    for panel in DASHBOARD["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["targets"]


def test_the_dashboards_dimensions_are_those_that_are_told() -> None:
    (by,) = [variable for variable in DASHBOARD["templating"]["list"] if variable["name"] == "by"]
    assert set(by["query"].split(",")) == {"all", *Metrics().series_by}


def test_decisions_are_counted_once_a_flagged_label() -> None:
    entries = [
        an_entry("p-1", a_post(), scores={"abuse": 0.1}),
        an_entry("p-2", a_post(region="DE"), scores={"abuse": 0.9, "hate": 0.9}, flagged=True),
        an_entry("p-3", a_post(region="DE"), scores={"abuse": 0.9}, flagged=True),
    ]
    assert counted(entries) == {
        ("allow", "US", "none"): 1,
        ("remove", "DE", "abuse"): 2,
        ("remove", "DE", "hate"): 1,
    }


def test_of_nothing_only_counts_are_told(ledger: Ledger) -> None:
    found = points(measure(ledger, Window(at(0), at(60))))
    assert {point.series for point in found} == {
        "seawall_impressions",
        "seawall_judged_draws",
        "seawall_review_backlog",
        "seawall_review_deadlines_due",
        "seawall_review_deadlines_missed",
    }
    assert {(point.tags, point.value) for point in found} == {(("all", "all"), 0)}


def a_lively_hour(ledger: Ledger, minutes: float = 0) -> None:
    """Four posts of Germany from that minute on: one removed after three minutes, one reported, all judged and seen."""
    for number in range(4):
        a_decided_post(ledger, f"p-{number}", region="DE", minutes=minutes)
        a_review(
            ledger,
            f"p-{number}",
            probability=1.0,
            verdict="allow" if number else "remove",
            created=minutes,
            decided=minutes + 10,
            deadline=minutes + 60,
        )
        impressions(ledger, f"p-{number}", 250, minutes=minutes + 1)
    a_report(ledger, "p-1", minutes=minutes + 1)
    an_action(ledger, "p-0", minutes=minutes + 3)


def test_the_points_are_the_metrics(ledger: Ledger) -> None:
    a_lively_hour(ledger)
    found = points(measure(ledger, Window(at(0), at(120), ("region",))))
    for group in (("all", "all"), ("region", "DE")):
        assert value(found, "seawall_prevalence", *group, "value") == 0.25
        assert value(found, "seawall_harmful_impressions_share", *group, "high") == 0.25
        assert value(found, "seawall_prevalence_corrected", *group, "value") is None
        assert value(found, "seawall_impressions", *group) == 1000
        assert value(found, "seawall_judged_draws", *group) == 4
        assert value(found, "seawall_reports_per_thousand_impressions", *group) == 1
        assert value(found, "seawall_takedown_seconds", *group, "proactive", "0.5") == 180
        assert value(found, "seawall_takedown_seconds", *group, "reactive", "0.5") is None
        assert value(found, "seawall_appeal_overturn_rate", *group, "value") is None
        assert value(found, "seawall_review_deadlines_due", *group) == 4


def test_every_point_has_the_tags_of_its_series_and_a_window_ends_now(ledger: Ledger) -> None:
    a_lively_hour(ledger, minutes=(now() - at(0)).total_seconds() / 60 - 120)
    before = now().timestamp()
    found = refreshed(ledger, Metrics(window_hours=3))
    after = now().timestamp()
    assert len({(point.series, point.tags) for point in found}) == len(found)
    for point in found:
        assert len(point.tags) == len(SERIES[point.series].tags), point
        assert SERIES[point.series].kind == "gauge"
    assert {point.tags[0] for point in found if point.tags} == {"all", *Metrics().series_by}
    assert value(found, "seawall_prevalence", "language", "en", "value") == 0.25
    computed_at = value(found, "seawall_online_refreshed_at")
    assert before <= computed_at <= after
    assert value(refreshed(ledger, Metrics(window_hours=1)), "seawall_impressions", "all", "all") == 0
