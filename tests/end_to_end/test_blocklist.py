"""The blocklist of a running Seawall is what its file says, a moment after the file changed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from moderation.settings import DEPLOYMENTS
from tests.end_to_end.scenario import LIGHT
from tests.end_to_end.service import Service, running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def blocklist(tmp_path: Path) -> Path:
    path = tmp_path / "blocklist.txt"
    path.write_text("malware.example\n", encoding="utf-8")
    return path


@pytest.fixture
def service_with_a_list(tmp_path: Path, blocklist: Path) -> Iterator[Service]:
    """A Seawall of the test's own, on the light topology with a list that the test may change."""
    raw = yaml.safe_load(LIGHT.read_text(encoding="utf-8"))
    raw |= {"policy": str(DEPLOYMENTS / raw["policy"]), "blocklist": str(blocklist)}
    for variant in raw["variants"].values():
        variant["shipped"] = str(DEPLOYMENTS / variant["shipped"])
    topology = tmp_path / "topology.yaml"
    topology.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with running_service(tmp_path / "home", topology=topology, quiet=True) as service:
        yield service


def test_a_list_that_changes_holds_for_the_posts_after_it(service_with_a_list: Service, blocklist: Path) -> None:
    with httpx.Client(base_url=service_with_a_list.url, timeout=60, trust_env=False) as client:

        def verdict() -> str:
            post = {"author_id": "u-1", "community": "drivers", "region": "US", "created_at": "2020-01-01T00:00:00Z"}
            post["text"] = "free drivers at https://files.phish.example/setup"
            decision = client.put(f"/v1/posts/{uuid.uuid4().hex}", json=post).raise_for_status().json()
            return str(decision["links"][0]["verdict"])

        assert verdict() == "unlisted"
        blocklist.write_text("malware.example\nphish.example\n", encoding="utf-8")
        time.sleep(3)  # nothing is put meanwhile: the first post after it is judged by the new list
        assert verdict() == "blocked"
