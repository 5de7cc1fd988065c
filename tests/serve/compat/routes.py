"""The compatible routes without a cluster: the shipped n-gram models, a real ledger, and HTTP in process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from sqlalchemy import select

from moderation.media import Failed, Found, MediaRef, Written
from moderation.models.base import TextClassifier
from moderation.models.card import CARD, Card
from moderation.preprocess.features import Features
from moderation.settings import DEPLOYMENTS
from moderation.storage.tables import labels, posts
from serve.context import GatewayContext
from serve.experiments.split import Arm
from serve.posts.answers import GroupFound, GroupScores
from tests.rooms import run

MODELS = {"text-multi": "text-ngram", "misinformation": "misinformation"}
"""What answers for the variants of the local topology: the n-gram models that ship, because they load at once."""


MEDIA_MODELS = {"image-multi", "video-multi"}
CLEAN = Found({"nudity": 0.02}, (), Written((), ()), "png", 999, 64, 64, None, None)


@dataclass
class Models:
    """The models behind the routes, with what they were asked."""

    loaded: dict[str, TextClassifier]
    calls: list[tuple[str, list[str], list[Features]]] = field(default_factory=list)
    error: Exception | None = None
    cards: dict[tuple[str, int], Card] = field(default_factory=dict)
    shown: Found | Failed = CLEAN
    """What is found in an image."""

    async def score(
        self, variant: str, _arm: Arm, texts: list[str], known: list[Features], _deadline: float
    ) -> GroupScores:
        if self.error is not None:
            raise self.error
        self.calls.append((variant, texts, known))
        model = self.loaded[variant]
        scored = model.score(texts, known)
        rows = scored.confidence.astype(np.float64).round(5).tolist()
        return GroupScores(1, [dict(zip(model.card.labels, row, strict=True)) for row in rows], [0.0] * len(texts))

    async def look(self, _variant: str, _arm: Arm, media: list[MediaRef], _deadline: float) -> GroupFound:
        if self.error is not None:
            raise self.error
        return GroupFound(1, [self.shown] * len(media))

    def card(self, variant: str, version: int) -> Card:
        if variant in MEDIA_MODELS:
            return Card.from_json((DEPLOYMENTS / "models" / variant / CARD).read_text(encoding="utf-8"))
        return self.cards.get((variant, version), self.loaded[variant].card)


@dataclass
class Compat:
    """The routes, and what is behind them."""

    app: FastAPI
    context: GatewayContext
    models: Models
    store: Path
    """Where media would be kept."""

    def send(self, method: str, path: str, *, host: str = "seawall.test", **request: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **request)

        return run(send())

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.send("POST", path, json=body)

    def rows(self) -> tuple[list[Any], list[Any]]:
        """Of posts and of labels, in the ledger."""
        with self.context.ledger.read() as connection:
            recorded = list(connection.execute(select(posts).order_by(posts.c.received_at)))
            return recorded, list(connection.execute(select(labels).order_by(labels.c.label_seq)))
