"""What tests of the compatible routes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from moderation.models.base import TextClassifier
from moderation.models.load import load_text_classifier
from moderation.settings import DEPLOYMENTS
from moderation.storage.features import open_features
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from moderation.topology import Topology
from serve.compat import discovery, openai, perspective
from serve.context import GatewayContext, current
from serve.media.door import MediaDoor
from serve.posts.moderator import Moderator
from simulate.service import local_topology
from tests.fresh import fresh_ledger
from tests.serve.compat.routes import MODELS, Compat, Models


@pytest.fixture(scope="session")
def loaded() -> dict[str, TextClassifier]:
    return {name: load_text_classifier(DEPLOYMENTS / "models" / folder) for name, folder in MODELS.items()}


@pytest.fixture
def make_compat(tmp_path: Path, loaded: dict[str, TextClassifier]) -> Iterator[Callable[[Path], Compat]]:
    """Makes the routes over a topology."""
    opened: list[Ledger] = []

    def make(topology_file: Path) -> Compat:
        topology = Topology.load(topology_file)
        ledger = fresh_ledger(tmp_path / f"ledger-{len(opened)}.db")
        opened.append(ledger)
        known = open_features(f"sqlite:///{tmp_path / 'features.db'}")
        models = Models(loaded)
        moderator = Moderator(topology, ledger, models.score, models.card, known, score_media=models.look)
        door = MediaDoor(topology.media, MediaStore(tmp_path / "media"), tmp_path / "incoming", ledger)
        context = GatewayContext(topology, ledger, moderator, known, door)
        app = FastAPI()
        for module in (openai, perspective, discovery):
            app.include_router(module.router)
        app.dependency_overrides[current] = lambda: context
        return Compat(app, context, models, tmp_path / "media")

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def refusing(make_compat: Callable[[Path], Compat], tmp_path: Path) -> Compat:
    """As `compat`, but one attribute of Perspective's that is not scored refuses the request."""
    return make_compat(local_topology(tmp_path, compat={"perspective": {"unknown": "refuse"}}))


@pytest.fixture
def compat(make_compat: Callable[[Path], Compat]) -> Compat:
    """The routes over the local topology."""
    return make_compat(DEPLOYMENTS / "local.yaml")
