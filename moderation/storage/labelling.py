"""Labels in the ledger: what people, or the platform, say of a content version, each once by its id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy import insert as sql_insert
from sqlalchemy.engine import Connection

from moderation.posts import LabelIn, LabelLineError, LabelsOut
from moderation.storage.dialect import announce, chunks, claim
from moderation.storage.ledger import Ledger, now
from moderation.storage.tables import labels, posts

OWN = "review:"
"""What the ids of labels begin with that follow from a verdict; the number of the review comes after it."""


def add(ledger: Ledger, lines: Mapping[int, LabelIn]) -> LabelsOut:
    """Record labels by their ids.

    Args:
        ledger: where they are recorded, in one transaction.
        lines: by line number.

    Returns:
        How many were new and how many known; a line for an unknown post, or whose id stands for another content,
        is an error of its own and does not hold up the others.
    """
    out = LabelsOut(accepted=0, duplicates=0, errors=[])
    if not lines:
        return out
    with ledger.write() as connection:
        claim(connection, "label", [line.id for line in lines.values()])
        digests = _digests(connection, [line.id for line in lines.values()])
        versions = _versions(connection, [line.post_id for line in lines.values()])
        new: list[LabelIn] = []
        for number, line in lines.items():
            digest = _digest(line)
            newest = versions.get(line.post_id)
            if line.id in digests:
                if digests[line.id] == digest:
                    out.duplicates += 1
                else:
                    problem = f"id {line.id!r} is recorded already, with another content"
                    out.errors.append(LabelLineError(line=number, detail=problem))
            elif line.id.startswith(OWN):
                problem = f"id {line.id!r} begins with {OWN!r}, as those of verdicts on reviews do"
                out.errors.append(LabelLineError(line=number, detail=problem))
            elif newest is None or (line.content_version or 1) > newest:
                version = "" if line.content_version is None else f" in version {line.content_version}"
                problem = f"post_id {line.post_id!r} is unknown{version}"
                out.errors.append(LabelLineError(line=number, detail=problem))
            else:
                digests[line.id] = digest
                new.append(line.model_copy(update={"content_version": line.content_version or newest}))
        insert(connection, new, digests)
        out.accepted = len(new)
    return out


def has(ledger: Ledger, label_id: str) -> bool:
    """Whether something is recorded under a label's id."""
    with ledger.read() as connection:
        return bool(_digests(connection, [label_id]))


def insert(connection: Connection, new: Sequence[LabelIn], digests: Mapping[str, str] | None = None) -> None:
    """Add labels whose ids are new.

    Args:
        connection: in a transaction that writes.
        new: each with its content version.
        digests: of what was sent, by id; None: they are computed.
    """
    if not new:
        return
    announce(connection, labels.c.label_seq)
    received = now()
    known = digests if digests is not None else {label.id: _digest(label) for label in new}
    values = [label.model_dump() | {"digest": known[label.id], "received_at": received} for label in new]
    connection.execute(sql_insert(labels), values)


def _versions(connection: Connection, post_ids: Sequence[str]) -> dict[str, int]:
    result: dict[str, int] = {}
    for chunk in chunks(sorted(set(post_ids))):
        query = select(posts.c.post_id, func.max(posts.c.content_version)).where(posts.c.post_id.in_(chunk))
        result.update((post_id, version) for post_id, version in connection.execute(query.group_by(posts.c.post_id)))
    return result


def _digest(line: LabelIn) -> str:
    ordered = line.model_copy(update={"labels": dict(sorted(line.labels.items()))})
    return hashlib.sha256(ordered.model_dump_json().encode()).hexdigest()


def _digests(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for chunk in chunks(sorted(set(ids))):
        rows = connection.execute(select(labels.c.id, labels.c.digest).where(labels.c.id.in_(chunk)))
        result.update((label_id, digest) for label_id, digest in rows)
    return result
