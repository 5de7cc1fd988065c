"""What tests of the drift room share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.rollout.promotion import House
from tests.serve.house import house_in, new_home


@pytest.fixture
def house(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A topology, an empty registry and an empty ledger; its home is `tmp_path / "home"`."""
    house = house_in(new_home(tmp_path_factory.getbasetemp(), tmp_path / "home"))
    yield house
    house.ledger.close()
