"""A ledger filled for the online metrics: posts, and by plain inserts what people did with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Table, delete, insert

from moderation.events import EventIn, EventsOut
from moderation.storage import events
from moderation.storage.ledger import Ledger
from moderation.storage.people_tables import actions, appeals, golden, reports, reviews
from moderation.storage.tables import of_version
from tests.moderation.storage.rows import an_entry, at, record

HOUR = 60.0
"""In the minutes that `at` counts."""


def a_decided_post(
    ledger: Ledger,
    post_id: str,
    decision: str = "allow",
    *,
    minutes: float = 0,
    region: str = "US",
    language: str = "en",
    community: str = "gardening",
    text: str = "the tomatoes are ripe",
    variant: str | None = "text-multi",
    model_version: int = 1,
) -> int:
    """A post received and decided on at the minute; its content version."""
    entry = an_entry(post_id, text, minutes=minutes, region=region, variant=variant, model_version=model_version)
    entry = replace(
        entry,
        post=entry.post.model_copy(update={"community": community}),
        decision=entry.decision.model_copy(update={"decision": decision}),
        features=entry.features | {"language": language},
    )
    version = record(ledger, entry).content_version
    with ledger.write() as connection:  # what was done with it, and when, the tests say themselves
        connection.execute(delete(actions).where(of_version(actions, post_id, version)))
    return version


def add(ledger: Ledger, table: Table, **values: Any) -> None:
    with ledger.write() as connection:
        connection.execute(insert(table).values(**values))


def an_event(event_id: str, post_id: str = "p-1", *, minutes: float = 1, **changes: Any) -> EventIn:
    told = {"id": event_id, "post_id": post_id, "kind": "impression", "happened_at": at(minutes)}
    return EventIn.model_validate(told | changes)


def send(ledger: Ledger, *lines: EventIn) -> EventsOut:
    """Send events as lines 1, 2, ..."""
    return events.add(ledger, dict(enumerate(lines, start=1)))


def impressions(ledger: Ledger, post_id: str, count: int, *, minutes: float = 1) -> None:
    out = send(ledger, an_event(f"{post_id}-{minutes}-{count}", post_id, minutes=minutes, count=count))
    assert out.accepted == 1


def a_review(
    ledger: Ledger,
    post_id: str,
    kind: str = "sampled",
    *,
    version: int = 1,
    probability: float | None = None,
    verdict: str | None = None,
    labels: Mapping[str, bool] | None = None,
    asked: tuple[str, ...] = ("abuse",),
    created: float = 0,
    decided: float = 10,
    deadline: float = HOUR,
    status: str | None = None,
) -> None:
    add(
        ledger,
        reviews,
        post_id=post_id,
        content_version=version,
        kind=kind,
        labels=list(asked),
        language="en",
        region="US",
        community="gardening",
        p_harm=0.5,
        severity=1.0,
        impressions=1.0,
        priority=0.5,
        sampling_probability=probability,
        created_at=at(created),
        deadline=at(deadline),
        status=status or ("open" if verdict is None else "decided"),
        decided_by=None if verdict is None else "r-1",
        decided_at=None if verdict is None else at(decided),
        verdict=verdict,
        verdict_labels=None if verdict is None else dict({"abuse": verdict == "remove"} if labels is None else labels),
    )


def a_golden(ledger: Ledger, post_id: str, truth: str, said: str, *, minutes: float = 10) -> None:
    add(
        ledger,
        golden,
        post_id=post_id,
        content_version=1,
        verdict=truth,
        labels={"abuse": truth == "remove"},
        created_at=at(0),
    )
    a_review(ledger, post_id, "golden", verdict=said, decided=minutes)


def an_action(
    ledger: Ledger,
    post_id: str,
    action: str = "remove",
    *,
    minutes: float,
    version: int = 1,
    labels: tuple[str, ...] = ("abuse",),
    actor: str = "model",
) -> None:
    row = {"post_id": post_id, "content_version": version, "action": action, "actor": actor, "labels": list(labels)}
    add(ledger, actions, **row, acted_at=at(minutes))


def a_report(
    ledger: Ledger,
    post_id: str,
    reporter: str = "u-9",
    *,
    minutes: float,
    weight: float = 1.0,
    label: str | None = None,
) -> None:
    row = {"post_id": post_id, "content_version": 1, "reporter_id": reporter, "reason": "rude", "label": label}
    add(ledger, reports, **row, weight=weight, created_at=at(minutes))


def an_appeal(ledger: Ledger, post_id: str, status: str, *, minutes: float, review_id: int = 1) -> None:
    row = {"post_id": post_id, "content_version": 1, "reason": "it was a joke", "review_id": review_id}
    decided_at = None if status == "open" else at(minutes) + timedelta(hours=1)
    add(ledger, appeals, **row, status=status, created_at=at(minutes), decided_at=decided_at)
