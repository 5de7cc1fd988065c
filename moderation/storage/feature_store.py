"""The interface of the online features, over what a back end does: load documents, add to documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from moderation.storage.feature_profiles import (
    AUTHOR_FEATURES,
    COMMUNITY_FEATURES,
    Change,
    LabelObserved,
    PostObserved,
    author_key,
    change_of_label,
    change_of_post,
    community_key,
    measure,
    seconds,
    windows_at,
)

CHANGES_A_CALL = 256
"""That many go to the back end at a time, so that none holds it for long."""


class FeatureStore(ABC):
    """What is known of authors and communities right now: derived from the ledger, and rebuilt from it when lost.

    Methods block, for one round trip a group; asynchronous callers put them on a thread. Every one of them raises
    `FeaturesUnavailableError` where the store cannot be reached or fails.
    """

    def read(
        self, authors: Sequence[str], communities: Sequence[str], at: datetime | Sequence[datetime]
    ) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Features of a group's authors and communities.

        Args:
            authors: ids; they may repeat.
            communities: names; likewise.
            at: as of when, aware: one time for all, or one for each author, and each community, in order. What was
                observed of later times is not counted, but for that time's own buckets; of times before, less and less
                is kept, as windows have moved on (`LATE`).

        Returns:
            For each author, and for each community, in order, a number, at least 0, for each of `AUTHOR_FEATURES`
            resp. `COMMUNITY_FEATURES`; 0 for all of what is unknown.
        """
        keys = [*map(author_key, authors), *map(community_key, communities)]
        distinct = list(dict.fromkeys(keys))
        documents = dict(zip(distinct, self._load(distinct) if distinct else [], strict=True))
        windows = lru_cache(maxsize=None)(windows_at)

        def measured(keys: list[str], names: Sequence[str]) -> list[dict[str, float]]:
            times = map(seconds, [at] * len(keys) if isinstance(at, datetime) else at)
            return [measure(documents[key], when, windows(when), names) for key, when in zip(keys, times, strict=True)]

        return measured(keys[: len(authors)], AUTHOR_FEATURES), measured(keys[len(authors) :], COMMUNITY_FEATURES)

    def observe(self, events: Sequence[PostObserved]) -> int:
        """Count posts, once they are recorded. Each counts once within `MEMORY`, however often it is told.

        Returns:
            How many were counted now.
        """
        now = datetime.now(UTC)
        return self.apply([change_of_post(event, now=now) for event in events])

    def observe_labels(self, events: Sequence[LabelObserved]) -> int:
        """Count labels, once they are recorded. Each counts once within `MEMORY`, however often it is told.

        Returns:
            How many were counted now.
        """
        now = datetime.now(UTC)
        return self.apply([change_of_label(event, now=now) for event in events])

    def apply(self, changes: Sequence[Change]) -> int:
        """Add changes, but for those seen before; how many were added."""
        return sum(self._apply(chunk) for chunk in _chunks(changes))

    @property
    @abstractmethod
    def is_built(self) -> bool:
        """Whether the store was filled from the ledger once; False for a new one, or one that lost its content."""

    @abstractmethod
    def mark_built(self) -> None:
        """Say that the store was filled from the ledger."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything, also that the store was filled and what was seen."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    @abstractmethod
    def _load(self, keys: Sequence[str]) -> list[str | None]:
        """The documents of distinct keys, in order."""

    @abstractmethod
    def _apply(self, changes: Sequence[Change]) -> int:
        """Add a bounded number of changes, all or none; how many had not been seen."""


def _chunks(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    for begin in range(0, len(changes), CHANGES_A_CALL):
        yield changes[begin : begin + CHANGES_A_CALL]
