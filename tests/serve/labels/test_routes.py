"""Labels in and out, over HTTP; the routes without a cluster, on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from moderation.storage import label_rows
from moderation.storage.ledger import Ledger
from serve.labels import examples
from serve.labels.routes import NEXT, router
from tests.moderation.storage.acts import a_review
from tests.moderation.storage.rows import a_label, an_entry, record, say, say_as_verdict
from tests.serve.exports import PLATFORM, client_of, lines


@pytest.fixture
def client(ledger: Ledger) -> Iterator[TestClient]:
    with client_of(router, ledger) as client:
        yield client


def test_labels_are_exported_from_a_number_on(client: TestClient, ledger: Ledger, monkeypatch: Any) -> None:
    monkeypatch.setattr(label_rows, "PAGE", 3)
    record(ledger, an_entry())
    number = a_review(ledger, by="r-7")
    say_as_verdict(ledger, a_label(f"review:{number}"))
    say(ledger, *(a_label(f"l-{index}") for index in range(2, 9)))
    response = client.get("/v1/labels/export", params={"limit": 5})
    found = lines(response)
    assert [line["label_seq"] for line in found] == [1, 2, 3, 4, 5]
    assert (found[0]["reviewer"], found[1]["reviewer"]) == ("r-7", None)
    assert response.headers[NEXT] == "5"
    assert list(examples.LABEL) == list(found[0])  # what OpenAPI shows is what is sent
    assert list(examples.LABEL["models"][0]) == list(found[0]["models"][0])
    response = client.get("/v1/labels/export", params={"after": 5})
    assert [line["id"] for line in lines(response)] == ["l-6", "l-7", "l-8"]
    assert response.headers[NEXT] == "8"
    response = client.get("/v1/labels/export", params={"after": 8})
    assert lines(response) == []
    assert response.headers[NEXT] == "8"


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=-1", f"after={2**63}"])
def test_a_cursor_or_limit_that_is_none_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/v1/labels/export?{query}").status_code == 422


def test_a_limit_beyond_the_bound_is_told_with_the_bound(client: TestClient) -> None:
    bound = PLATFORM.gateway.max_exported_labels
    response = client.get("/v1/labels/export", params={"limit": bound + 1})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["detail"], response.json()["bound"]) == (
        f"limit is {bound + 1}, the bound is {bound}",
        bound,
    )
    assert client.get("/v1/labels/export", params={"limit": bound}).status_code == 200


def test_the_routes_are_in_the_gateway_s_api() -> None:
    from serve.gateway import api

    paths = api.openapi()["paths"]
    assert set(paths["/v1/labels"]) == {"post"}
    assert set(paths["/v1/labels/export"]) == {"get"}
