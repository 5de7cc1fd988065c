"""What tests of the serving room share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.context import Context
from tests.fresh import fresh_url
from tests.rooms import challenged_context, context_in, new_home


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def either_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger on SQLite, and one on PostgreSQL; tests that run on both make it their `url`."""
    if request.param == "sqlite":
        return fresh_url(tmp_path / "home" / "ledger.db")
    return str(request.getfixturevalue("postgres_ledger"))


@pytest.fixture
def context(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A topology, an empty registry and an empty ledger; no cluster."""
    context = context_in(new_home(tmp_path_factory.getbasetemp(), tmp_path / "home"))
    yield context
    context.ledger.close()


@pytest.fixture
def challenged(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """As `context`, but version 1 shipped and is champion, and version 2 challenges it."""
    context = challenged_context(tmp_path_factory.getbasetemp(), tmp_path / "home")
    yield context
    context.ledger.close()
