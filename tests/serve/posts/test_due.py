"""What was decided while a model was away, and is to be decided again; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from moderation.storage.ledger import Entry, Ledger
from moderation.storage.people_tables import reviews as review_rows
from serve.posts import due as rejudging
from tests.moderation.storage.rows import an_entry, at, record
from tests.serve.review.people import decide, decided, expire, item, lease, rows, verdict


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


def degraded(entry: Entry) -> Entry:
    return replace(entry, decision=entry.decision.model_copy(update={"degraded": True}))


def due(ledger: Ledger, after: int = 0, limit: int = 10) -> list[str]:
    found = rejudging.due(ledger, since=at(-1), after=after, limit=limit)
    return [one.post_id for one in found]


def test_what_was_decided_while_a_model_was_away_is_due_until_another_decision_takes_its_place(ledger: Ledger) -> None:
    record(ledger, an_entry("p-0"))
    for number in (1, 2, 3):
        record(ledger, degraded(decided(an_entry(f"p-{number}"), "review")))
    assert due(ledger) == ["p-1", "p-2", "p-3"]
    [first, *_] = rejudging.due(ledger, since=at(-1), after=0, limit=1)
    assert due(ledger, after=first.decision_id) == ["p-2", "p-3"]
    assert first.post.content_hash() == first.content_hash

    again = replace(an_entry("p-1"), again=True)
    assert record(ledger, degraded(again)).content_version == 1  # a model is still away
    recorded = record(ledger, again)
    assert (recorded.content_version, recorded.fresh, recorded.rejudges) == (2, True, 1)
    assert record(ledger, again) == replace(recorded, fresh=False, rejudges=None)
    assert due(ledger) == ["p-2", "p-3"]
    assert [one.content_version for one in ledger.history("p-1")] == [1, 2]

    record(ledger, an_entry("p-2", text="other", minutes=1))
    stands = record(ledger, replace(an_entry("p-2"), again=True))
    assert (stands.content_version, stands.fresh) == (2, False)
    assert due(ledger) == ["p-3"]


def test_many_judge_one_post_again_at_once_and_one_decision_takes_the_place(ledger: Ledger) -> None:
    record(ledger, degraded(an_entry()))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: record(ledger, replace(an_entry(), again=True)), range(8)))
    assert sorted(one.fresh for one in found) == [False] * 7 + [True]
    assert {one.content_version for one in found} == {2}


def test_a_removal_while_a_model_was_away_is_left_and_so_is_what_people_have_to_do_with(ledger: Ledger) -> None:
    record(ledger, degraded(decided(an_entry("removed", flagged={"abuse": True}), "remove")))
    for name in ("leased", "decided", "waits"):
        record(ledger, replace(degraded(decided(an_entry(name), "review")), item=item()))
    [first, second, _] = lease(ledger)
    decide(ledger, first, verdict(said="allow"))
    ((held,),) = rows(ledger, select(review_rows.c.post_id).where(review_rows.c.review_id == second))
    assert set(due(ledger)) == set()
    expire(ledger)
    left = set(due(ledger))
    assert held in left
    assert "removed" not in left
    assert len(left) == 2
    for name in left:
        record(ledger, replace(an_entry(name), again=True))
    assert rows(ledger, select(review_rows.c.review_id).where(review_rows.c.status == "open")) == []
