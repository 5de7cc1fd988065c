"""Regional and per-language variants, as `deployments/regions.yaml` has them, in a running Seawall."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulate.service import PATIENT, PATIENT_S, Service, regions_topology, running_service

pytestmark = pytest.mark.slow

GERMAN = "Das Wetter ist heute schön, wir gehen gleich mit den Kindern an den See."
ENGLISH = "The weather is fine today, we are going down to the lake with the children."
NUMBERS = "12345 67890"


@pytest.fixture(scope="module")
def regional(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("regions")
    topology = regions_topology(folder, gateway=PATIENT["gateway"])
    with running_service(folder / "home", topology=topology, quiet=True) as service:
        yield service


def decided(service: Service, text: str, region: str) -> dict[str, Any]:
    post = {"author_id": "u-1", "community": "lakes", "region": region, "created_at": "2020-01-01T00:00:00Z"}
    url = f"{service.url}/v1/posts/t-{uuid.uuid4().hex}"
    response = httpx.put(url, json=post | {"text": text}, timeout=PATIENT_S, trust_env=False)
    decision: dict[str, Any] = response.raise_for_status().json()
    return decision


@pytest.mark.parametrize(
    ("text", "region", "models"),
    [
        (GERMAN, "DE", {"text": "text-de@1"}),
        (GERMAN, "CH", {"text": "text-de@1"}),
        (GERMAN, "US", {"text": "text-multi@1"}),
        (ENGLISH, "DE", {"text": "text-multi@1"}),
        (ENGLISH, "US", {"text": "text-multi@1", "misinformation": "misinformation@1"}),
        (ENGLISH, "GB", {"text": "text-multi@1"}),
        (NUMBERS, "DE", {"text": "text-multi@1"}),
    ],
)
def test_a_post_is_judged_by_the_variant_of_its_region_and_language(
    regional: Service, text: str, region: str, models: dict[str, str]
) -> None:
    decision = decided(regional, text, region)
    assert decision["models"] == models
    assert decision["labels"]["abuse"]["status"] == "scored"
    misinformation = "scored" if "misinformation" in models else "not_scored"
    assert decision["labels"]["misinformation"]["status"] == misinformation


def test_each_variant_is_a_model_of_its_own_in_the_registry(regional: Service) -> None:
    found: Any = regional.ask("models", "list")
    assert [(model["variant"], model["version"]) for model in found] == [
        ("text-multi", 1),
        ("text-de", 1),
        ("misinformation", 1),
    ]
