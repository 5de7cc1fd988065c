"""A running Seawall on the light topology, with an endpoint and a blocklist of its own.

Its sender is a Serve application, which survives a kill; exports go over HTTP; a list that changes holds a moment
later; what its model does not answer in time is told as such.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.storage.ledger import Ledger
from simulate.service import PATIENT_S, Service, light_topology, running_service
from tests.moderation.storage.acts import act
from tests.serve.outbox.receiver import SECRET, Receiver, receiver

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Hooked:
    """A Seawall, the endpoint that it tells, and the file of its blocklist."""

    service: Service
    here: Receiver
    ledger: Ledger
    blocklist: Path

    def arrived(self, action_id: int) -> None:
        give_up = time.monotonic() + PATIENT_S
        while action_id not in self.here.actions():
            assert time.monotonic() < give_up, f"action {action_id} did not arrive; there are {self.here.actions()}"
            time.sleep(0.05)

    def replica(self, application: str, deployment: str, *, after: int = 0) -> int:
        """The process of a deployment's replica, as soon as Serve says that it runs, and not the one before."""
        give_up = time.monotonic() + PATIENT_S
        while True:
            with contextlib.suppress(LookupError):
                found = self.service.replica(application, deployment)
                if found != after:
                    return found
            assert time.monotonic() < give_up, f"no replica of {deployment!r} came"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    folder = tmp_path_factory.mktemp("hooked")
    with receiver() as here, pytest.MonkeyPatch.context() as patched:
        webhook = {"name": "platform", "url": here.url, "secret_env": "HOOK_SECRET", "timeout_s": 2}
        blocklist = folder / "blocklist.txt"
        blocklist.write_text("malware.example\n", encoding="utf-8")
        topology = light_topology(folder, webhooks=[webhook], blocklist=str(blocklist), rejudge={"every_s": 0.5})
        patched.setenv("HOOK_SECRET", SECRET)
        with running_service(folder / "home", topology=topology, quiet=True) as service:
            ledger = Ledger(f"sqlite:///{service.home / 'ledger.db'}")
            yield Hooked(service, here, ledger, blocklist)
            ledger.close()


def put(service: Service, post_id: str) -> None:
    post = {"author_id": "u-1", "community": "gardening", "region": "US", "text": f"tomatoes {post_id}"}
    post["created_at"] = "2026-11-24T09:30:00Z"
    response = httpx.put(f"{service.url}/v1/posts/{post_id}", json=post, timeout=PATIENT_S, trust_env=False)
    assert response.status_code == 200, response.text


def get(service: Service, path: str) -> tuple[list[dict[str, Any]], httpx.Headers]:
    response = httpx.get(service.url + path, timeout=PATIENT_S, trust_env=False)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()], response.headers


def test_an_action_arrives_and_a_killed_sender_is_started_anew(hooked: Hooked) -> None:
    put(hooked.service, "p-1")
    hooked.arrived(act(hooked.ledger, "p-1"))
    arrival = hooked.here.arrivals[-1]
    assert arrival.signed
    assert (arrival.said["post_id"], arrival.said["author_id"], arrival.said["region"]) == ("p-1", "u-1", "US")
    before = hooked.replica("outbox", "outbox")
    os.kill(before, signal.SIGKILL)
    last = [act(hooked.ledger, f"p-{number}", "hold") for number in range(5)][-1]
    hooked.arrived(last)
    hooked.replica("outbox", "outbox", after=before)
    found = hooked.service.ask("webhooks", "list")
    assert found["endpoints"][0]["name"] == "platform"
    assert found["endpoints"][0]["dead"] == 0


def test_exports_are_streamed_by_the_service(hooked: Hooked) -> None:
    put(hooked.service, "p-exported")
    number = act(hooked.ledger, "p-exported", labels=("hate",), when=datetime(2026, 11, 20, 12, tzinfo=UTC))
    statements, headers = get(hooked.service, "/v1/statements?day=2026-11-20")
    assert headers["content-type"] == "application/x-ndjson"
    assert [line["puid"] for line in statements] == [f"seawall-{number}"]
    assert get(hooked.service, "/v1/statements/retractions?day=2026-11-20")[0] == []
    label = {"id": "l-1", "post_id": "p-exported", "labels": {"abuse": True}, "source": "review"}
    line = json.dumps(label | {"labelled_at": "2026-11-24T10:00:00Z"})
    kind = {"Content-Type": "application/x-ndjson"}
    httpx.post(f"{hooked.service.url}/v1/labels", content=line, headers=kind, timeout=PATIENT_S, trust_env=False)
    rows, headers = get(hooked.service, "/v1/labels/export?after=0&limit=10")
    assert headers["seawall-next"] == "1"
    assert rows[0]["models"][0]["variant"] == "text-multi"
    wrong = httpx.get(f"{hooked.service.url}/v1/labels/export?limit=1000000", timeout=PATIENT_S, trust_env=False)
    assert (wrong.status_code, wrong.json()["bound"]) == (422, 100_000)


def test_a_list_that_changes_holds_for_the_posts_after_it(hooked: Hooked) -> None:
    with httpx.Client(base_url=hooked.service.url, timeout=PATIENT_S, trust_env=False) as client:

        def verdict() -> str:
            post = {"author_id": "u-1", "community": "drivers", "region": "US", "created_at": "2020-01-01T00:00:00Z"}
            post["text"] = "free drivers at https://files.phish.example/setup"
            decision = client.put(f"/v1/posts/{uuid.uuid4().hex}", json=post).raise_for_status().json()
            return str(decision["links"][0]["verdict"])

        assert verdict() == "unlisted"
        hooked.blocklist.write_text("malware.example\nphish.example\n", encoding="utf-8")
        give_up = time.monotonic() + PATIENT_S
        while verdict() != "blocked":
            assert time.monotonic() < give_up, "the list was not read again"
            time.sleep(0.1)


def test_a_killed_classifier_costs_scores_not_posts_and_comes_back_to_judge_those_again(hooked: Hooked) -> None:
    os.kill(hooked.replica("text-multi", "classifier"), signal.SIGKILL)
    decisions: list[dict[str, Any]] = []
    give_up = time.monotonic() + PATIENT_S
    with httpx.Client(base_url=hooked.service.url, timeout=PATIENT_S, trust_env=False) as client:
        while time.monotonic() < give_up:
            post = {"author_id": "u-1", "community": "gardening", "region": "US", "text": "the tomatoes are ripe"}
            post["created_at"] = "2020-01-01T00:00:00Z"
            response = client.put(f"/v1/posts/{uuid.uuid4().hex}", json=post)
            assert response.status_code == 200, response.text
            decisions.append(response.json())
            if len(decisions) > 5 and not any(decision["degraded"] for decision in decisions[-5:]):
                break
    for decision in decisions:
        status = decision["labels"]["abuse"]["status"]
        assert status == ("failed" if decision["degraded"] else "scored")
        if decision["degraded"]:
            assert decision["labels"]["abuse"]["score"] is None
            assert decision["decision"] == "review"  # as the policy's on_failure says
    assert not decisions[-1]["degraded"]
    for decision in decisions:
        if decision["degraded"]:
            path = f"/v1/posts/{decision['post_id']}"
            while (newest := get(hooked.service, path)[0][0])["degraded"]:
                assert time.monotonic() < give_up, f"{path} was not judged again"
                time.sleep(0.1)
            assert (newest["rejudges"], newest["content_version"], newest["decision"]) == (1, 2, "allow")
            assert [first["degraded"] for first in get(hooked.service, f"{path}/history")[0][0]] == [True, False]
