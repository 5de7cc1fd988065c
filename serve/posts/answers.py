"""What replicas of variants answer; the gateway takes it apart without importing a model."""

from __future__ import annotations

from dataclasses import dataclass

from moderation.media import Failed, Found, Refused


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
