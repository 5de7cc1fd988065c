"""What tests of the serving room share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.rollout.promotion import House
from tests.serve.house import challenged_house, house_in, new_home


@pytest.fixture
def house(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A topology, an empty registry and an empty ledger; no cluster."""
    house = house_in(new_home(tmp_path_factory.getbasetemp(), tmp_path / "home"))
    yield house
    house.ledger.close()


@pytest.fixture
def challenged(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """As `house`, but version 1 shipped and is champion, and version 2 challenges it."""
    house = challenged_house(tmp_path_factory.getbasetemp(), tmp_path / "home")
    yield house
    house.ledger.close()
