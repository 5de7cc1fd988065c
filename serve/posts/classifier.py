"""One model version behind a Ray Serve deployment of its own: texts in, scores out, a group at a time.

What takes seconds to import is imported by a replica, when it loads a model: the process that builds the application
needs none of it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
from ray import serve as ray_serve

from moderation.preprocess.features import Features
from moderation.registry import Registry
from moderation.settings import Settings
from serve.errors import DeadlineError
from serve.posts.answers import GroupScores
from serve.rollout.names import ClassifierConfig
from serve.rollout.replica import settle

if TYPE_CHECKING:
    from moderation.models.base import TextClassifier, TextScores


@ray_serve.deployment(name="classifier")
class Classifier:
    """Scores texts with the version that `user_config` names."""

    def __init__(self) -> None:
        settle()
        self._registry = Registry(Settings.from_environment())
        self._loaded: tuple[int, TextClassifier] | None = None

    async def reconfigure(self, config: ClassifierConfig) -> None:
        """Load the version that is asked for, then change over at once; until then the former one answers."""
        import torch

        torch.set_num_threads(config["threads"])
        model = await asyncio.to_thread(self._load, config["variant"], config["version"])
        self._loaded = (config["version"], model)

    def _load(self, variant: str, version: int) -> TextClassifier:
        from moderation.models.load import load_text_classifier

        return load_text_classifier(self._registry.fetch(variant, version)).on_gpu()

    async def score(self, texts: list[str], known: list[Features], deadline: float) -> GroupScores:
        """Score a group.

        Args:
            texts: raw, as posted.
            known: features of each post, by name; whatever is absent is not known.
            deadline: seconds since 1970, after which nobody waits for the answer.

        Raises:
            DeadlineError: it has passed.
        """
        if self._loaded is None:
            raise RuntimeError("no model is loaded yet")
        version, model = self._loaded
        # Off the replica's loop: a model that blocks it would hold up health checks.
        scored = await asyncio.to_thread(_score, model, texts, known, deadline)
        labels = model.card.labels
        return GroupScores(
            version=version,
            scores=[
                dict(zip(labels, row, strict=True)) for row in scored.confidence.astype(np.float64).round(5).tolist()
            ],
            unseen=scored.unseen_word_share.astype(np.float64).round(4).tolist(),
            partly_read=frozenset(np.flatnonzero(scored.partly_read).tolist()),
        )

    async def version(self) -> int:
        """The version that is loaded."""
        if self._loaded is None:
            raise RuntimeError("no model is loaded yet")
        return self._loaded[0]


def _score(model: TextClassifier, texts: list[str], known: list[Features], deadline: float) -> TextScores:
    # Asked when its turn has come: what nobody waits for any more must not keep back those who do.
    if time.time() > deadline:
        raise DeadlineError(f"{len(texts)} texts came {time.time() - deadline:.3f} s after their deadline")
    return model.score(texts, known)
