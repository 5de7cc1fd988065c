"""Every change of a champion, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import insert, select

from moderation.storage.ledger import Ledger, now
from moderation.storage.tables import promotions

Kind = Literal["ship", "promote", "rollback"]


def record(
    ledger: Ledger, variant: str, kind: Kind, *, from_version: int | None, to_version: int, evidence: Mapping[str, Any]
) -> None:
    """Record a change before it is made, so that none is ever made without a record."""
    with ledger.write() as connection:
        connection.execute(
            insert(promotions).values(
                variant=variant,
                kind=kind,
                from_version=from_version,
                to_version=to_version,
                evidence=dict(evidence),
                created_at=now(),
            )
        )


def predecessor(ledger: Ledger, variant: str, version: int) -> int | None:
    """The champion that `version` last took over from by promotion; None: it shipped."""
    columns = promotions.c
    with ledger.read() as connection:
        found: int | None = connection.execute(
            select(columns.from_version)
            .where(columns.variant == variant, columns.to_version == version, columns.kind == "promote")
            .order_by(columns.promotion_id.desc())
            .limit(1)
        ).scalar()
    return found
