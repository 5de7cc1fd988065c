"""The HTTP surface of a running Seawall, as a platform meets it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

from moderation.labels import BY_NAME
from moderation.posts import Decision
from moderation.running import find
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from moderation.storage.tables import decisions, posts
from serve.rollout.ray_cluster import _session
from simulate.service import PATIENT_S, Service

pytestmark = pytest.mark.slow

VARIANTS = ("text-multi", "misinformation", "image-multi", "video-multi")
NDJSON = {"Content-Type": "application/x-ndjson"}
ABUSE = "you are such a stupid bitch, shut the fuck up you worthless piece of trash"


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENT_S, trust_env=False) as client:
        yield client


def a_post(text: str = "the tomatoes are ripe", **changes: Any) -> dict[str, Any]:
    return {
        "author_id": "u-1",
        "community": "gardening",
        "region": "US",
        "created_at": "2020-01-01T00:00:00Z",
        "text": text,
    } | changes


def new_id() -> str:
    return f"t-{uuid.uuid4().hex}"


def the_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def test_it_lives_and_is_ready(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["models"]) == {f"{variant}/champion" for variant in VARIANTS}


def test_the_samples_of_the_start_and_what_is_previewed_stand_nowhere(service: Service, client: httpx.Client) -> None:
    post = a_post(ABUSE, author_id=new_id())
    previewed = client.post("/v1/posts:preview", json=post)
    assert (previewed.status_code, previewed.json()["decision"]) == (200, "remove")
    Decision.model_validate(previewed.json())
    the_problem(client.post("/v1/posts:preview", json=post | {"region": "Europe"}), 422)
    the_problem(client.get("/v1/posts/preview"), 404)
    shown = service.ask("moderate", ABUSE, "--preview")
    assert shown["decision"] == "remove"
    with Ledger(f"sqlite:///{service.home / 'ledger.db'}").read() as connection:
        authors = set(connection.execute(select(posts.c.author_id).distinct()).scalars())
    assert not [author for author in authors if author.startswith("sample-") or author == post["author_id"]]


def test_models_are_placed_by_their_shares_of_a_gpu(service: Service) -> None:
    for variant in VARIANTS:
        said = service.deployment(variant, "classifier")
        assert said["deployment_config"]["ray_actor_options"]["num_gpus"] == 0.25
        assert [replica["state"] for replica in said["replicas"]] == ["RUNNING"]


def test_a_decision_has_the_promised_shape_and_says_what_made_it(client: httpx.Client) -> None:
    post_id = new_id()
    response = client.put(f"/v1/posts/{post_id}", json=a_post(ABUSE))
    assert response.status_code == 200
    assert "seawall-replayed" not in response.headers
    decision = response.json()
    assert Decision.model_validate(decision).model_dump(mode="json") == decision
    assert (decision["post_id"], decision["content_version"]) == (post_id, 1)
    assert (decision["decision"], decision["degraded"]) == ("remove", False)
    assert set(decision["labels"]) == set(BY_NAME)
    abuse = decision["labels"]["abuse"]
    assert (abuse["status"], abuse["flagged"], abuse["input_types"]) == ("scored", True, ["text"])
    assert abuse["score"] >= abuse["remove_threshold"] >= abuse["threshold"] > 0
    assert abuse["objective"] == "precision>=0.3"
    assert decision["labels"]["nudity"]["status"] == "not_scored"
    assert decision["labels"]["nudity"]["score"] is None
    assert decision["labels"]["nudity"]["reason"] == "no_media"
    assert decision["language"]["code"] == "en"
    assert decision["models"] == {"text": "text-multi@1", "misinformation": "misinformation@1"}
    assert decision["labels"]["misinformation"]["status"] == "scored"
    assert decision["policy_version"]
    assert decision["latency_ms"] > 0
    assert datetime.fromisoformat(decision["decided_at"]).tzinfo is not None


def test_the_decision_and_its_features_are_in_the_ledger_when_the_reply_comes(
    client: httpx.Client, service: Service
) -> None:
    post_id = new_id()
    body = client.put(f"/v1/posts/{post_id}", json=a_post()).json()
    ledger = Ledger(f"sqlite:///{service.home / 'ledger.db'}")
    recorded = ledger.newest([post_id])[post_id]
    ledger.close()
    assert json.loads(recorded.body) == body


def test_the_same_content_is_answered_from_the_ledger(client: httpx.Client) -> None:
    post_id = new_id()
    first = client.put(f"/v1/posts/{post_id}", json=a_post())
    second = client.put(f"/v1/posts/{post_id}", json=a_post(created_at="2020-01-02T00:00:00+02:00"))
    assert second.headers["seawall-replayed"] == "true"
    assert second.json() == first.json()
    assert client.get(f"/v1/posts/{post_id}").json() == first.json()


def test_changed_content_becomes_the_next_version_and_the_history_stays(client: httpx.Client) -> None:
    post_id = new_id()
    first = client.put(f"/v1/posts/{post_id}", json=a_post()).json()
    second = client.put(f"/v1/posts/{post_id}", json=a_post(ABUSE, created_at="2020-01-01T00:01:00Z")).json()
    assert second["content_version"] == 2
    assert client.get(f"/v1/posts/{post_id}").json() == second
    assert client.get(f"/v1/posts/{post_id}/history").json() == [first, second]


def test_older_content_never_overwrites_newer(client: httpx.Client) -> None:
    post_id = new_id()
    newest = client.put(f"/v1/posts/{post_id}", json=a_post(created_at="2020-01-01T00:01:00Z")).json()
    problem = the_problem(client.put(f"/v1/posts/{post_id}", json=a_post("an older text")), 409)
    assert "2020-01-01T00:01:00" in problem["detail"]
    assert client.get(f"/v1/posts/{post_id}").json() == newest


def test_concurrent_puts_of_one_post_are_judged_once(client: httpx.Client) -> None:
    post_id = new_id()
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda _: client.put(f"/v1/posts/{post_id}", json=a_post()), range(64)))
    assert {response.status_code for response in responses} == {200}
    assert sum("seawall-replayed" not in response.headers for response in responses) == 1
    assert len({response.text for response in responses}) == 1
    assert len(client.get(f"/v1/posts/{post_id}/history").json()) == 1


def test_a_blocked_link_sends_the_post_to_review(client: httpx.Client) -> None:
    text = "free drivers at hxxps://files.malware[.]example/setup.exe, https://example.org/ and https://youtu.be/x"
    decision = client.put(f"/v1/posts/{new_id()}", json=a_post(text)).json()
    assert decision["decision"] == "review"
    assert [link["verdict"] for link in decision["links"]] == ["blocked", "unlisted", "external_video"]
    assert decision["review"]["queued"] is True
    deadline = datetime.fromisoformat(decision["review"]["deadline"])
    assert 23 < (deadline - datetime.now(UTC)).total_seconds() / 3600 < 24


def test_a_language_outside_the_training_is_scored_and_marked(client: httpx.Client) -> None:
    text = "Bu sabah bahçede domatesler sonunda kızardı, herkese teşekkürler"
    decision = client.put(f"/v1/posts/{new_id()}", json=a_post(text, region="TR")).json()
    assert decision["language"]["code"] == "tr"
    assert decision["language"]["in_training"] is False
    assert decision["labels"]["abuse"]["status"] == "scored"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ("not json", 400, None),
        ('{"author_id": "u"', 400, None),
        ("[]", 422, ""),
        ("null", 422, ""),
        (json.dumps(a_post(author_id="")), 422, "/author_id"),
        (json.dumps(a_post(author_id=7)), 422, "/author_id"),
        (json.dumps(a_post(text=None)), 422, "/text"),
        (json.dumps(a_post(text=["a"])), 422, "/text"),
        (json.dumps(a_post(region="usa")), 422, "/region"),
        (json.dumps(a_post(language="English")), 422, "/language"),
        (json.dumps(a_post(created_at="yesterday")), 422, "/created_at"),
        (json.dumps(a_post(created_at="2020-01-01T00:00:00")), 422, "/created_at"),
        (json.dumps(a_post(created_at="2999-01-01T00:00:00Z")), 422, "/created_at"),
        (json.dumps(a_post(created_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())), 422, "/created_at"),
        (json.dumps(a_post(created_at="0001-01-01T00:00:00Z")), 422, "/created_at"),
        (json.dumps(a_post(media=[{"kind": "image"}])), 422, "/media/0"),
        (json.dumps(a_post("x" * 1_000_000)), 413, None),  # so much is for media alone
        (json.dumps(a_post(extra=1)), 422, "/extra"),
        (json.dumps(a_post(author={"age": [1]})), 422, "/author/age"),
        (json.dumps(a_post("x" * 40_001)), 422, "/text"),
    ],
)
def test_bad_content_is_told_with_its_pointer(
    client: httpx.Client, body: str, status: int, pointer: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    problem = the_problem(client.put(f"/v1/posts/{new_id()}", content=body, headers=headers), status)
    if pointer is not None:
        assert any(error["pointer"].startswith(pointer) for error in problem["errors"])


def test_requests_are_taken_as_clients_write_them(client: httpx.Client) -> None:
    post = a_post("cut off \ud83d", region="us", language="en-US", author_id="@ann:example.org")
    told = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    path = f"/v1/posts/$_{new_id()}:example.org"
    answer = client.put(path, content=gzip.compress(b"\xef\xbb\xbf" + json.dumps(post).encode()), headers=told)
    assert answer.status_code == 200, answer.text
    assert answer.headers["seawall-replaced-characters"] == "1"
    assert (answer.json()["language"]["code"], answer.json()["post_id"]) == ("en", path.removeprefix("/v1/posts/"))
    for asked in (path, "/healthz"):
        head = client.head(asked)
        assert (head.status_code, head.content) == (200, b"")


def test_a_page_of_somebody_else_changes_nothing(client: httpx.Client) -> None:
    path = f"/v1/posts/{new_id()}"
    the_problem(client.put(path, json=a_post(), headers={"Origin": "https://evil.example"}), 403)
    the_problem(client.put(path, json=a_post(), headers={"Host": "evil.example"}), 421)
    the_problem(client.get(path), 404)


def test_bounds_are_told(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    large = the_problem(client.put(f"/v1/posts/{new_id()}", content=b" " * 16_000_001, headers=headers), 413)
    assert large["bound"] == 16_000_000
    long = the_problem(client.put(f"/v1/posts/{new_id()}", json=a_post("x" * 40_001)), 422)
    assert "40001 characters, the bound is 40000" in long["detail"]
    features = [{"id": str(index), "text": "a"} for index in range(1001)]
    many = the_problem(client.post("/v1/text/moderate", json={"features": features}), 422)
    assert many["bound"] == 1000


def test_a_body_without_a_length_is_bounded_too(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000_000

    response = client.put(f"/v1/posts/{new_id()}", content=chunks(), headers={"Content-Type": "application/json"})
    the_problem(response, 413)


def test_other_refusals_are_problems_too(client: httpx.Client) -> None:
    plain = {"Content-Type": "text/plain"}
    the_problem(client.put(f"/v1/posts/{new_id()}", content="{}", headers=plain), 415)
    the_problem(client.put("/v1/posts/a%20b", json=a_post()), 422)
    the_problem(client.put(f"/v1/posts/{'x' * 129}", json=a_post()), 422)
    the_problem(client.get("/v1/posts/never-seen"), 404)
    the_problem(client.get("/v1/posts/never-seen/history"), 404)
    the_problem(client.get("/v1/nothing-here"), 404)
    the_problem(client.patch("/v1/posts/p"), 405)


@pytest.mark.parametrize(
    "text", ["", " ", "\u200b\u202e", "🍅" * 500, "a\u0000b", "ﷺ" * 1000, "x" * 40_000, "ا" * 5000]
)
def test_strange_texts_are_judged(client: httpx.Client, text: str) -> None:
    response = client.put(f"/v1/posts/{new_id()}", json=a_post(text))
    assert response.status_code == 200, response.text
    assert response.json()["labels"]["abuse"]["status"] == "scored"


def test_bad_requests_cost_their_mates_nothing(client: httpx.Client) -> None:
    def put(index: int) -> int:
        body = a_post(f"post number {index}") if index % 2 else a_post(text=None)
        return client.put(f"/v1/posts/{new_id()}", json=body).status_code

    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(put, range(128)))
    assert statuses == [200 if index % 2 else 422 for index in range(128)]


def test_clients_that_leave_cost_their_mates_nothing(client: httpx.Client, service: Service) -> None:
    body = json.dumps(a_post()).encode()
    head = "PUT /v1/posts/{} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"

    def leave() -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(head.format(new_id(), len(body)).encode() + body)

    with ThreadPoolExecutor(16) as pool:
        left = [pool.submit(leave) for _ in range(32)]
        kept = [pool.submit(client.put, f"/v1/posts/{new_id()}", json=a_post(f"{n}")) for n in range(32)]
    assert [future.exception() for future in left] == [None] * 32
    assert {future.result().status_code for future in kept} == {200}


def test_texts_are_scored_in_order_and_nothing_is_recorded(client: httpx.Client) -> None:
    features = [{"id": f"f{n}", "text": ABUSE if n % 3 == 0 else "what a lovely day"} for n in range(100)]
    results = client.post("/v1/text/moderate", json={"features": features}).json()["results"]
    assert [result["id"] for result in results] == [feature["id"] for feature in features]
    scores = [{item["label"]: item["confidence"] for item in result["labels"]}["abuse"] for result in results]
    assert min(scores[0::3]) > max(scores[1::3] + scores[2::3])
    assert all(0 <= score <= 1 for score in scores)
    assert results[0]["language"] == "en"
    assert results[0]["model"].startswith("text-multi@")


def test_a_text_alone_and_among_others_gets_the_same_score(client: httpx.Client) -> None:
    alone = client.post("/v1/text/moderate", json={"features": [{"id": "1", "text": ABUSE}]}).json()["results"][0]
    many = [{"id": str(n), "text": ABUSE if n == 17 else f"filler {n}" * n} for n in range(64)]
    among = client.post("/v1/text/moderate", json={"features": many}).json()["results"][17]
    assert among["labels"] == alone["labels"]


def test_rumours_are_scored_where_a_variant_covers_the_language(client: httpx.Client) -> None:
    features = [
        {"id": "rumour", "text": "Drinking bleach cures coronavirus, the doctors hide it from you", "language": "en"},
        {"id": "fact", "text": "States reported 1121 deaths, a small rise from last Tuesday", "language": "en"},
        {"id": "german", "text": "Guten Tag", "language": "de"},
    ]
    results = client.post("/v1/misinformation/moderate", json={"features": features}).json()["results"]
    rumour, fact, german = results
    assert rumour["labels"][0]["label"] == "misinformation"
    assert rumour["labels"][0]["confidence"] > 0.5 > fact["labels"][0]["confidence"]
    assert (german["labels"], german["model"]) == ([], "none")
    decision = client.put(f"/v1/posts/{new_id()}", json=a_post("Guten Tag", language="de", region="DE")).json()
    assert decision["labels"]["misinformation"]["status"] == "not_scored"
    assert decision["labels"]["misinformation"]["score"] is None


def send_batch(client: httpx.Client, *lines: dict[str, Any] | str) -> list[dict[str, Any]]:
    content = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    response = client.post("/v1/posts:batch", content=content, headers={"Content-Type": "application/x-ndjson"})
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_batch_is_answered_a_line_in_order_each_with_its_own_status(client: httpx.Client) -> None:
    first, second = new_id(), new_id()
    answers = send_batch(
        client,
        a_post(post_id=first),
        "not json",
        "",
        a_post(post_id=second, text=None),
        a_post(ABUSE, post_id=second),
        a_post(post_id=first),
        a_post(post_id="a b"),
    )
    assert [answer["line"] for answer in answers] == [1, 2, 4, 5, 6, 7]
    assert [answer["status"] for answer in answers] == [200, 400, 422, 200, 200, 422]
    assert answers[2]["problem"]["errors"][0]["pointer"] == "/text"
    assert answers[3]["decision"]["decision"] == "remove"
    assert [answers[0]["replayed"], answers[4]["replayed"]] == [False, True]
    assert answers[0]["decision"] == answers[4]["decision"] == client.get(f"/v1/posts/{first}").json()


def test_a_full_batch_is_answered_whole_and_one_line_more_is_refused(client: httpx.Client) -> None:
    batch = new_id()
    posts = [a_post(f"line {number} of a batch", post_id=f"{batch}-{number}") for number in range(1000)]
    answers = send_batch(client, *posts)
    assert [answer["post_id"] for answer in answers] == [post["post_id"] for post in posts]
    assert {answer["status"] for answer in answers} == {200}
    content = "\n".join(json.dumps(post) for post in [*posts, a_post(post_id="one-more")])
    headers = {"Content-Type": "application/x-ndjson"}
    assert the_problem(client.post("/v1/posts:batch", content=content, headers=headers), 413)["bound"] == 1000


def test_a_client_that_fills_the_queue_is_told_429_and_others_are_not(client: httpx.Client) -> None:
    """Three batches at once are more than waits at a time: whoever sent them is refused, until they are through."""
    key = {"X-Api-Key": new_id()}

    def flood(number: int) -> httpx.Response:
        batch = new_id()
        posts = [a_post(f"line {line} of {batch}", post_id=f"{batch}-{line}") for line in range(1000)]
        content = "\n".join(json.dumps(post) for post in posts)
        return client.post("/v1/posts:batch", content=content, headers=NDJSON | key)

    def put(headers: dict[str, str]) -> httpx.Response:
        return client.put(f"/v1/posts/{new_id()}", json=a_post(new_id()), headers=headers)

    asked: list[Future[httpx.Response]] = []
    others: list[httpx.Response] = []
    with ThreadPoolExecutor(64) as pool:
        batches = [pool.submit(flood, number) for number in range(3)]
        while not all(batch.done() for batch in batches):
            if not any(reply.done() and reply.result().status_code == 429 for reply in asked):
                asked.append(pool.submit(put, key))  # one that is let in waits, and must not hold up the next
            elif not any(reply.status_code == 200 for reply in others):
                others.append(put({"X-Api-Key": "another"}))
            time.sleep(0.1)
        mine = [reply.result() for reply in asked]
    problem = the_problem(next(reply for reply in mine if reply.status_code == 429), 429)
    assert problem["bound"] == 921
    assert problem["title"] == "Too many requests"
    assert "posts of this client are waiting already, the bound is 921" in problem["detail"]
    refused = [reply for reply in (*mine, *(batch.result() for batch in batches)) if reply.status_code == 429]
    # As long as what is before it takes (serve/posts/pace.py).
    assert min(int(reply.headers["retry-after"]) for reply in refused) >= 1
    assert others
    assert {reply.status_code for reply in others} <= {200, 503}  # 503 while the batches are more than the whole queue
    taken = [batch.result() for batch in batches if batch.result().status_code == 200]
    assert taken
    assert {json.loads(line)["status"] for reply in taken for line in reply.text.splitlines()} == {200}
    for headers in (key, {"X-Api-Key": "another"}, {}):
        assert put(headers).status_code == 200


def test_what_is_known_of_an_author_is_logged_with_the_decision(client: httpx.Client, service: Service) -> None:
    author = new_id()
    for number in range(3):
        client.put(f"/v1/posts/{author}-{number}", json=a_post(f"post {number}", author_id=author))
    ledger = Ledger(f"sqlite:///{service.home / 'ledger.db'}")
    give_up = time.monotonic() + PATIENT_S
    number, known = 3, 0.0
    while known < 3 and time.monotonic() < give_up:  # counted after the reply
        post_id = f"{author}-{number}"
        client.put(f"/v1/posts/{post_id}", json=a_post(f"post {number}", author_id=author))
        with ledger.read() as connection:
            query = select(decisions.c.features).where(decisions.c.post_id == post_id)
            features = connection.execute(query).scalar_one()
        known, number = features["author_posts_day"], number + 1
    ledger.close()
    assert 3 <= known < number
    assert features["author_removed_month"] == 0.0


def test_models_and_configuration_can_be_looked_at(service: Service) -> None:
    listed = service.run("models", "list", "--json")
    found = json.loads(listed.stdout)
    assert [(model["variant"], model["version"], model["aliases"]) for model in found] == [
        (variant, 1, ["champion"]) for variant in VARIANTS
    ]
    shown = service.ask("models", "show", "text-multi")
    assert shown["architecture"] == "encoder"
    assert {row["label"] for row in shown["thresholds"]} == {"abuse", "hate"}
    assert "fine" in service.run("config", "check").stdout
    rendered = service.ask("config", "render")
    assert [app["name"] for app in rendered["applications"]] == ["gateway", *VARIANTS]


def a_label(post_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"label-{post_id}",
        "post_id": post_id,
        "labels": {"abuse": True},
        "source": "review",
        "labelled_at": "2020-01-01T01:00:00Z",
        "sampling_probability": 1.0,
    } | changes


def send_labels(client: httpx.Client, *lines: dict[str, Any] | str) -> dict[str, Any]:
    content = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    response = client.post("/v1/labels", content=content, headers={"Content-Type": "application/x-ndjson"})
    assert response.status_code == 200, response.text
    taken: dict[str, Any] = response.json()
    return taken


def test_labels_are_taken_once_and_bad_lines_hold_up_nobody(client: httpx.Client) -> None:
    post_id = new_id()
    client.put(f"/v1/posts/{post_id}", json=a_post())
    good = a_label(post_id)
    assert send_labels(client, good) == {"accepted": 1, "duplicates": 0, "errors": []}
    taken = send_labels(
        client,
        good,
        "not json",
        "",
        a_label(post_id, id=f"other-{post_id}", labels={"abuse": False}),
        a_label(post_id, labels={"abuse": False}),
        a_label("never-seen"),
        a_label(post_id, id="x", labels={"sarcasm": True}),
        a_label(post_id, id="y", sampling_probability=0),
        a_label(post_id, id=f"far-{post_id}", labelled_at="9999-12-31T00:00:00Z"),
    )
    assert (taken["accepted"], taken["duplicates"]) == (1, 1)
    assert [error["line"] for error in taken["errors"]] == [2, 5, 6, 7, 8, 9]
    assert "the bound is 300" in taken["errors"][5]["detail"]
    assert "another content" in taken["errors"][1]["detail"]
    assert "never-seen" in taken["errors"][2]["detail"]
    assert "sarcasm" in taken["errors"][3]["detail"]


def test_the_api_documents_itself_with_examples(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    put = document["paths"]["/v1/posts/{post_id}"]["put"]
    schema = put["requestBody"]["content"]["application/json"]["schema"]
    assert schema["examples"][0]["author_id"]
    assert "Decision" in json.dumps(put["responses"]["200"])
    assert {"/v1/text/moderate", "/v1/labels", "/healthz", "/readyz"} <= set(document["paths"])
    assert {"/v1/misinformation/moderate", "/v1/posts:batch"} <= set(document["paths"])
    assert client.get("/docs").status_code == 200


def test_moderate_and_status_speak_of_the_running_service(service: Service) -> None:
    decision = service.ask("moderate", ABUSE, "--language", "en", "--region", "US")
    assert decision["decision"] == "remove"
    status = service.ask("status")
    assert status["ready"] is True
    assert status["url"] == service.url
    second = service.run("up", "--detach", "--port", "9")
    assert second.returncode == 1
    assert "runs already" in second.stderr


def processes(service: Service) -> list[psutil.Process]:
    """All of this Seawall's."""
    running = find(Settings(service.home, "", ""))
    assert running is not None
    return [psutil.Process(running.pid), *_session(running.pid)]


def of_name(service: Service, name: str) -> set[int]:
    found = set()
    for process in processes(service):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith(name) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


def test_everything_listens_on_the_loopback_address_alone(service: Service) -> None:
    pids = {process.pid for process in processes(service)}
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid in pids]
    assert service.port in {one.laddr.port for one in listening}
    assert {one.laddr.ip for one in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_what_is_kept_is_this_user_s_alone(service: Service) -> None:
    assert service.home.stat().st_mode & 0o777 == 0o700
    files = [path for folder in (service.home, service.home / "run") for path in folder.iterdir() if path.is_file()]
    assert {"ledger.db", "ray.log", "service.json"} <= {path.name for path in files}
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_a_body_that_is_slow_is_given_up_by_the_proxy(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENT_S) as slow:
        slow.sendall(b"PUT /v1/posts/p-slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = b"".join(iter(lambda: slow.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["title"] == "Request timeout"


def test_the_proxy_outlives_its_manager(service: Service, client: httpx.Client) -> None:
    [manager] = of_name(service, "ray::HAProxyManager")
    before = of_name(service, "haproxy")
    os.kill(manager, signal.SIGKILL)
    give_up = time.monotonic() + PATIENT_S
    while not of_name(service, "haproxy") - before or of_name(service, "haproxy") & before:
        assert time.monotonic() < give_up
        assert client.put(f"/v1/posts/{new_id()}", json=a_post()).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_a_gateway_that_was_killed_is_a_problem_until_it_is_back(service: Service, client: httpx.Client) -> None:
    os.kill(service.replica("gateway", "gateway"), signal.SIGKILL)
    give_up = time.monotonic() + PATIENT_S
    refused = 0
    while (response := client.put(f"/v1/posts/{new_id()}", json=a_post())).status_code != 200 or not refused:
        if response.status_code != 200:
            refused += 1
            the_problem(response, 503)
            assert int(response.headers["retry-after"]) > 0
        assert time.monotonic() < give_up
