"""Which frames of a video are looked at.

Key frames are nearly free: a decoder jumps to them. They also stand where the picture changes, because encoders put
one at each cut. So they are taken where there are enough of them, close enough together; else frames are spread evenly,
which decodes nearly everything. A frame that nothing looked at may hold what was not to be seen: gaps are bounded, and
the first and the last frame, at which players stand still, are always looked at.

An animated image is chosen by time as well, and what is shown longest is always among its frames.
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
_ROUNDING_S = 1e-6
"""A moment computed this little before a frame's own is that frame's."""


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
        Frames, ascending, each once, the first and the last among them; at most `rules.video_samples`.
    """
    chosen = with_ends(keys, len(times), rules.video_samples)
    if how == "key" and keys:
        return chosen
    if how == "auto" and len(keys) >= min(rules.least_samples, len(times)):
        gaps = np.diff([*times[chosen], seconds])
        if gaps.max() <= rules.max_gap_s:
            return chosen
    return evenly(times, seconds, rules)


def evenly(times: npt.NDArray[np.float64], seconds: float, rules: ReadRules) -> list[int]:
    """Frames that are shown at equal distances in time, from the first to the last; where frames last longer, fewer."""
    begin = float(times[0])
    least = max(rules.least_samples, SHORT_SAMPLES) if seconds - begin <= SHORT_S else rules.least_samples
    count = min(max(least, math.ceil((seconds - begin) / rules.max_gap_s) + 1), rules.video_samples, len(times))
    moments = np.linspace(begin, float(times[-1]), count)
    shown = np.clip(np.searchsorted(times, moments + _ROUNDING_S, side="right") - 1, 0, len(times) - 1)
    return [int(frame) for frame in np.unique(shown)]


def with_ends(keys: list[int], count: int, most: int) -> list[int]:
    """Key frames, thinned where there are too many, with the first and the last of `count` frames; at most `most`."""
    ends = [0, count - 1][:most]
    inner = [key for key in keys if key not in ends]
    room = min(len(inner), most - len(set(ends)))
    return sorted({*ends, *(inner[round(at)] for at in np.linspace(0, len(inner) - 1, room))})


def by_time(starts: npt.NDArray[np.float64], seconds: float, most: int) -> list[int]:
    """Frames of an animated image.

    The first and the last; those that are shown longest, each longer than its share of the time; then, one after the
    other, the frame that is furthest in time from all that were chosen. Many short frames do not hide a long one.

    Args:
        starts: when each frame is shown, in seconds, ascending; shape (frames,), at least one.
        seconds: when the last one ends.
        most: how many; at least 1.

    Returns:
        Frames, ascending, each once.
    """
    count = len(starts)
    if count <= most:
        return list(range(count))
    ends = np.append(starts[1:], max(seconds, float(starts[-1])))
    lasts = ends - starts
    longest = [int(frame) for frame in np.argsort(-lasts, kind="stable") if lasts[frame] > seconds / (most + 1)]
    chosen = list(dict.fromkeys([0, count - 1, *longest] if most > 2 else [*longest, 0, count - 1]))[:most]
    distance = np.full(count, np.inf)
    for place in range(most):
        if place == len(chosen):
            distance[chosen] = -1.0
            chosen.append(int(distance.argmax()))
        frame = chosen[place]
        distance = np.minimum(distance, np.maximum(np.maximum(starts[frame] - ends, starts - ends[frame]), 0.0))
    return sorted(chosen)


def followers_of(chosen: list[int], count: int) -> list[int]:
    """The frame shortly after each, or before it where there is none after; itself, where there is no other."""
    found = []
    for frame in chosen:
        after = min(frame + FOLLOWS, count - 1)
        found.append(after if after > frame else max(frame - FOLLOWS, 0))
    return found
