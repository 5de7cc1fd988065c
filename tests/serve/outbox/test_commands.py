"""`seawall webhooks`, as an operator uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from moderation.settings import DEPLOYMENTS
from moderation.storage.ledger import Ledger
from seawall import app
from serve.outbox import queue as outbox_queue
from tests.moderation.storage.acts import act
from tests.rooms import TOPOLOGY
from tests.serve.outbox.receiver import SECRET, Receiver, receiver


@pytest.fixture
def here() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def topology(tmp_path: Path, here: Receiver, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A topology with one endpoint, and an environment that names the ledger and its secret."""
    raw = yaml.safe_load(TOPOLOGY.read_text(encoding="utf-8"))
    for name in ("policy", "blocklist"):
        raw[name] = str(DEPLOYMENTS / raw[name])
    webhook = {"name": "platform", "url": here.url, "secret_env": "HOOK_SECRET", "max_attempts": 1, "timeout_s": 60}
    raw["webhooks"] = [webhook]
    path = tmp_path / "hooked.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    monkeypatch.setenv("SEAWALL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    return path


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["webhooks", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_due_is_sent_once(topology: Path, ledger: Ledger, here: Receiver) -> None:
    for number in range(3):
        act(ledger, f"p-{number}")
    assert run("send", "--once", "--topology", str(topology)) == {"attempts": {"platform": 3}}
    assert sorted(here.actions()) == [1, 2, 3]
    assert run("send", "--once", "--topology", str(topology)) == {"attempts": {"platform": 0}}


def test_dead_letters_are_listed_and_redriven(topology: Path, ledger: Ledger, here: Receiver) -> None:
    assert run("list", "--topology", str(topology)) == {
        "endpoints": [
            {"name": "platform", "url": here.url, "pending": 0, "delivered": 0, "dead": 0, "oldest_pending": None}
        ],
        "dead": [],
    }
    here.answer = lambda _arrival: 500
    act(ledger, "p-1")
    act(ledger, "p-2")
    run("send", "--once", "--topology", str(topology))
    found = run("list", "--topology", str(topology))
    assert (found["endpoints"][0]["dead"], found["endpoints"][0]["pending"]) == (2, 0)
    first, _ = found["dead"]
    assert (first["post_id"], first["attempts"], first["last_error"]) == ("p-1", 1, "answered 500")
    assert run("redrive", first["delivery_id"]) == {"redriven": 1}
    assert run("list", "--topology", str(topology))["endpoints"][0]["pending"] == 1
    assert run("redrive", "--all") == {"redriven": 1}
    here.answer = lambda _arrival: 200
    assert run("send", "--once", "--topology", str(topology)) == {"attempts": {"platform": 2}}
    assert run("list", "--topology", str(topology))["endpoints"][0]["delivered"] == 2


def test_an_endpoint_that_is_not_configured_any_more_is_still_listed(topology: Path, ledger: Ledger) -> None:
    act(ledger)
    outbox_queue.fan_out(ledger, "former")
    found = {row["name"]: row for row in run("list", "--topology", str(topology))["endpoints"]}
    assert (found["former"]["url"], found["former"]["pending"]) == (None, 1)


def test_the_tables_are_for_people(topology: Path, ledger: Ledger, here: Receiver) -> None:
    here.answer = lambda _arrival: 500
    act(ledger, "p-[red]1")
    run("send", "--once", "--topology", str(topology))
    done = CliRunner().invoke(app, ["webhooks", "list", "--topology", str(topology)])
    assert "p-[red]1" in done.stdout
    assert "answered 500" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["d-1", "--all"]])
def test_redrive_wants_one_or_all(topology: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["webhooks", "redrive", *arguments])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == "name one delivery, or say --all"


def test_sending_without_an_endpoint_or_a_secret_is_told(topology: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["webhooks", "send", "--once", "--topology", str(TOPOLOGY)])
    assert "light.yaml: webhooks: names no endpoint to send to" in str(done.exception)
    monkeypatch.delenv("HOOK_SECRET")
    done = CliRunner().invoke(app, ["webhooks", "send", "--once", "--topology", str(topology)])
    assert "the environment's HOOK_SECRET has 0 characters; it takes 16" in str(done.exception)


@pytest.mark.slow
def test_the_command_sends_until_it_is_told_to_end(topology: Path, ledger: Ledger, here: Receiver) -> None:
    command = [sys.executable, "-m", "seawall", "webhooks", "send", "--topology", str(topology)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    try:
        act(ledger)
        give_up = time.monotonic() + 600
        while not here.arrivals:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0
    finally:
        process.kill()
        process.wait()
    assert outbox_queue.counts(ledger)["platform"].delivered == 1
