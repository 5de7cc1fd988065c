"""A ledger on real SQLite, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.storage.ledger import Ledger
from tests.moderation.storage.rows import an_entry, record


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'ledger.db'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()


@pytest.fixture
def neighbour(ledger: Ledger, url: str) -> Iterator[Ledger]:
    """Another process's view of the same ledger: nothing is shared but the file."""
    other = Ledger(url)
    yield other
    other.close()


@pytest.fixture
def posted(ledger: Ledger) -> Ledger:
    """A ledger that knows the posts p-1 and p-2."""
    record(ledger, an_entry("p-1"))
    record(ledger, an_entry("p-2"))
    return ledger
