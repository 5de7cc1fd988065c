"""Every change of a champion."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from moderation.storage.ledger import Ledger
from moderation.storage.tables import promotions as table
from serve.rollout import promotions
from serve.rollout.promotions import Kind

VARIANT = "text-multi"


def change(ledger: Ledger, kind: Kind, before: int | None, after: int, variant: str = VARIANT, **evidence: Any) -> None:
    promotions.record(ledger, variant, kind, from_version=before, to_version=after, evidence=evidence)


def test_a_change_is_recorded_with_its_evidence(ledger: Ledger) -> None:
    change(ledger, "ship", None, 1, shipped=True)
    change(ledger, "promote", 1, 2, gate={"passed": True})
    columns = (table.c.kind, table.c.from_version, table.c.to_version, table.c.evidence)
    with ledger.read() as connection:
        rows = [tuple(row) for row in connection.execute(select(*columns).order_by(table.c.promotion_id))]
    assert rows == [("ship", None, 1, {"shipped": True}), ("promote", 1, 2, {"gate": {"passed": True}})]


def test_what_shipped_has_no_predecessor(ledger: Ledger) -> None:
    assert promotions.predecessor(ledger, VARIANT, 1) is None
    change(ledger, "ship", None, 1)
    assert promotions.predecessor(ledger, VARIANT, 1) is None


def test_a_chain_of_promotions_is_walked_back(ledger: Ledger) -> None:
    change(ledger, "ship", None, 1)
    change(ledger, "promote", 1, 2)
    change(ledger, "promote", 2, 5)
    assert promotions.predecessor(ledger, VARIANT, 5) == 2
    assert promotions.predecessor(ledger, VARIANT, 2) == 1


def test_a_rollback_is_not_a_predecessor_so_that_two_in_a_row_go_further_back(ledger: Ledger) -> None:
    change(ledger, "promote", 1, 2)
    change(ledger, "promote", 2, 3)
    change(ledger, "rollback", 3, 2)
    assert promotions.predecessor(ledger, VARIANT, 2) == 1
    change(ledger, "rollback", 2, 1)
    assert promotions.predecessor(ledger, VARIANT, 1) is None


def test_the_last_promotion_of_a_version_counts(ledger: Ledger) -> None:
    change(ledger, "promote", 1, 3)
    change(ledger, "promote", 2, 3)
    assert promotions.predecessor(ledger, VARIANT, 3) == 2


def test_variants_are_apart(ledger: Ledger) -> None:
    change(ledger, "promote", 1, 2)
    change(ledger, "promote", 7, 2, variant="other")
    assert promotions.predecessor(ledger, VARIANT, 2) == 1
    assert promotions.predecessor(ledger, "other", 2) == 7
