"""A running Seawall on the light topology, with an endpoint and a blocklist of its own.

Its sender is a Serve application, which survives a kill; exports go over HTTP; a list that changes holds a moment
later.
"""

from __future__ import annotations

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
from tests.end_to_end.service import Service, light_topology, running_service
from tests.moderation.storage.acts import act
from tests.serve.receiver import SECRET, Receiver, receiver

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Hooked:
    """A Seawall, the endpoint that it tells, and the file of its blocklist."""

    service: Service
    here: Receiver
    ledger: Ledger
    blocklist: Path

    def arrived(self, action_id: int, *, within_s: float = 60) -> None:
        give_up = time.monotonic() + within_s
        while action_id not in self.here.actions():
            assert time.monotonic() < give_up, f"action {action_id} did not arrive; there are {self.here.actions()}"
            time.sleep(0.05)

    def sender(self) -> int:
        """The process of the sender's replica."""
        return self.service.replica("outbox", "outbox")


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    folder = tmp_path_factory.mktemp("hooked")
    with receiver() as here, pytest.MonkeyPatch.context() as patched:
        webhook = {"name": "platform", "url": here.url, "secret_env": "HOOK_SECRET", "timeout_s": 2}
        blocklist = folder / "blocklist.txt"
        blocklist.write_text("malware.example\n", encoding="utf-8")
        topology = light_topology(folder, webhooks=[webhook], blocklist=str(blocklist))
        patched.setenv("HOOK_SECRET", SECRET)
        with running_service(folder / "home", topology=topology, quiet=True) as service:
            ledger = Ledger(f"sqlite:///{service.home / 'ledger.db'}")
            yield Hooked(service, here, ledger, blocklist)
            ledger.close()


def put(service: Service, post_id: str) -> None:
    post = {"author_id": "u-1", "community": "gardening", "region": "US", "text": f"tomatoes {post_id}"}
    post["created_at"] = "2026-11-24T09:30:00Z"
    assert httpx.put(f"{service.url}/v1/posts/{post_id}", json=post, timeout=60, trust_env=False).status_code == 200


def get(service: Service, path: str) -> tuple[list[dict[str, Any]], httpx.Headers]:
    response = httpx.get(service.url + path, timeout=60, trust_env=False)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()], response.headers


def test_an_action_arrives_and_a_killed_sender_is_started_anew(hooked: Hooked) -> None:
    put(hooked.service, "p-1")
    hooked.arrived(act(hooked.ledger, "p-1"))
    arrival = hooked.here.arrivals[-1]
    assert arrival.signed
    assert (arrival.said["post_id"], arrival.said["author_id"], arrival.said["region"]) == ("p-1", "u-1", "US")
    before = hooked.sender()
    os.kill(before, signal.SIGKILL)
    last = [act(hooked.ledger, f"p-{number}", "hold") for number in range(5)][-1]
    hooked.arrived(last, within_s=90)
    assert hooked.sender() != before
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
    httpx.post(f"{hooked.service.url}/v1/labels", content=line, headers=kind, timeout=60, trust_env=False)
    rows, headers = get(hooked.service, "/v1/labels/export?after=0&limit=10")
    assert headers["seawall-next"] == "1"
    assert rows[0]["models"][0]["variant"] == "text-multi"
    wrong = httpx.get(f"{hooked.service.url}/v1/labels/export?limit=1000000", timeout=60, trust_env=False)
    assert (wrong.status_code, wrong.json()["bound"]) == (422, 100_000)


def test_a_list_that_changes_holds_for_the_posts_after_it(hooked: Hooked) -> None:
    with httpx.Client(base_url=hooked.service.url, timeout=60, trust_env=False) as client:

        def verdict() -> str:
            post = {"author_id": "u-1", "community": "drivers", "region": "US", "created_at": "2020-01-01T00:00:00Z"}
            post["text"] = "free drivers at https://files.phish.example/setup"
            decision = client.put(f"/v1/posts/{uuid.uuid4().hex}", json=post).raise_for_status().json()
            return str(decision["links"][0]["verdict"])

        assert verdict() == "unlisted"
        hooked.blocklist.write_text("malware.example\nphish.example\n", encoding="utf-8")
        time.sleep(3)  # nothing is put meanwhile: the first post after it is judged by the new list
        assert verdict() == "blocked"
