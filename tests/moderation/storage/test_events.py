"""Events in the ledger: each once by its id, each with the content that it was about."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from moderation.storage.ledger import Ledger
from moderation.storage.people_tables import events
from tests.moderation.storage.rows import an_entry, at, record
from tests.serve.metrics.online_rows import an_event, send


def recorded(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(select(events).order_by(events.c.event_seq)))


def test_an_event_is_recorded_as_it_was_told(posted: Ledger) -> None:
    out = send(posted, an_event("e-1", count=40, detail={"surface": "feed", "rank": 3}))
    assert (out.accepted, out.duplicates, out.errors) == (1, 0, [])
    (row,) = recorded(posted)
    assert (row.id, row.post_id, row.content_version, row.kind, row.count) == ("e-1", "p-1", 1, "impression", 40)
    assert (row.detail, row.happened_at) == ({"surface": "feed", "rank": 3.0}, at(1))
    assert row.received_at > row.happened_at


def test_the_same_event_again_is_a_duplicate(posted: Ledger) -> None:
    line = an_event("e-1", detail={"a": 1, "b": 2})
    send(posted, line)
    out = send(posted, an_event("e-1", detail={"b": 2, "a": 1}), line)
    assert (out.accepted, out.duplicates, out.errors) == (0, 2, [])
    assert len(recorded(posted)) == 1


def test_an_id_that_stands_for_something_else_is_an_error_of_its_line(posted: Ledger) -> None:
    send(posted, an_event("e-1"))
    out = send(posted, an_event("e-1", count=2), an_event("e-2"))
    assert (out.accepted, out.duplicates) == (1, 0)
    (error,) = out.errors
    assert error.line == 1
    assert "'e-1' is recorded already" in error.detail


def test_a_repeat_within_one_call_is_a_duplicate_too(posted: Ledger) -> None:
    out = send(posted, an_event("e-1"), an_event("e-1"), an_event("e-1", count=7))
    assert (out.accepted, out.duplicates, [error.line for error in out.errors]) == (1, 1, [3])


def test_an_unknown_post_is_an_error_of_its_line(posted: Ledger) -> None:
    out = send(posted, an_event("e-1", "nobody"), an_event("e-2", content_version=2), an_event("e-3"))
    assert out.accepted == 1
    assert [error.detail for error in out.errors] == [
        "post_id 'nobody' is unknown",
        "post_id 'p-1' is unknown in version 2",
    ]


def test_an_event_belongs_to_the_content_that_stood_then(posted: Ledger) -> None:
    record(posted, an_entry("p-1", "they are green", minutes=10))
    record(posted, an_entry("p-1", "they are brown", minutes=20))
    times = (-5, 0, 9, 10, 19, 20, 500)
    send(posted, *(an_event(f"e-{minute}", minutes=minute) for minute in times))
    assert [row.content_version for row in recorded(posted)] == [1, 1, 1, 2, 2, 3, 3]


def test_a_named_content_version_is_kept(posted: Ledger) -> None:
    record(posted, an_entry("p-1", "they are green", minutes=10))
    send(posted, an_event("e-1", minutes=30, content_version=1))
    assert recorded(posted)[0].content_version == 1


def test_nothing_told_is_nothing_recorded(posted: Ledger) -> None:
    assert send(posted).accepted == 0


def test_ten_thousand_lines_are_one_call(posted: Ledger) -> None:
    out = send(posted, *(an_event(f"e-{number}", ("p-1", "p-2")[number % 2]) for number in range(10_000)))
    assert (out.accepted, out.errors) == (10_000, [])


def test_who_sends_the_same_lines_at_once_records_them_once(posted: Ledger) -> None:
    lines = [an_event(f"e-{number}") for number in range(60)]
    with ThreadPoolExecutor(6) as pool:
        outs = list(pool.map(lambda _: send(posted, *lines), range(6)))
    assert sum(out.accepted for out in outs) == 60
    assert sum(out.duplicates for out in outs) == 300
    assert len(recorded(posted)) == 60
