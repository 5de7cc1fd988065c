"""Statements of reasons and their retractions as JSON Lines, each checked before it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.statements import rows
from serve.statements.statement import RETRACTION, STATEMENT, checked_line, retraction, statement


def statement_lines(ledger: Ledger, topology: Topology, day: date) -> Iterator[str]:
    """A day's statements, each checked against its schema; with their newlines."""
    for removal in rows.removals(ledger, day):
        said = statement(removal, topology.statements, topology.policy.rules(removal.region))
        yield checked_line(said, STATEMENT)


def retraction_lines(ledger: Ledger, topology: Topology, day: date) -> Iterator[str]:
    """A day's retractions, likewise."""
    for undone in rows.retractions(ledger, day):
        yield checked_line(retraction(undone, topology.statements), RETRACTION)
