"""Events, online metrics and what Prometheus scrapes of a running Seawall."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from moderation.running import require
from moderation.settings import Settings
from serve.metrics.series import SERIES
from simulate.service import PATIENT_S, Service

pytestmark = pytest.mark.slow

ABUSE = "you are such a stupid bitch, shut the fuck up you worthless piece of trash"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENT_S, trust_env=False) as client:
        yield client


def put(client: httpx.Client, region: str, text: str = "the tomatoes are ripe") -> str:
    post_id = f"e-{uuid.uuid4().hex}"
    post = {"author_id": "u-1", "community": "g", "region": region, "created_at": "2020-01-01T00:00:00Z", "text": text}
    assert client.put(f"/v1/posts/{post_id}", json=post).status_code == 200
    return post_id


def an_event(post_id: str, **changes: Any) -> dict[str, Any]:
    told = {"id": uuid.uuid4().hex, "post_id": post_id, "kind": "impression", "count": 10}
    return told | {"happened_at": datetime.now(UTC).isoformat()} | changes


def send(client: httpx.Client, *lines: dict[str, Any] | str) -> dict[str, Any]:
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    response = client.post("/v1/events", content=body, headers=NDJSON)
    assert response.status_code == 200, response.text
    out: dict[str, Any] = response.json()
    return out


def test_events_are_taken_once_and_a_bad_line_is_its_own_error(client: httpx.Client) -> None:
    post_id = put(client, "US")
    line = an_event(post_id)
    out = send(
        client,
        line,
        line,
        line | {"count": 11},
        "{",
        an_event("nobody"),
        an_event(post_id, kind="view"),
        an_event(post_id, happened_at="9999-12-31T00:00:00Z"),
    )
    assert (out["accepted"], out["duplicates"]) == (1, 1)
    assert [error["line"] for error in out["errors"]] == [3, 4, 5, 6, 7]
    assert "the bound is 300" in out["errors"][4]["detail"]


def test_too_many_lines_and_another_media_type_are_refused(client: httpx.Client) -> None:
    refused = client.post("/v1/events", content=b"{}\n" * 10_001, headers=NDJSON)
    assert (refused.status_code, refused.json()["bound"]) == (413, 10_000)
    assert client.post("/v1/events", content=b"{}", headers={"Content-Type": "text/csv"}).status_code == 415


def test_the_metrics_of_a_window_by_region(client: httpx.Client) -> None:
    region = "QX"  # that no other test of the session uses
    begun = datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(3):
        send(client, an_event(put(client, region)))
    query = {"from": begun.isoformat(), "to": (datetime.now(UTC) + timedelta(seconds=1)).isoformat(), "by": "region"}
    response = client.get("/v1/metrics/online", params=query)
    assert response.status_code == 200, response.text
    (group,) = [found for found in response.json()["groups"] if found["group"] == {"region": region}]
    assert group["prevalence"]["of"] == 3
    assert group["harmful_impressions"]["of"] == 30
    assert group["reports"] == {"count": 0, "impressions": 30, "per_thousand_impressions": 0.0}
    assert group["takedown"]["reactive"] == {"count": 0, "p50_s": None, "p95_s": None}


def test_a_wrong_query_is_a_problem_with_its_bound(client: httpx.Client) -> None:
    response = client.get("/v1/metrics/online", params={"from": "2020-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"})
    assert (response.status_code, response.json()["bound"]) == (422, 92)
    assert response.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/metrics/online", params={"by": "country"}).status_code == 422


def test_the_openapi_document_tells_of_both(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {item["name"] for item in paths["/v1/metrics/online"]["get"]["parameters"]} == {"from", "to", "by"}
    assert "application/x-ndjson" in paths["/v1/events"]["post"]["requestBody"]["content"]


def test_prometheus_finds_the_decisions_and_the_online_metrics(client: httpx.Client, service: Service) -> None:
    url = require(Settings(service.home, "", "")).metrics_url
    assert service.ask("status")["metrics_url"] == url
    put(client, "ZY")
    put(client, "ZY", ABUSE)
    wanted = [
        re.compile(r'^ray_seawall_decisions_total\{.*decision="allow".*region="ZY".*\} 1(\.0)?$', re.M),
        re.compile(r'^ray_seawall_decisions_total\{.*decision="remove".*region="ZY".*\} 1(\.0)?$', re.M),
        re.compile(r'^ray_seawall_review_backlog\{.*by="all".*group="all".*\} \d', re.M),
        re.compile(r"^ray_seawall_online_refreshed_at\{.*\} 1\.\d+e\+09$", re.M),
    ]
    give_up = time.monotonic() + PATIENT_S
    while True:
        text = httpx.get(url, timeout=PATIENT_S, trust_env=False).text
        missing = [pattern.pattern for pattern in wanted if not pattern.search(text)]
        if not missing:
            break
        told = sorted(line for line in text.splitlines() if line.startswith("ray_seawall"))
        assert time.monotonic() < give_up, (missing, told)
        time.sleep(1)
    # Longer than Ray keeps a gauge that is not told anew.
    time.sleep(25)
    # Sooner than the next refresh tells it in any case; a report may be late.
    give_up = time.monotonic() + 10
    while True:
        text = httpx.get(url, timeout=PATIENT_S, trust_env=False).text
        if wanted[2].search(text):
            break
        assert time.monotonic() < give_up, "a gauge was not told between refreshes"
        time.sleep(1)
    assert set(re.findall(r"^(ray_seawall_\w+)\{", text, re.M)) <= {series.exported for series in SERIES.values()}
