"""The loop, whole: real Ray, real MLflow, real SQLite, through HTTP and commands alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seawall
from simulate.scenario import VARIANT, plot, run
from simulate.service import PATIENT, Service, light_topology, running_service

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Evenings(Service):
    """A Seawall whose commands of every evening run in this process, but for the first time.

    As processes, each takes seconds to import what it needs.
    """

    begun: set[tuple[str, ...]] = field(default_factory=set)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = arguments[:2] if arguments[0] == "drift" else arguments[:1]
        if command not in self.begun:
            self.begun.add(command)
            return Service.run(self, *arguments)
        if command not in (("drift", "check"), ("status",)):  # these join Ray, or change the service
            return Service.run(self, *arguments)
        done = CliRunner().invoke(seawall.app, arguments, env={"SEAWALL_HOME": str(self.home)}, catch_exceptions=False)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Service]:
    """A Seawall of the test's own, on the light topology, with patience."""
    with running_service(tmp_path / "home", topology=light_topology(tmp_path, **PATIENT), quiet=True) as service:
        yield Evenings(service.home, service.port)


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
