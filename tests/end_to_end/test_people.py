"""The human side of a running Seawall, over HTTP: reports, leases, verdicts, appeals, fuses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulate.service import PATIENT_S, Service
from tests.end_to_end.test_http import ABUSE, a_post, new_id, the_problem

pytestmark = pytest.mark.slow


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENT_S, trust_env=False) as client:
        yield client


def put(client: httpx.Client, text: str, **changes: Any) -> dict[str, Any]:
    """A post, whose text and author are nobody else's."""
    unique = uuid.uuid4().hex[:8]
    changes.setdefault("author_id", f"u-{unique}")
    response = client.put(f"/v1/posts/{new_id()}", json=a_post(f"{text} {unique}", **changes))
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


def reviewer() -> str:
    return f"mod-{uuid.uuid4().hex[:8]}"


def lease(client: httpx.Client, who: str, post_id: str) -> dict[str, Any]:
    """The item of one post; the others that come with it stay leased."""
    for _ in range(30):
        got = client.post("/v1/reviews:lease", json={"reviewer_id": who, "limit": 100}).json()["reviews"]
        for item in got:
            if item["post_id"] == post_id:
                found: dict[str, Any] = item
                return found
        if not got:
            break
    raise AssertionError(f"{post_id} was not leased")


def report(client: httpx.Client, post_id: str, who: str, **changes: Any) -> httpx.Response:
    body = {"reporter_id": who, "reason": "it insults me", "label": "abuse"} | changes
    return client.post(f"/v1/posts/{post_id}/reports", json=body)


def test_reports_bring_a_post_before_a_person_who_removes_it(client: httpx.Client) -> None:
    decision = put(client, "the tomatoes are ripe and red")
    assert decision["decision"] == "allow"
    post_id = decision["post_id"]
    people = [f"r-{uuid.uuid4().hex[:8]}" for _ in range(3)]
    replies = [report(client, post_id, who) for who in people]
    assert [reply.status_code for reply in replies] == [201] * 3
    assert replies[0].json()["report_id"]
    again = report(client, post_id, people[0])
    assert (again.status_code, again.headers["seawall-replayed"]) == (200, "true")
    assert again.json()["report_id"] == replies[0].json()["report_id"]
    waiting = client.get(f"/v1/posts/{post_id}").json()
    assert (waiting["decision"], waiting["review"]["queued"]) == ("allow", True)

    who = reviewer()
    item = lease(client, who, post_id)
    assert item["labels"][0] == "abuse"
    assert len(item["reports"]) == 3
    verdict = {"reviewer_id": who, "verdict": "remove", "labels": {"abuse": True}, "note": "insult"}
    done = client.put(f"/v1/reviews/{item['review_id']}", json=verdict)
    assert done.status_code == 200, done.text
    assert done.json()["standing"]["state"] == "removed"
    same = client.put(f"/v1/reviews/{item['review_id']}", json=verdict)
    assert (same.json(), same.headers["seawall-replayed"]) == (done.json(), "true")
    other = verdict | {"verdict": "allow", "labels": {}}
    the_problem(client.put(f"/v1/reviews/{item['review_id']}", json=other), 409)
    gone = client.get(f"/v1/posts/{post_id}").json()
    assert (gone["decision"], gone["review"]["queued"]) == ("remove", False)
    assert gone["standing"]["actor"] == "review"
    assert client.get(f"/v1/posts/{post_id}/history").json()[0]["decision"] == "allow"
    assert client.get(f"/v1/reporters/{people[0]}").json()["upheld"] == 1


def test_an_upheld_appeal_restores_and_exempts(client: httpx.Client) -> None:
    removed = put(client, ABUSE)
    post_id = removed["post_id"]
    assert removed["decision"] == "remove"
    recorded = client.get(f"/v1/posts/{post_id}")
    author = put_author(client, post_id)
    body = {"author_id": author["author_id"], "reason": "a line of a play"}
    first = client.post(f"/v1/posts/{post_id}/appeals", json=body)
    assert first.status_code == 201, first.text
    again = client.post(f"/v1/posts/{post_id}/appeals", json=body)
    assert (again.status_code, again.json()["appeal_id"]) == (200, first.json()["appeal_id"])
    who = reviewer()
    item = lease(client, who, post_id)
    assert item["appeal"] == "a line of a play"
    verdict = {"reviewer_id": who, "verdict": "allow", "labels": {}, "note": "fiction"}
    assert (
        client.put(f"/v1/reviews/{item['review_id']}", json=verdict).json()["standing"]
        == (client.get(f"/v1/posts/{post_id}").json()["standing"])
    )
    assert recorded.json()["decision"] == "remove"
    assert client.get(f"/v1/posts/{post_id}").json()["decision"] == "allow"
    assert client.get(f"/v1/posts/{post_id}/appeals").json()[0]["status"] == "upheld"
    same = client.put(f"/v1/posts/{post_id}", json=author)
    assert (same.headers["seawall-replayed"], same.json()["decision"]) == ("true", "allow")
    elsewhere = client.put(f"/v1/posts/{new_id()}", json=author).json()
    assert (elsewhere["decision"], elsewhere["exempt"]) == ("allow", True)
    assert elsewhere["labels"]["abuse"]["flagged"]


def put_author(client: httpx.Client, post_id: str) -> dict[str, Any]:
    """Put a post anew with content whose author is known; its body."""
    body = a_post(f"{ABUSE} {uuid.uuid4().hex[:8]}", author_id=f"u-{uuid.uuid4().hex[:8]}")
    body["created_at"] = "2020-01-02T00:00:00Z"
    assert client.put(f"/v1/posts/{post_id}", json=body).json()["decision"] == "remove"
    return body


def test_a_muted_reporter_weighs_nothing(client: httpx.Client) -> None:
    post_id = put(client, "the beans are green")["post_id"]
    people = [f"r-{uuid.uuid4().hex[:8]}" for _ in range(4)]
    for who in people:
        assert client.put(f"/v1/reporters/{who}", json={"muted": True}).json()["muted"] is True
        assert report(client, post_id, who).json()["review_queued"] is False
    assert client.get(f"/v1/posts/{post_id}").json()["review"]["queued"] is False


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "/v1/posts/unknown-post/reports", {"reporter_id": "r-1", "reason": "x"}, 404),
        ("post", "/v1/posts/unknown-post/reports", {"reporter_id": "r-1"}, 422),
        ("post", "/v1/posts/unknown-post/reports", {"reporter_id": "", "reason": "x"}, 422),
        ("post", "/v1/posts/unknown-post/reports", {"reporter_id": "r-1", "reason": "x", "label": "rude"}, 422),
        ("post", "/v1/posts/unknown-post/reports", {"reporter_id": "r-1", "reason": "x" * 2001}, 422),
        ("post", "/v1/posts/unknown-post/reports", ["r-1"], 422),
        ("post", "/v1/posts/unknown-post/appeals", {"author_id": "u-1", "reason": "x"}, 404),
        ("get", "/v1/posts/unknown-post/appeals", None, 404),
        ("post", "/v1/reviews:lease", {"reviewer_id": "mod-1", "limit": 0}, 422),
        ("post", "/v1/reviews:lease", {"reviewer_id": "mod-1", "limit": 101}, 422),
        ("post", "/v1/reviews:lease", {"reviewer_id": "mod-1", "labels": []}, 422),
        ("post", "/v1/reviews:lease", {"reviewer_id": "mod-1", "labels": ["rude"]}, 422),
        ("post", "/v1/reviews:lease", {"reviewer_id": "mod-1", "languages": ["English"]}, 422),
        ("put", "/v1/reviews/999999999", {"reviewer_id": "mod-1", "verdict": "allow"}, 404),
        ("put", "/v1/reviews/none", {"reviewer_id": "mod-1", "verdict": "allow"}, 422),
        ("put", "/v1/reviews/1", {"reviewer_id": "mod-1", "verdict": "remove"}, 422),
        ("put", "/v1/reviews/1", {"reviewer_id": "mod-1", "verdict": "ban"}, 422),
        ("put", "/v1/reporters/a%20b", {"muted": True}, 422),
        ("put", "/v1/reporters/r-1", {"muted": "perhaps"}, 422),
        ("put", "/v1/golden/unknown-post", {"verdict": "allow", "labels": {"abuse": False}}, 404),
        ("put", "/v1/golden/unknown-post", {"verdict": "allow", "labels": {}}, 422),
        ("get", "/v1/reviews/agreement?from=yesterday", None, 422),
        ("get", "/v1/reviews/agreement?from=2026-01-01T00:00:00", None, 422),
        ("post", "/v1/fuses/999999999:reset", {"by": "alice"}, 404),
        ("post", "/v1/fuses/1:reset", {}, 422),
    ],
)
def test_what_is_wrong_is_told(client: httpx.Client, method: str, path: str, body: Any, status: int) -> None:
    the_problem(client.request(method, path, json=body), status)


def test_a_lease_is_not_given_twice(client: httpx.Client) -> None:
    post_id = put(client, "the pears are ripe as well")["post_id"]
    for number in range(3):
        report(client, post_id, f"r-{number}")
    first = lease(client, reviewer(), post_id)
    other = client.post("/v1/reviews:lease", json={"reviewer_id": reviewer(), "limit": 100}).json()["reviews"]
    assert first["review_id"] not in {item["review_id"] for item in other}


def test_agreement_and_reviewers_and_fuses_have_answers(client: httpx.Client) -> None:
    found = client.get("/v1/reviews/agreement", params={"from": "2020-01-01T00:00:00Z"}).json()
    assert found["items"] >= 0
    assert client.get(f"/v1/reviewers/{reviewer()}").json()["sensitivity"] is None
    assert isinstance(client.get("/v1/fuses").json(), list)


def test_the_command_lists_fuses(service: Service) -> None:
    done = service.run("fuse", "list")
    assert done.returncode == 0, done.stderr
    assert "expected" in done.stdout
    unknown = service.run("fuse", "reset", "999999999", "--by", "alice")
    assert unknown.returncode != 0
    assert "fuse 999999999 is not recorded" in unknown.stderr
