"""docs/tutorial.md does what it says: its curl commands, in their order, over the gateway's routes in process."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from tests.docs.pages import blocks
from tests.serve.test_routes import client, loaded

__all__ = ["client", "loaded"]  # fixtures


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No post is sampled for review, and no verdict asked again."""
    monkeypatch.setattr("random.SystemRandom.random", lambda _: 0.5)


def commands() -> list[str]:
    shown = [block for block in blocks("docs/tutorial.md") if block.startswith("curl")]
    return [command for block in shown for command in re.split(r"\n(?=curl )", block)]


def run(client: TestClient, command: str, review_id: int | None) -> Any:
    """What a curl command gets, with the id of the review that was leased last."""
    _, *words = shlex.split(command)
    options = dict(pairwise(words))
    (url,) = (word for word in words if word.startswith("http://127.0.0.1:8000/"))
    path = re.sub(r"/v1/reviews/\d+", f"/v1/reviews/{review_id}", urlsplit(url)._replace(scheme="", netloc="").geturl())
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    response = client.request(options.get("-X", "GET"), path, content=options.get("-d"), headers=headers)
    assert response.status_code in (200, 201), f"{command}\n{response.text}"
    lines = "ndjson" in response.headers["content-type"]
    return response.text.splitlines() if lines else response.json()


def test_the_commands_of_the_tutorial_do_what_it_says(client: TestClient) -> None:
    review_id: int | None = None
    answers: list[Any] = []
    for command in commands():
        answer = run(client, command, review_id)
        answers.append(answer)
        if "/v1/reviews:lease" in command:
            (leased,) = answer["reviews"]
            assert leased["post_id"] == "tutorial-1"
            review_id = leased["review_id"]
    put, preview, *reports, lease, _, removed, _, appeal, _, restored, labels, metrics = answers
    assert put["decision"] == "allow", put
    assert preview["labels"]["abuse"]["flagged"], preview
    assert [report["review_queued"] for report in reports] == [False, False, True]
    assert [said["reason"] for said in lease["reviews"][0]["reports"]] == ["spoils the season finale", "rude", "rude"]
    assert (removed["decision"], removed["standing"]["actor"]) == ("remove", "review")
    assert appeal["reviews"][0]["appeal"] == "I talk about tomatoes"
    assert (restored["decision"], restored["standing"]["actor"]) == ("allow", "appeal")
    assert len(labels) == 2
    assert metrics["total"]
