"""Statements as JSON Lines, over HTTP and by the command line; the routes without a cluster, on a real ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from starlette.testclient import TestClient

from moderation.policy import Policy
from moderation.storage.ledger import Ledger
from serve.statements import rows as statement_rows
from serve.statements.export import statement_lines
from serve.statements.routes import router
from serve.statements.statement import RETRACTION, SCHEMAS, STATEMENT
from tests.moderation.storage.acts import act
from tests.moderation.storage.rows import an_entry, record
from tests.rooms import TOPOLOGY
from tests.serve.exports import PLATFORM, client_of, lines

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def client(ledger: Ledger) -> Iterator[TestClient]:
    with client_of(router, ledger) as client:
        yield client


def removed(ledger: Ledger, count: int) -> None:
    for number in range(count):
        record(ledger, an_entry(f"p-{number}", f"secret words {number}", author=f"u-{number}"))
        act(ledger, f"p-{number}", when=NOON + timedelta(seconds=number))


def test_a_day_s_statements_fit_their_schema_and_hold_nothing_of_a_person(client: TestClient, ledger: Ledger) -> None:
    removed(ledger, 3)
    response = client.get("/v1/statements", params={"day": "2026-11-24"})
    found = lines(response)
    schema = json.loads((SCHEMAS / STATEMENT).read_text(encoding="utf-8"))
    for line in found:
        jsonschema.validate(line, schema)
    assert [line["puid"] for line in found] == ["seawall-1", "seawall-2", "seawall-3"]
    for personal in ("secret", "u-1", "p-1", "gardening"):
        assert personal not in response.text
    assert lines(client.get("/v1/statements", params={"day": "2026-11-25"})) == []


def test_a_restoration_retracts(client: TestClient, ledger: Ledger) -> None:
    removed(ledger, 2)
    act(ledger, "p-0", "restore", actor="appeal", when=NOON + timedelta(hours=1))
    act(ledger, "p-1", "restore", actor="review", when=NOON + timedelta(days=2))
    assert [line["puid"] for line in lines(client.get("/v1/statements?day=2026-11-24"))] == ["seawall-2"]
    schema = json.loads((SCHEMAS / RETRACTION).read_text(encoding="utf-8"))
    (same_day,) = lines(client.get("/v1/statements/retractions?day=2026-11-24"))
    (later,) = lines(client.get("/v1/statements/retractions?day=2026-11-26"))
    for line in (same_day, later):
        jsonschema.validate(line, schema)
    assert (same_day["puid"], same_day["retracted_by"]) == ("seawall-1", "APPEAL")
    assert (later["puid"], later["application_date"]) == ("seawall-2", "2026-11-24")


@pytest.mark.parametrize("path", ["/v1/statements", "/v1/statements/retractions"])
@pytest.mark.parametrize("day", ["", "yesterday", "2026-13-01", "24.11.2026"])
def test_a_day_that_is_none_is_refused(client: TestClient, path: str, day: str) -> None:
    assert client.get(path, params={"day": day}).status_code == 422
    assert client.get(path).status_code == 422


def test_more_than_a_page_is_streamed(client: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_rows, "PAGE", 7)
    removed(ledger, 230)
    found = lines(client.get("/v1/statements?day=2026-11-24"))
    assert [line["puid"] for line in found] == [f"seawall-{number}" for number in range(1, 231)]


def test_a_line_that_does_not_fit_is_not_exported(ledger: Ledger) -> None:
    removed(ledger, 1)
    strange = replace(PLATFORM, statements=PLATFORM.statements.model_copy(update={"ground": ""}))
    with pytest.raises(ValueError, match="incompatible_content_ground"):
        list(statement_lines(ledger, strange, NOON.date()))


def test_the_gravest_label_is_that_of_the_region_s_policy(ledger: Ledger, tmp_path: Path) -> None:
    raw = yaml.safe_load((TOPOLOGY.parent / "policies" / "default.yaml").read_text(encoding="utf-8"))
    raw["regions"]["DE"]["hate"] = {"severity": "low"}
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    for number, region in enumerate(("US", "DE")):
        record(ledger, an_entry(f"p-{number}", region=region))
        act(ledger, f"p-{number}", labels=("abuse", "hate"), when=NOON + timedelta(seconds=number))
    found = statement_lines(ledger, replace(PLATFORM, policy=Policy.load(path)), NOON.date())
    categories = [json.loads(line)["category"] for line in found]
    assert categories == ["STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH", "STATEMENT_CATEGORY_CYBER_VIOLENCE"]


def test_the_routes_are_in_the_gateway_s_api() -> None:
    from serve.gateway import api

    paths = api.openapi()["paths"]
    assert {"/v1/statements", "/v1/statements/retractions"} <= set(paths)


def test_a_file_is_not_left_half_written(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve.statements import commands as command

    removed(ledger, 3)
    home = tmp_path / "home"  # where the ledger is
    monkeypatch.setenv("SEAWALL_HOME", str(home))
    out = home / "out.jsonl"
    out.write_text("of yesterday\n", encoding="utf-8")

    def failing(*_arguments: Any) -> Iterator[str]:
        yield "a line\n"
        raise ValueError("it does not fit")

    with monkeypatch.context() as patched:
        patched.setattr(command, "statement_lines", failing)
        with pytest.raises(ValueError, match="it does not fit"):
            command.export("2026-11-24", out, topology=TOPOLOGY)
    assert out.read_text(encoding="utf-8") == "of yesterday\n"
    command.export("2026-11-24", out, topology=TOPOLOGY)
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3
    command.export("2026-11-24", out, retractions=True, topology=TOPOLOGY)
    assert out.read_text(encoding="utf-8") == ""
    assert sorted(path.name for path in home.iterdir()) == [
        "ledger.db",
        "ledger.db-shm",
        "ledger.db-wal",
        "out.jsonl",
    ]
    with pytest.raises(ValueError, match=r"day is .24\.11\.2026.; it must be a date"):
        command.export("24.11.2026", out, topology=TOPOLOGY)
