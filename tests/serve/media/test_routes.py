"""The stateless routes of images and videos, as far as they go before anything is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from moderation.topology import Topology
from serve.context import current
from serve.gateway import api
from tests.rooms import TOPOLOGY

RULES = Topology.load(TOPOLOGY)


@pytest.fixture
def client() -> Iterator[TestClient]:
    api.dependency_overrides[current] = lambda: SimpleNamespace(topology=RULES)
    yield TestClient(api)
    del api.dependency_overrides[current]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_features_beyond_the_bound_are_told_with_a_pointer(client: TestClient, kind: str) -> None:
    bound = RULES.media.max_features
    features = [{"id": str(number), "data": ""} for number in range(bound + 1)]
    response = client.post(f"/v1/{kind}/moderate", json={"features": features})
    assert response.status_code == 422
    assert response.json()["bound"] == bound
    detail = f"{bound + 1} features, the bound is {bound}"
    assert response.json()["errors"] == [{"pointer": "/features", "detail": detail}]
