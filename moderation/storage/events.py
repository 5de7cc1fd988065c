"""Events in the ledger: impressions, reactions and deletions, each once by its id."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from moderation.events import EventIn, EventsOut
from moderation.posts import LabelLineError
from moderation.storage.dialect import chunks, claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import events
from moderation.storage.post_status import count_impressions
from moderation.storage.tables import posts

_Versions = Mapping[str, Sequence[tuple[int, datetime]]]


def add(ledger: Ledger, lines: Mapping[int, EventIn]) -> EventsOut:
    """Record events by their ids.

    An event that names no content version belongs to the newest that was created when it happened, or to the first.

    Args:
        ledger: where they are recorded, in one transaction.
        lines: by line number.

    Returns:
        How many were new and how many known; a line for an unknown post, or whose id stands for another content, is an
        error of its own and does not hold up the others.
    """
    out = EventsOut(accepted=0, duplicates=0, errors=[])
    if not lines:
        return out
    with ledger.write() as connection:
        claim(connection, "event", [line.id for line in lines.values()])
        digests = _digests(connection, [line.id for line in lines.values()])
        versions = _versions(connection, [line.post_id for line in lines.values()])
        rows: list[dict[str, object]] = []
        seen: Counter[str] = Counter()
        received_at = now()
        for number, line in lines.items():
            digest = _digest(line)
            version = _version_of(line, versions)
            if line.id in digests:
                if digests[line.id] == digest:
                    out.duplicates += 1
                else:
                    problem = f"id {line.id!r} is recorded already, with another content"
                    out.errors.append(LabelLineError(line=number, detail=problem))
            elif version is None:
                told = "" if line.content_version is None else f" in version {line.content_version}"
                out.errors.append(LabelLineError(line=number, detail=f"post_id {line.post_id!r} is unknown{told}"))
            else:
                digests[line.id] = digest
                recorded = {"content_version": version, "digest": digest, "received_at": received_at}
                rows.append(line.model_dump() | recorded)
                seen[line.post_id] += line.count if line.kind == "impression" else 0
        if rows:
            connection.execute(insert(events), rows)
            count_impressions(connection, +seen)
        out.accepted = len(rows)
    return out


def _version_of(line: EventIn, versions: _Versions) -> int | None:
    """The content version that an event belongs to; None: there is none."""
    known = versions.get(line.post_id, ())
    if line.content_version is not None:
        return line.content_version if any(line.content_version == version for version, _ in known) else None
    stood = [version for version, created_at in known if created_at <= line.happened_at]
    return stood[-1] if stood else min((version for version, _ in known), default=None)


def _versions(connection: Connection, post_ids: Sequence[str]) -> _Versions:
    result: dict[str, list[tuple[int, datetime]]] = {}
    query = select(posts.c.post_id, posts.c.content_version, posts.c.created_at).order_by(posts.c.content_version)
    for chunk in chunks(sorted(set(post_ids))):
        for post_id, version, created_at in connection.execute(query.where(posts.c.post_id.in_(chunk))):
            result.setdefault(post_id, []).append((version, created_at))
    return result


def _digests(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for chunk in chunks(sorted(set(ids))):
        rows = connection.execute(select(events.c.id, events.c.digest).where(events.c.id.in_(chunk)))
        result.update((event_id, digest) for event_id, digest in rows)
    return result


def _digest(line: EventIn) -> str:
    ordered = line.model_copy(update={"detail": dict(sorted(line.detail.items()))})
    return hashlib.sha256(ordered.model_dump_json().encode()).hexdigest()
