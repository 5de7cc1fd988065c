"""Groups of posts: one commit each, whole or not at all, and on disk before anyone is told; on both databases."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import DBAPIError

from moderation.errors import ConflictError
from moderation.storage.dialect import CLAIMS
from moderation.storage.ledger import Entry, Ledger, Recorded
from moderation.storage.tables import decisions, posts
from tests.fresh import fresh_url
from tests.moderation.storage.rows import an_entry

GATEWAY = """
import os, signal, sys
from moderation.storage.ledger import Ledger
from tests.moderation.storage.rows import an_entry
ledger = Ledger(sys.argv[1])
for number in range(5):
    results = ledger.record([an_entry(f"p-{number}-{index}") for index in range(8)])
    print("\\n".join(result.body for result in results), flush=True)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return fresh_url(tmp_path / "ledger.db")
    return str(request.getfixturevalue("postgres_ledger"))


def a_group(size: int, prefix: str = "p") -> list[Entry]:
    return [an_entry(f"{prefix}-{index}", f"text {index}") for index in range(size)]


@pytest.fixture
def seen(ledger: Ledger) -> Iterator[list[str]]:
    """The statements and commits of the ledger's own connections."""
    noted: list[str] = []

    def statement(_connection: Any, _cursor: Any, said: str, *_: Any) -> None:
        noted.append(said.split()[0])

    def commit(_connection: Any) -> None:
        noted.append("COMMIT")

    event.listen(ledger.engine, "before_cursor_execute", statement)
    event.listen(ledger.engine, "commit", commit)
    yield noted
    event.remove(ledger.engine, "before_cursor_execute", statement)
    event.remove(ledger.engine, "commit", commit)


def stored(ledger: Ledger) -> tuple[int, int]:
    with ledger.read() as connection:
        count = select(func.count())
        found = [connection.execute(count.select_from(table)).scalar_one() for table in (posts, decisions)]
    return found[0], found[1]


@pytest.mark.parametrize("size", [1, 8, 64])
def test_a_group_costs_one_commit_and_as_many_statements_as_a_post(ledger: Ledger, seen: list[str], size: int) -> None:
    results = ledger.record(a_group(size))
    assert [isinstance(result, Recorded) and result.fresh for result in results] == [True] * size
    assert seen.count("COMMIT") == 1
    assert seen.count("INSERT") == 4  # posts, decisions, what variants said, the minute's counts
    assert len(seen) <= 8


def test_a_group_that_was_decided_before_writes_nothing(ledger: Ledger, seen: list[str]) -> None:
    ledger.record(a_group(8))
    seen.clear()
    assert [isinstance(result, Recorded) and result.fresh for result in ledger.record(a_group(8))] == [False] * 8
    assert "INSERT" not in seen


def test_an_empty_group_asks_nothing(ledger: Ledger, seen: list[str]) -> None:
    assert ledger.record([]) == []
    assert seen == []


def test_a_group_with_a_post_that_the_database_refuses_is_not_recorded_at_all(ledger: Ledger) -> None:
    broken = replace(an_entry("p-broken"), received_at=None)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(DBAPIError):
        ledger.record([*a_group(3), broken, *a_group(3, "q")])
    assert stored(ledger) == (0, 0)
    ledger.record(a_group(3))
    assert stored(ledger) == (3, 3)


def test_what_was_told_is_on_disk_when_the_gateway_is_killed_that_moment(ledger: Ledger, url: str) -> None:
    run = subprocess.run([sys.executable, "-c", GATEWAY, url], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    told = {json.loads(line)["post_id"]: line for line in run.stdout.splitlines()}
    assert len(told) == 32
    assert {post_id: recorded.body for post_id, recorded in ledger.newest(list(told)).items()} == told
    with ledger.read() as connection:
        logged = connection.execute(select(decisions.c.post_id, decisions.c.features)).all()
    assert {post_id for post_id, _ in logged} == set(told)
    assert all(features == an_entry().features for _, features in logged)


def test_every_feature_that_made_a_decision_lies_beside_it(ledger: Ledger) -> None:
    features = {"characters": 1.0, "author_posts_hour": 3.0, "community_removed_month": 0.0, "language": "en", "ж": 0.5}
    ledger.record([replace(an_entry(), features=features)])
    with ledger.read() as connection:
        assert connection.execute(select(decisions.c.features)).scalar_one() == features


def test_a_group_may_be_larger_than_what_is_claimed_one_by_one(ledger: Ledger) -> None:
    group = a_group(2 * CLAIMS + 1)
    assert len(ledger.record(group)) == len(group)
    assert stored(ledger) == (len(group), len(group))


def test_groups_that_overlap_in_any_order_get_in_no_deadlock(ledger: Ledger, neighbour: Ledger) -> None:
    def gateway(seed: int) -> Sequence[Recorded | ConflictError]:
        chance = random.Random(seed)
        results: list[Recorded | ConflictError] = []
        for number in range(10):
            group = [an_entry(f"p-{index}", f"text {seed} {number}") for index in range(16)]
            chance.shuffle(group)
            results += (ledger, neighbour)[seed % 2].record(group)
        return results

    with ThreadPoolExecutor(4) as pool:
        results = [result for some in pool.map(gateway, range(4)) for result in some]
    versions = sorted(result.content_version for result in results if isinstance(result, Recorded))
    assert versions == sorted(list(range(1, 41)) * 16)
    assert stored(ledger) == (640, 640)
    for index in range(16):
        assert [each.content_version for each in ledger.history(f"p-{index}")] == list(range(1, 41))
