"""Whom a request says it is for, where it comes from, how it is written: what is let in, and as what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from moderation.posts import TextFeature
from moderation.sections import Gateway as Bounds
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.context import current
from serve.gateway import api
from serve.http import entrance
from serve.http.entrance import REPLACED, Entrance, Rules
from serve.http.wire import Api, read_json
from tests.moderation.storage.rows import an_entry, record
from tests.rooms import TOPOLOGY


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    """As a gateway has set them, with what a test lists."""
    rules = Rules(
        Bounds(allowed_hosts=("moderation.example.org", "*.example.net"), allowed_origins=("https://a.example",))
    )
    rules.own_names = frozenset({"machine-7"})
    monkeypatch.setattr(entrance, "HERE", rules)
    return rules


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"method": request.method, "path": request.url.path, **request.path_params})


async def taken(request: Request) -> JSONResponse:
    feature = await read_json(request, TextFeature, 100_000)
    return JSONResponse({"text": feature.text})


async def stream(_request: Request) -> StreamingResponse:
    return StreamingResponse(iter(["one", "two"]), headers={"X-Lines": "2"})


APP = Api()
APP.router.routes[:] = [
    Route("/healthz", echo, methods=["GET"]),
    Route("/echo", echo, methods=["GET", "POST", "PUT"]),
    Route("/stream", stream, methods=["GET"]),
    Route("/text", taken, methods=["POST"]),
    Route("/posts/{post_id:id}", echo, methods=["GET", "PUT"]),
    Route("/posts/{post_id:id}/history", echo, methods=["GET"]),
]
APP.add_middleware(Entrance)


@pytest.fixture
def client() -> TestClient:
    return TestClient(APP, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "[2001:db8::7]", "10.1.2.3", "localhost", "LocalHost:8000"),
        *(
            "seawall.localhost",
            "localhost.",
            "machine-7",
            "Machine-7:8000",
            "moderation.example.org",
            "a.b.example.net",
        ),
        *("MODERATION.example.org:443", "moderation.example.org."),
    ],
)
def test_a_host_that_is_known_or_an_address_is_answered(rules: Rules, client: TestClient, host: str) -> None:
    assert client.get("/echo", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "example.net"),
        *("evil.example.org", "moderation.example.org.evil.example", "", "[::1", "127.0.0.1@evil.example", "1.2.3"),
        *("evil.example#127.0.0.1", "x" * 5000),
    ],
)
def test_the_name_of_somebody_else_is_not_answered_to(rules: Rules, client: TestClient, host: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        response = client.request(method, "/echo", headers={"Host": host})
        assert response.status_code == 421
    problem = client.get("/echo", headers={"Host": host}).json()
    assert (problem["status"], problem["title"]) == (421, "Misdirected request")
    assert "localhost, addresses, machine-7, moderation.example.org, *.example.net" in problem["detail"]
    assert len(problem["detail"]) < 1000


def test_who_looks_after_the_service_may_call_it_anything(rules: Rules, client: TestClient) -> None:
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


def test_a_star_answers_to_any_name(rules: Rules, client: TestClient) -> None:
    rules.bounds = Bounds(allowed_hosts=("*",))
    assert client.get("/echo", headers={"Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        *({"Origin": origin} for origin in ("https://evil.example", "null", "http://localhost:3000", "", "file://")),
        {"Origin": "https://a.example.evil.example"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://[::1"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(
    rules: Rules, client: TestClient, method: str, headers: dict[str, str]
) -> None:
    response = client.request(method, "/echo", headers=headers)
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert next(iter(headers.values())) in response.json()["detail"]
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "https://127.0.0.1:8000"},  # what stands before it ends TLS
        {"Origin": "https://a.example"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://a.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_its_own_pages_those_of_listed_origins_and_programs_change_what_they_may(
    rules: Rules, client: TestClient, headers: dict[str, str]
) -> None:
    assert client.put("/echo", headers=headers).json()["method"] == "PUT"


def test_what_changes_nothing_may_be_asked_from_anywhere_and_is_not_shared(rules: Rules, client: TestClient) -> None:
    response = client.get("/echo", headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_a_listed_origin_is_asked_first_by_its_browser_and_may_read_the_answer(
    rules: Rules, client: TestClient
) -> None:
    asked = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    before = client.options("/echo", headers=asked)
    assert before.status_code == 204
    assert "PUT" in before.headers["access-control-allow-methods"]
    assert before.headers["access-control-allow-headers"] == "content-type"
    response = client.put("/echo", headers={"Origin": "https://a.example"})
    for reply in (before, response):
        assert reply.headers["access-control-allow-origin"] == "https://a.example"
        assert reply.headers["vary"] == "Origin"
    other = client.options("/echo", headers=asked | {"Origin": "https://evil.example"})
    assert other.status_code == 405
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("path", ["/healthz", "/echo", "/posts/p-1", "/posts/p-1/history", "/stream"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(got.headers)
    assert client.head("/nothing").status_code == 404


def test_every_path_that_has_get_has_head() -> None:
    # What stands behind the routes is not there: what matters is that they are found.
    for path, operations in api.openapi()["paths"].items():
        found = TestClient(api, raise_server_exceptions=False).head(path.replace("{", "").replace("}", ""))
        assert (found.status_code != 405) is ("get" in operations), path


@pytest.mark.parametrize(
    ("path", "post_id"),
    [
        ("/posts/p-1", "p-1"),
        ("/posts/p-1/", "p-1"),
        ("/posts/%24abc%3Aserver", "$abc:server"),
        ("/posts/$abc:server", "$abc:server"),
        ("/posts/_a@b+c=", "_a@b+c="),
        ("/posts/at:%2F%2Fdid:plc:x%2Fapp.bsky.feed.post%2F3k", "at://did:plc:x/app.bsky.feed.post/3k"),
        ("/posts/https%3a%2f%2fa.example%2fb%3Fc%3D1%23d/history", "https://a.example/b?c=1#d"),
        ("/posts/a%2Fhistory", "a/history"),
        ("/posts/%C3%A9%2F", "é/"),
    ],
)
def test_an_id_stands_in_a_path_as_it_is_or_encoded(client: TestClient, path: str, post_id: str) -> None:
    assert client.get(path).json()["post_id"] == post_id


@pytest.mark.parametrize(
    ("body", "text", "replaced"),
    [
        (b'{"id": "1", "text": "plain"}', "plain", None),
        (b'\xef\xbb\xbf{"id": "1", "text": "marked"}', "marked", None),
        (rb'{"id": "1", "text": "cut \ud83d"}', "cut \ufffd", "1"),
        (b'{"id": "1", "text": "caf\xe9"}', "caf\ufffd", "1"),
        (b'{"id": "1", "text": "' + rb"\udc00\ud83d\ude00\ud83d" + b'x"}', "\ufffd\U0001f600\ufffdx", "2"),
        (b'{"id": "1", "text": "' + b"a" * 9_000 + rb"\ud83d" + b'"}', "a" * 9_000 + "\ufffd", "1"),
    ],
)
def test_what_is_no_character_is_replaced_and_that_is_said(
    client: TestClient, body: bytes, text: str, replaced: str | None
) -> None:
    for sent in (body, body + b" " * (1 << 15)):  # a long one is read on a thread
        response = client.post("/text", content=sent, headers={"Content-Type": "application/json"})
        assert response.status_code == 200, response.text
        assert response.json()["text"] == text
        assert response.headers.get(REPLACED) == replaced


def test_one_request_s_characters_are_not_another_one_s(client: TestClient) -> None:
    bad, good = (json.dumps({"id": "1", "text": text}) for text in ("\ud83d", "a"))
    found = [
        client.post("/text", content=b, headers={"Content-Type": "text/json"}).headers.get(REPLACED)
        for b in (bad, good)
    ]
    assert found == ["1", None]


EXTREMES = [
    *(
        "",
        "0",
        "-1",
        "1",
        "9" * 18,
        str(2**63 - 1),
        str(2**63),
        str(2**64),
        "9" * 400,
        "1e308",
        "nan",
        "Infinity",
        "null",
    ),
    *("0001-01-01", "9999-12-31", "1970-01-01", "10000-01-01", "2026-02-30", "0000-00-00", "-0001-01-01"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *(
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "253402300799",
        "-62135596800",
        "1e18",
        "true",
        "\0",
        "\ud800é",
        "%",
    ),
    *("a" * 300, "a/b", "..", "region,region", "label", "region,language,community,label,model_version", ",", "'; --"),
]


@pytest.fixture
def api_client(ledger: Ledger) -> Iterator[TestClient]:
    """The API without a cluster: what stands on the ledger alone, with a post in it."""
    record(ledger, an_entry(author="u-4711", flagged={"abuse": True}))
    context = SimpleNamespace(topology=Topology.load(TOPOLOGY), ledger=ledger)
    api.dependency_overrides[current] = lambda: context
    yield TestClient(api, raise_server_exceptions=False)
    del api.dependency_overrides[current]


def _asked(operation: dict[str, Any], path: str, extreme: str) -> Iterator[tuple[str, dict[str, str]]]:
    """A path with one parameter after the other at an extreme, and the query that goes with it."""
    told = operation.get("parameters", [])
    right = {"post_id": "p-1", "reporter_id": "r-1", "reviewer_id": "m-1", "review_id": "1", "fuse_id": "1"}
    needed = {item["name"]: "2026-11-24" for item in told if item["in"] == "query" and item.get("required")}
    places = {item["name"]: right.get(item["name"], "1") for item in told if item["in"] == "path"}
    for item in told:
        if item["in"] == "path":
            value = quote(extreme.encode("utf-8", "replace"), safe="") or "%20"
            yield path.format(**(places | {item["name"]: value})), needed
        elif item["in"] == "query":
            yield path.format(**places), needed | {item["name"]: extreme.encode("utf-8", "replace").decode()}


@pytest.mark.parametrize(
    "name",
    sorted(
        f"{method.upper()} {path}"
        for path, operations in api.openapi()["paths"].items()
        for method, operation in operations.items()
        if operation.get("parameters") and not path.startswith(("/v1/posts/{post_id}/history", "/v1/media"))
        if path != "/v1/posts/{post_id}"
    ),
)
def test_no_parameter_at_its_extreme_is_a_server_s_error(name: str, api_client: TestClient) -> None:
    method, path = name.split()
    operation = api.openapi()["paths"][path][method.lower()]
    for extreme in EXTREMES:
        for asked, query in _asked(operation, path, extreme):
            response = api_client.request(method, asked, params=query, json={} if method != "GET" else None)
            assert response.status_code < 500, (asked, query, response.text)
            assert response.status_code < 400 or "json" in response.headers["content-type"]
