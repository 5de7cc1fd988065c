"""Which frames of a video are looked at.

Key frames are nearly free: a decoder jumps to them. They also stand where the picture changes, because encoders put
one at each cut. So they are taken where there are enough of them, close enough together; else frames are spread evenly,
which decodes nearly everything. A frame that nothing looked at may hold what was not to be seen: gaps are bounded.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from moderation.media import ReadRules

Sampling = Literal["auto", "key", "even"]

SHORT_S = 4.0
"""A clip that is no longer is decoded nearly whole by even sampling anyway: twice the frames cost next to nothing."""
SHORT_SAMPLES = 16
FOLLOWS = 2
"""Frames between a picture and its follower."""


def choose(
    times: npt.NDArray[np.float64], seconds: float, keys: list[int], rules: ReadRules, how: Sampling
) -> list[int]:
    """Choose frames.

    Args:
        times: when each frame is shown, in seconds, ascending; shape (frames,).
        seconds: when the last one ends.
        keys: which frames are key frames, ascending.
        rules: how many, and how far apart.
        how: `key` and `even` force a method; `auto` takes key frames where there are enough.

    Returns:
        Frames, ascending, each once; at most `rules.video_samples`.
    """
    chosen = [keys[round(at)] for at in np.linspace(0, len(keys) - 1, min(len(keys), rules.video_samples))]
    if how == "key" and chosen:
        return chosen
    if how == "auto" and len(chosen) >= min(rules.least_samples, len(times)):
        gaps = np.diff([*times[chosen], seconds])
        if times[chosen[0]] - times[0] <= rules.max_gap_s and gaps.max() <= rules.max_gap_s:
            return chosen
    return evenly(times, seconds, rules)


def evenly(times: npt.NDArray[np.float64], seconds: float, rules: ReadRules) -> list[int]:
    """Frames that are shown in the middles of equal spans of time; where frames last longer, fewer."""
    begin = float(times[0])
    least = max(rules.least_samples, SHORT_SAMPLES) if seconds - begin <= SHORT_S else rules.least_samples
    count = min(max(least, math.ceil((seconds - begin) / rules.max_gap_s)), rules.video_samples, len(times))
    middles = begin + (np.arange(count) + 0.5) * (seconds - begin) / count
    shown = np.clip(np.searchsorted(times, middles, side="right") - 1, 0, len(times) - 1)
    return [int(frame) for frame in np.unique(shown)]


def followers_of(chosen: list[int], count: int) -> list[int]:
    """The frame shortly after each, or before it where there is none after; itself, where there is no other."""
    found = []
    for frame in chosen:
        after = min(frame + FOLLOWS, count - 1)
        found.append(after if after > frame else max(frame - FOLLOWS, 0))
    return found
