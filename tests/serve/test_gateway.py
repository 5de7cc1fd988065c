"""The gateway's own part in HTTP, as far as it goes without a cluster: methods, errors, parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from moderation.topology import Topology
from serve.context import current
from serve.gateway import api
from tests.rooms import TOPOLOGY, run


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/healthz", "GET"),
        ("DELETE", "/v1/posts/p-1", "GET, PUT"),
        ("GET", "/v1/posts:batch", "POST"),
        ("PATCH", "/v1/posts/p-1/appeals", "GET, POST"),
        ("PUT", "/v1/moderations", "POST"),
    ],
)
def test_a_method_that_a_path_has_not_is_told_with_those_it_has(method: str, path: str, allowed: str) -> None:
    response = TestClient(api).request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "Method not allowed"


def test_an_unknown_path_is_a_problem_too() -> None:
    response = TestClient(api).get("/v1/nothing")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert "allow" not in response.headers


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/events", "/v1/posts/p-1/reports"])
def test_a_client_that_goes_while_its_body_is_read_is_no_error(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    context = SimpleNamespace(topology=Topology.load(TOPOLOGY))
    monkeypatch.setitem(api.dependency_overrides, current, lambda: context)
    sent = answered("POST", path, [{"type": "http.disconnect"}])
    assert sent[0]["status"] == 499
    assert caplog.text == ""


def test_an_error_that_nobody_foresaw_is_logged_once_and_ends_at_the_gateway(
    no_replica: None, caplog: pytest.LogCaptureFixture
) -> None:
    sent = answered("GET", "/v1/events/e-1", []) + answered("GET", "/v1/metrics/online", [])
    assert [message["status"] for message in sent[::2]] == [404, 500]
    assert json.loads(sent[-1]["body"])["detail"] == "AttributeError; the log of the service says more"
    assert [record.message for record in caplog.records] == ["unexpected error"]


def answered(method: str, path: str, messages: list[Message]) -> list[Any]:
    """What the application sends to a client that sends these; as a server sees it: whatever is raised, is raised."""
    sent: list[Any] = []
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100" if messages else b"0")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    run(api(scope, receive, send))
    return sent


@pytest.fixture
def no_replica() -> Iterator[None]:
    """Nothing stands behind the routes: what is refused before is refused without it."""
    api.dependency_overrides[current] = lambda: None
    yield
    del api.dependency_overrides[current]


@pytest.mark.parametrize(
    ("method", "path", "errors"),
    [
        ("GET", "/v1/statements?day=yesterday", {"day": "Input should be a valid date"}),
        ("GET", "/v1/statements", {"day": "Field required"}),
        ("PUT", "/v1/reviews/x", {"review_id": "Input should be a valid integer"}),
        (
            "GET",
            "/v1/labels/export?after=-1&limit=0",
            {"after": "Input should be greater than", "limit": "Input should be greater than"},
        ),
    ],
)
def test_a_wrong_parameter_is_told_by_its_name_and_nothing_of_the_code(
    method: str, path: str, errors: dict[str, str], no_replica: None
) -> None:
    response = TestClient(api).request(method, path)
    problem = response.json()
    assert (response.status_code, problem["status"]) == (422, 422)
    assert [error["parameter"] for error in problem["errors"]] == list(errors)
    for error, text in zip(problem["errors"], errors.values(), strict=True):
        assert error["detail"].startswith(text)
    assert ".py" not in response.text
