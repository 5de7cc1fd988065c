"""`seawall retrain` on labels that are wrong: the gate refuses, and nothing comes of the version. All is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderation.registry import Registry
from moderation.settings import Settings
from simulate.service import Service
from simulate.traffic import TrafficConfig
from tests.rooms import SHIPPED, TOPOLOGY, VARIANT, new_home
from tests.train.labelled_days import labelled_day

pytestmark = pytest.mark.slow

TRAFFIC = TrafficConfig(posts_per_day=1500, authors=400, abuse_share=0.08, slang_share=0.1, slang_from_day=1)


@pytest.fixture
def settings(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return new_home(tmp_path_factory.getbasetemp(), tmp_path / "home")


def test_labels_that_are_wrong_are_refused_by_the_gate(settings: Settings) -> None:
    registry = Registry(settings)
    registry.register(VARIANT, SHIPPED, evidence={"shipped": True})
    registry.move_alias(VARIANT, "champion", 1, expected=None)
    labelled_day(settings, TRAFFIC, flipped=True).close()
    commands = Service(settings.home, 0)
    topology = ("--topology", str(TOPOLOGY))

    outcome = commands.ask("retrain", VARIANT, *topology)

    assert not outcome["passed"]
    refused = [check for check in outcome["gate"]["checks"] if not check["passed"]]
    assert refused
    assert all(check["reason"] for check in refused)
    assert registry.version(VARIANT, 2).tags == {"gate": "refused", "parent": "1"}  # kept with its evidence
    assert registry.version(VARIANT, 2).aliases == ()
    for command in (("experiment", "create", "hopeless"), ("promote", VARIANT)):
        done = commands.run(*command, *topology)
        assert done.returncode == 1
        assert "has no challenger" in done.stderr
    assert registry.alias(VARIANT, "champion") == 1
