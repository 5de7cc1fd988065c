"""What tests share: one running Seawall a session, started by the real command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moderation.running import find
from moderation.settings import Settings
from tests.end_to_end.service import Service, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Seawall with a ledger and a registry of its own; ended, to the last process, with the session."""
    home = tmp_path_factory.mktemp("seawall") / "home"
    with running_service(home, quiet=True) as service:
        yield service
    assert find(Settings(home, "", "")) is None
