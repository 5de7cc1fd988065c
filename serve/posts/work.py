"""How much it is to judge a text, and so how long it may take."""

from __future__ import annotations

import time
from collections.abc import Sequence

from moderation.preprocess.windows import LONG, MOST_CHARACTERS
from moderation.sections import Gateway as Bounds

_LEAST_WORK = 100
"""What the shortest text costs, in characters."""


def work_of(text: str) -> int:
    """How much it is to judge a text, in characters: those of a long one are read in windows, up to thrice."""
    characters = len(text)
    if characters > LONG:
        characters += min(2 * (characters - LONG), MOST_CHARACTERS)
    return max(_LEAST_WORK, characters)


def deadline_of(texts: Sequence[str], bounds: Bounds) -> float:
    """When a model has failed for texts, in seconds since 1970: later for those that are longer than a group may be."""
    groups = max(1.0, sum(map(work_of, texts)) / bounds.group_characters)
    return time.time() + groups * bounds.deadline_ms / 1000
