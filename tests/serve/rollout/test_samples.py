"""Samples of earlier releases are taken back from the ledger, wherever they stand; nothing else is touched."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from moderation.events import EventIn
from moderation.storage import events
from moderation.storage.lake import Lake
from moderation.storage.ledger import Ledger
from moderation.storage.tables import metadata
from serve.metrics.online import measure
from serve.metrics.queries import Window
from serve.outbox import queue as outbox_queue
from serve.rollout import samples
from serve.statements import rows as statement_rows
from tests.moderation.storage.acts import a_review, act, report
from tests.moderation.storage.media import with_media
from tests.moderation.storage.rows import a_label, an_entry, at, record, say

SAMPLES = {"sample-1": ("sample-ann", at(0)), "sample-2": ("sample-bob", at(1)), "sample-3": ("u-1", at(2))}


def an_event(post_id: str, happened_at: datetime) -> EventIn:
    raw: dict[str, Any] = {"id": f"e-{post_id}", "post_id": post_id, "kind": "impression", "count": 3}
    return EventIn.model_validate_json(json.dumps(raw | {"happened_at": happened_at.isoformat()}))


def removed(ledger: Ledger, post_id: str, author: str, minutes: float) -> None:
    """A post that was removed, reported, reviewed, seen and labelled."""
    record(ledger, an_entry(post_id, author=author, minutes=minutes, flagged={"abuse": True}))
    act(ledger, post_id, when=at(minutes))
    a_review(ledger, post_id)
    report(ledger, post_id, when=at(minutes))
    assert say(ledger, a_label(f"l-{post_id}", post_id)).accepted == 1
    assert events.add(ledger, {1: an_event(post_id, at(minutes))}).accepted == 1


def counted(ledger: Ledger) -> Counter[str]:
    with ledger.read() as connection:
        return Counter(
            {
                t.name: connection.execute(select(func.count()).select_from(t)).scalar_one()
                for t in metadata.sorted_tables
            }
        )


def test_samples_are_taken_back_from_everything_that_leaves(ledger: Ledger) -> None:
    removed(ledger, "sample-2", "sample-bob", 1)
    removed(ledger, "p-1", "u-1", 2)
    record(ledger, with_media("sample-3", minutes=2))
    assert outbox_queue.fan_out(ledger, "platform") == 2
    assert samples.forget(ledger, SAMPLES) == 2
    assert samples.forget(ledger, SAMPLES) == 0
    assert [item.action_id for item in statement_rows.removals(ledger, at(0).date())] == [2]
    assert [item.post_id for item in outbox_queue.take(ledger, "platform", limit=9, hold=timedelta(minutes=1))] == [
        "p-1"
    ]
    assert outbox_queue.fan_out(ledger, "platform") == 0
    found = measure(ledger, Window(at(-60), at(600))).total
    assert (found.prevalence.of, found.reports.count) == (1, 1)
    assert ledger.history("sample-2") == []


def test_nothing_of_them_is_left_in_any_table(ledger: Ledger) -> None:
    removed(ledger, "p-1", "u-1", 2)
    before = counted(ledger)
    removed(ledger, "sample-1", "sample-ann", 0)
    record(ledger, an_entry("sample-1", "edited", author="sample-ann", minutes=0))
    assert samples.forget(ledger, SAMPLES) == 1
    assert counted(ledger) == before


def test_posts_of_others_by_the_same_ids_are_no_samples(ledger: Ledger) -> None:
    removed(ledger, "sample-1", "u-1", 0)
    removed(ledger, "sample-2", "sample-bob", 7)
    record(ledger, an_entry("sample-3", author="u-1", minutes=2))
    record(ledger, an_entry("sample-3", "their own by now", author="u-1", minutes=30))
    before = counted(ledger)
    assert samples.forget(ledger, SAMPLES) == 0
    assert counted(ledger) == before


def test_an_empty_ledger_has_none(ledger: Ledger) -> None:
    assert samples.forget(ledger, SAMPLES) == 0
    assert samples.forget(ledger, {}) == 0


def test_the_lake_goes_on_behind_them(ledger: Ledger, tmp_path: Any) -> None:
    lake = Lake(str(tmp_path / "lake"))
    removed(ledger, "sample-1", "sample-ann", 0)
    assert lake.export(ledger).posts == 1
    removed(ledger, "sample-2", "sample-bob", 1)
    samples.forget(ledger, SAMPLES)
    removed(ledger, "p-1", "u-1", 2)
    exported = lake.export(ledger)
    assert (exported.posts, exported.labels) == (1, 1)
