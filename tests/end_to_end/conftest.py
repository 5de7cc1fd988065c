"""The Seawall that most end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moderation.running import find
from moderation.settings import Settings
from simulate.service import PATIENT, Service, local_topology, running_service


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The local Seawall, with patience, its own ledger and registry; ended, to the last process, after these tests.

    Each of its models has a share of a GPU that only Ray believes in, so that all of them are placed as on a real one.

    What its models do not answer within the usual deadline is another one's to test: `test_light.py`.
    """
    folder = tmp_path_factory.mktemp("seawall")
    home = folder / "home"
    topology = local_topology(folder, num_gpus=0.25, **PATIENT)
    with running_service(home, topology=topology, quiet=True, logical_gpus=1) as service:
        yield service
    assert find(Settings(home, "", "")) is None
