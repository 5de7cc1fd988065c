"""Labels as they leave the ledger: with who said them, how the post came before them, and what the models saw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any  # Any: SQLAlchemy knows no type of a Table's columns

from sqlalchemy import RowMapping, func, select
from sqlalchemy.engine import Connection

from moderation.storage import labelling
from moderation.storage.dialect import settled
from moderation.storage.ledger import Ledger
from moderation.storage.people_tables import reviews
from moderation.storage.tables import decisions, labels, posts, same_version, scorings

PAGE = 500
"""Labels that one transaction reads."""


@dataclass(frozen=True, slots=True)
class Said:
    """The review that a label came from.

    Attributes:
        reviewer: who decided it.
        kind: how the post came before them, as `flagged`, `reported` or `sampled`.
    """

    reviewer: str | None
    kind: str


def said_by(connection: Connection, found: Mapping[str, tuple[str, int]]) -> dict[str, Said]:
    """The review behind each label that has one.

    Args:
        connection: in any transaction.
        found: post and content version of each label, by the label's id. A label that only looks like a verdict's,
            because a platform may call its own what it likes, is of another post, and is left out.
    """
    numbers = {id_.removeprefix(labelling.OWN): id_ for id_ in found if id_.startswith(labelling.OWN)}
    ids = {int(number): id_ for number, id_ in numbers.items() if _is_number(number)}
    columns = [reviews.c.review_id, reviews.c.post_id, reviews.c.content_version, reviews.c.decided_by, reviews.c.kind]
    said: dict[str, Said] = {}
    ordered = sorted(ids)
    for begin in range(0, len(ordered), PAGE):
        chunk = ordered[begin : begin + PAGE]
        for number, post_id, version, reviewer, kind in connection.execute(
            select(*columns).where(reviews.c.review_id.in_(chunk))
        ):
            if found[ids[number]] == (post_id, version):
                said[ids[number]] = Said(reviewer, kind)
    return said


def _is_number(text: str) -> bool:
    # As the ledger itself writes it, and no larger than its row numbers.
    return text.isascii() and text.isdigit() and not text.startswith("0") and len(text) <= 18


@dataclass(frozen=True, slots=True)
class Span:
    """Labels that can be exported.

    Attributes:
        after: labels up to this number are left out.
        last: the number of the last one; `after` where there is none. What comes next is asked for with it.
    """

    after: int
    last: int


def span(ledger: Ledger, *, after: int, limit: int) -> Span:
    """The next labels after a number, `limit` at most, up to where everything is settled: none is skipped for ever."""
    with ledger.read() as connection:
        mark = settled(connection, labels.c.label_seq)
    with ledger.read() as connection:  # another one: it must begin after the mark was set
        here = (labels.c.label_seq > after) & (labels.c.label_seq <= mark)
        chosen = select(labels.c.label_seq).where(here).order_by(labels.c.label_seq).limit(limit).subquery()
        last = connection.execute(select(func.max(chosen.c.label_seq))).scalar()
    return Span(after, after if last is None else last)


def exported(ledger: Ledger, chosen: Span) -> Iterator[str]:
    """The labels of a span as JSON Lines, in the order of their numbers, each with its newline."""
    for begin in range(chosen.after, chosen.last, PAGE):
        with ledger.read() as connection:
            rows = _rows(connection, begin, min(begin + PAGE, chosen.last))
        for row in rows:
            yield json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


_COLUMNS = [
    labels.c.label_seq,
    labels.c.id,
    labels.c.post_id,
    labels.c.content_version,
    labels.c.labels,
    labels.c.source,
    labels.c.labelled_at,
    labels.c.received_at,
    labels.c.sampling_probability,
    posts.c.author_id,
    posts.c.community,
    posts.c.region,
    posts.c.created_at,
    decisions.c.decided_at,
    decisions.c.features,
]


def _rows(connection: Connection, begin: int, end: int) -> list[dict[str, Any]]:
    here = labels.c.label_seq.between(begin + 1, end)
    query = (
        select(*_COLUMNS)
        .join(posts, same_version(posts, labels))
        .join(decisions, same_version(decisions, labels))
        .where(here)
        .order_by(labels.c.label_seq)
    )
    rows = [_plain(row._mapping) for row in connection.execute(query)]
    said = said_by(connection, {row["id"]: (row["post_id"], row["content_version"]) for row in rows})
    models: dict[int, list[dict[str, Any]]] = {}
    scored = (
        select(labels.c.label_seq, scorings)
        .join(scorings, same_version(scorings, labels))
        .where(here)
        .order_by(labels.c.label_seq, scorings.c.service)
    )
    for score in connection.execute(scored).mappings():
        kept = ("service", "variant", "model_version", "experiment", "arm", "features")
        models.setdefault(score["label_seq"], []).append({name: score[name] for name in kept})
    for row in rows:
        found = said.get(row["id"])
        row["reviewer"] = None if found is None else found.reviewer
        row["review_kind"] = None if found is None else found.kind
        row["models"] = models.get(row["label_seq"], [])
    return rows


def _plain(mapping: RowMapping) -> dict[str, Any]:
    return {name: _time(value) if isinstance(value, datetime) else value for name, value in mapping.items()}


def _time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")
