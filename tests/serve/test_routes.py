"""All routes of the gateway, in process: over shipped n-gram models and a real ledger, without Ray."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from ray import serve as ray_serve
from starlette.testclient import TestClient

from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.settings import DEPLOYMENTS
from moderation.storage.features import open_features
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from moderation.topology import Topology
from serve.context import GatewayContext
from serve.gateway import api
from serve.http.entrance import REPLACED
from serve.media.door import MediaDoor
from serve.posts.moderator import Moderator
from tests.media_samples import encoded, picture
from tests.serve.compat.routes import MODELS, Models

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
SOME = {
    "post_id": "p-1",
    "reporter_id": "r-1",
    "reviewer_id": "m-1",
    "review_id": "1",
    "fuse_id": "1",
    "sha256": "a" * 64,
}
"""A value for each place in a path."""


@pytest.fixture(scope="module")
def loaded() -> dict[str, TextClassifier]:
    return {name: load_text_classifier(DEPLOYMENTS / "models" / folder) for name, folder in MODELS.items()}


@pytest.fixture
def client(
    ledger: Ledger, loaded: dict[str, TextClassifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    topology = Topology.load(DEPLOYMENTS / "local.yaml")
    models = Models(loaded)
    known = open_features(f"sqlite:///{tmp_path / 'features.db'}")
    moderator = Moderator(topology, ledger, models.score, models.card, known, score_media=models.look)
    door = MediaDoor(topology.media, MediaStore(tmp_path / "media"), tmp_path / "incoming", ledger)
    replica = SimpleNamespace(context=GatewayContext(topology, ledger, moderator, known, door))
    monkeypatch.setattr(ray_serve, "get_replica_context", lambda: SimpleNamespace(servable_object=replica))
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


def a_post(text: str = "the tomatoes are ripe", **changes: Any) -> dict[str, Any]:
    return {
        "author_id": "u-1",
        "community": "gardening",
        "region": "US",
        "created_at": "2026-01-05T08:00:00Z",
        "text": text,
    } | changes


def test_ordinary_values_of_clients_are_judged(client: TestClient) -> None:
    told = {"author_id": "@ann:example.org", "region": "us", "language": "en-US", "created_at": 1767600000}
    for post_id in ("_t3_abc", "$h29iv0:example.org", "ann+x@example.org", "at://did:plc:x/app.bsky.feed.post/3k"):
        path = f"/v1/posts/{quote(post_id, safe='')}"
        answer = client.put(path, json=a_post(**told))
        assert answer.status_code == 200, answer.text
        assert (answer.json()["post_id"], answer.json()["language"]["code"]) == (post_id, "en")
        assert client.get(path).json() == answer.json()
        assert client.get(f"{path}/history").json() == [answer.json()]
        assert client.head(path).status_code == 200
        report = {"reporter_id": "~r@x", "reason": "rude"}
        assert client.post(f"{path}/reports", json=report).json()["post_id"] == post_id


def test_a_packed_and_marked_body_is_the_same_post(client: TestClient) -> None:
    raw = json.dumps(a_post()).encode()
    assert client.put("/v1/posts/p-1", content=raw, headers=JSON).status_code == 200
    for body, told in (
        (gzip.compress(raw), {"Content-Encoding": "gzip"}),
        ("\ufeff".encode() + raw, {}),
        (raw, {"Content-Type": "text/json; charset=utf-8"}),
    ):
        again = client.put("/v1/posts/p-1", content=body, headers=JSON | told)
        assert (again.status_code, again.headers["seawall-replayed"]) == (200, "true"), again.text
    lines = b"\n".join(json.dumps(a_post(post_id=f"b-{n}")).encode() for n in range(3))
    batch = client.post("/v1/posts:batch", content=gzip.compress(lines), headers=NDJSON | {"Content-Encoding": "gzip"})
    assert [json.loads(line)["status"] for line in batch.text.splitlines()] == [200] * 3


def test_half_a_character_is_replaced_recorded_so_and_told(client: TestClient, ledger: Ledger) -> None:
    raw = json.dumps(a_post("cut off \ud83d")).encode()
    answer = client.put("/v1/posts/p-1", content=raw, headers=JSON)
    assert (answer.status_code, answer.headers[REPLACED]) == (200, "1")
    assert client.put("/v1/posts/p-1", json=a_post("cut off \ufffd")).headers["seawall-replayed"] == "true"
    line = raw[:-1] + b', "post_id": "p-2"}'
    batch = client.post("/v1/posts:batch", content=line + b"\n" + line.replace(b"p-2", b"p-3"), headers=NDJSON)
    assert [json.loads(found)["status"] for found in batch.text.splitlines()] == [200, 200]
    assert batch.headers[REPLACED] == "2"
    upload = client.put("/v1/posts/p-4", files={"post": (None, raw, "application/json")})
    assert (upload.status_code, upload.headers[REPLACED]) == (200, "1")


def test_a_page_of_another_origin_records_nothing_by_any_route(client: TestClient, ledger: Ledger) -> None:
    body = json.dumps(
        {"comment": {"text": "you idiot"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
    )
    for headers in (JSON | {"Origin": "https://evil.example"}, {}, {"Content-Type": "text/plain"}):
        response = client.post("/v1alpha1/comments:suggestscore", content=body, headers=headers)
        assert response.status_code in (403, 415)
    for path, operations in api.openapi()["paths"].items():
        for method in operations:
            if method != "get":
                answer = client.request(method, path.format(**SOME), headers={"Origin": "null"}, json=a_post())
                assert answer.status_code == 403, (method, path)
    assert ledger.newest(["p-1"]) == {}


def test_a_preview_takes_what_a_put_takes_and_keeps_nothing(client: TestClient, ledger: Ledger, tmp_path: Path) -> None:
    for request in (
        {"json": a_post()},
        {
            "files": {
                "post": (None, json.dumps(a_post()), "application/json"),
                "a": ("a.png", encoded(picture(), "png"), "image/png"),
            }
        },
    ):
        previewed = client.post("/v1/posts:preview", **request)
        assert previewed.status_code == 200, previewed.text
        assert (previewed.json()["post_id"], len(previewed.json()["media"])) == ("preview", int("files" in request))
    assert client.get("/v1/posts/preview").status_code == 404
    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file() and "aside" not in path.parts] == []


VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        2**64,
        10**400,
        1e308,
        -0.0,
        "",
        " ",
        "\0",
        "\ud800",
        "\U0010ffff",
        "x" * 5000,
    ),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "..", "a/b", "en-US", "und", "%00"),
    *(
        [],
        {},
        [None],
        [[]],
        {"": None},
        {"abuse": True},
        {"a\0": "\0"},
        ["und"],
        [{"kind": "image", "sha256": "a" * 64}],
    ),
]


def _examples() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Method, path, media type and example of each body that is JSON or lines of it."""
    for path, operations in api.openapi()["paths"].items():
        for method, operation in operations.items():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                if media_type != "multipart/form-data":
                    yield method, path, media_type, content["schema"]["examples"][0]


@pytest.mark.parametrize(
    ("method", "path", "media_type", "example"), list(_examples()), ids=lambda value: str(value)[:40]
)
def test_no_member_of_a_body_at_its_extreme_is_a_server_s_error(
    client: TestClient, method: str, path: str, media_type: str, example: dict[str, Any]
) -> None:
    client.put("/v1/posts/p-1", json=a_post())
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda body, name=name, value=value: body | {name: value} for name in [*example, "unknown"] for value in VALUES
    ]
    changes += [lambda _body, value=value: value for value in VALUES]
    for change in changes:
        body = json.dumps(change(example)).encode()
        response = client.request(method, path.format(**SOME), content=body, headers={"Content-Type": media_type})
        assert response.status_code < 500, (body[:200], response.text)
        if media_type != "application/json" and response.status_code == 200 and "status" in response.text[:200]:
            assert all(json.loads(line)["status"] < 500 for line in response.text.splitlines()), (body, response.text)
