"""What replicas of variants are asked and answer; the gateway takes it apart without importing a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from moderation.media import Failed, Found, MediaRef, Refused
from moderation.preprocess.features import Features
from serve.experiments.split import Arm


@dataclass(frozen=True, slots=True)
class GroupScores:
    """A group, scored by one version.

    Attributes:
        version: that scored.
        scores: per text, the confidence per label.
        unseen: per text, the share of words that the model never saw in training.
        partly_read: the places of texts that are too long to be read whole.
    """

    version: int
    scores: list[dict[str, float]]
    unseen: list[float]
    partly_read: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class GroupFound:
    """A group of media, looked at by one version.

    Attributes:
        version: that scored.
        found: of each, in order.
    """

    version: int
    found: list[Found | Refused | Failed]


Score = Callable[[str, Arm, list[str], list[Features], float], Awaitable[GroupScores]]
"""Variant, arm, texts, what else is known of each post, deadline -> scores."""
ScoreMedia = Callable[[str, Arm, list[MediaRef], float], Awaitable[GroupFound]]
"""Variant, arm, media, deadline -> what was found."""
