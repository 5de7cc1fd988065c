"""What tests of the drift room share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.context import Context
from tests.rooms import context_in, new_home


@pytest.fixture
def context(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A topology, an empty registry and an empty ledger; its home is `tmp_path / "home"`."""
    context = context_in(new_home(tmp_path_factory.getbasetemp(), tmp_path / "home"))
    yield context
    context.ledger.close()
