"""The loop, whole: real Ray, real MLflow, real SQLite, through HTTP and commands alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulate.scenario import VARIANT, plot, run
from simulate.service import PATIENT, Service, light_topology, running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Service]:
    """A Seawall of the test's own, on the light topology, with patience."""
    with running_service(tmp_path / "home", topology=light_topology(tmp_path, **PATIENT), quiet=True) as service:
        yield service


def test_a_slang_is_noticed_learned_tried_and_promoted_and_can_be_taken_back(light: Service, tmp_path: Path) -> None:
    summary, scenario = run("slang", light, days=9, posts=1500, seed=7)

    assert summary["broken_promises"] == []
    assert [alert["version"] for alert in summary["alerts"]] == [1] * len(summary["alerts"])
    days = summary["days"]
    assert not days[0]["events"]
    assert not days[1]["events"]
    assert max(day["recall_slang"] for day in days[2:4]) < 0.2
    assert days[-1]["recall_slang"] > 0.4
    new = summary["promoted"]["to"]
    assert set(days[-1]["versions"]) == {f"{VARIANT}@{new}"}
    shared = next(day for day in days if day["challenger_share"] == 0.2)
    assert 0.1 < shared["versions"][f"{VARIANT}@{new}"] / shared["posts"] < 0.3
    assert summary["probe"]["after"]["abuse"] > summary["probe"]["before"]["abuse"]
    plot(scenario, tmp_path / "loop.png")
    assert (tmp_path / "loop.png").stat().st_size > 10_000

    taken_back = light.ask("rollback", VARIANT, "--expect", str(new))
    assert taken_back == {"variant": VARIANT, "from": new, "to": 1}
    assert scenario.probe() == summary["probe"]["before"]
