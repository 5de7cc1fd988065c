"""Stills that differ: what of a video, or of an animation, no picture that is looked at shows.

Sampling looks at a few moments, at key frames or at even distances, and whoever knows that puts an insult between them.
So all frames are scanned, as thumbnails, as far as a budget of pixels reaches. Two are alike where few of their points
differ: a line of words makes a difference, the noise of a codec does not. Whatever is unlike everything that is looked
at is looked at as well, the most unlike first, up to a bound (Gonzalez 1985: farthest first). What is left over, and
what the budget did not reach, is told as not looked at.

What moves is unlike itself all the time. So a moving frame is taken for seen where one that is looked at leads to it by
steps that are no larger than those around them, and may else differ the more, the more the frames around it differ from
one another. A cut is a larger step; where nothing moves, a single frame that is different stands out. What a scan
cannot tell from motion: what comes in by and by, a line of words that is laid over a moving picture for less than the
time between two pictures that are looked at, and words that come one after the other, each for less than `STANDS_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from moderation.media import MOST_SPANS

SIDE = 160
"""Pixels of a thumbnail's longer side: a line of words that is read at all is two of them high."""
LEAST_PIXELS = 230_000
"""What a frame counts in the budget at least: a small one takes its time too."""
ALIKE = 0.001
"""Share of points that may differ between two pictures that are taken for the same."""
STANDS_S = 0.15
"""A frame that is shown for so long is a still, not a part of a movement."""
_DIFFERENT = 24
"""Levels of 256 between two values of a point that differ."""
_AROUND_S = 0.5
_TICK_S = 0.02
_LEEWAY = 8.0
"""Times the difference of one frame to the next, by which a moving frame may differ from one that is looked at."""
_MOST_LEEWAY = 0.5
_MOVES = 0.005
"""Difference of one frame to the next, from which a picture moves."""
_CUT = 3.0
"""Times that difference, from which a step is a cut."""

Thumbnails = npt.NDArray[np.uint8]
"""Shape (frames, points): grey values and, at half the size, two of colour."""
Span = tuple[float, float]
"""From when to when, in seconds."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The frames of a medium, as far as they were scanned.

    Attributes:
        times: when each frame of the medium is shown, in seconds, ascending; shape (frames,).
        seconds: when the last one ends.
        frames: numbers of those that were scanned, ascending; shape (scanned,).
        thumbnails: of these.
    """

    times: npt.NDArray[np.float64]
    seconds: float
    frames: npt.NDArray[np.int64]
    thumbnails: Thumbnails


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a medium was looked at.

    Attributes:
        share: of its time, in [0, 1], that shows what is looked at, or what is much like it.
        spans: when it shows something else; the longest, where there are more than `MOST_SPANS`.
    """

    share: float
    spans: tuple[Span, ...]


def thumbnail(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One of a picture in RGB, shape (height, width, 3); pictures of one shape have thumbnails of one length."""
    width, height = size_of(picture.shape[1], picture.shape[0])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8).reshape(-1)


def size_of(width: int, height: int) -> tuple[int, int]:
    """Width and height of a thumbnail: even numbers, at least 2."""
    share = min(1.0, SIDE / max(width, height))
    return max(2, round(width * share / 2) * 2), max(2, round(height * share / 2) * 2)


def within_budget(frames: int, width: int, height: int, pixels: int) -> int:
    """How many frames of a size may be scanned."""
    return min(frames, pixels // max(LEAST_PIXELS, width * height))


def unlike(thumbnails: Thumbnails, other: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Share of points in which each differs from another one, shape (frames,)."""
    differences = np.maximum(thumbnails, other) - np.minimum(thumbnails, other)
    return np.count_nonzero(differences > _DIFFERENT, axis=1) / max(1, thumbnails.shape[1])


def farthest_first(
    thumbnails: Thumbnails, distances: npt.NDArray[np.float64], allowed: npt.NDArray[np.float64] | float, most: int
) -> list[int]:
    """Which to take, the most unlike first, until none is further from those taken than allowed; `distances` shrink.

    Args:
        thumbnails: to take from.
        distances: of each to what was taken before; changed in place.
        allowed: distance of each that is taken for the same.
        most: how many to take.
    """
    taken: list[int] = []
    while len(taken) < most:
        place = int(np.argmax(distances - allowed))
        if (distances - allowed)[place] <= 0:
            break
        taken.append(place)
        np.minimum(distances, unlike(thumbnails, thumbnails[place]), out=distances)
    return taken


def more_of(scan: Scan, looked_at: Iterable[int], most: int) -> list[int]:
    """Frames to look at beside others, because they show something else; ascending.

    Args:
        scan: of the medium.
        looked_at: numbers of frames that are looked at in any case.
        most: how many more.
    """
    if not len(scan.frames):
        return []
    steps, around = _motion(scan)
    distances = _distances(scan, sorted(looked_at))
    distances[_led_to(scan, looked_at, steps, around)] = 0.0
    found = farthest_first(scan.thumbnails, distances, _leeway(around), most)
    return sorted(int(scan.frames[place]) for place in found)


def coverage_of(scan: Scan, looked_at: Sequence[int], more: Sequence[int] = ()) -> Coverage:
    """How much of a medium its pictures show.

    Args:
        scan: of the medium.
        looked_at: numbers of the frames of all its pictures.
        more: those among them that were added as they show something else: these stand for others far away, too.
    """
    seen = np.zeros(len(scan.times), dtype=bool)
    if len(scan.frames):
        distances = _distances(scan, sorted(set(looked_at) - set(more)))
        for frame in more:
            place = int(np.searchsorted(scan.frames, frame))
            if place < len(scan.frames) and scan.frames[place] == frame:
                np.minimum(distances, unlike(scan.thumbnails, scan.thumbnails[place]), out=distances)
        steps, around = _motion(scan)
        seen[scan.frames] = (distances <= _leeway(around)) | _led_to(scan, looked_at, steps, around)
    seen[list(looked_at)] = True
    ends = np.append(scan.times[1:], max(scan.seconds, float(scan.times[-1])))
    lasts = np.maximum(ends - scan.times, 0.0)
    whole = float(lasts.sum())
    share = float(lasts[seen].sum()) / whole if whole > 0 else float(seen.mean())
    return Coverage(1.0 if seen.all() else min(share, 1.0), _spans(scan.times, ends, seen))


def at_moments(starts: npt.NDArray[np.float64], moments: npt.NDArray[np.float64]) -> list[int]:
    """Which frames begin next to some moments; `starts` ascend."""
    if len(starts) == 1:
        return [0] * len(moments)
    after = np.clip(np.searchsorted(starts, moments), 1, len(starts) - 1)
    before = np.abs(starts[after - 1] - moments) <= np.abs(starts[after] - moments)
    return [int(frame) for frame in np.where(before, after - 1, after)]


def _distances(scan: Scan, looked_at: Sequence[int]) -> npt.NDArray[np.float64]:
    """Of each scanned frame to what is looked at next before it and next after it; 1 where neither was scanned."""
    found = np.ones(len(scan.frames))
    places = np.searchsorted(scan.frames, looked_at)
    known = [
        int(place)
        for place, frame in zip(places, looked_at, strict=True)
        if place < len(scan.frames) and scan.frames[place] == frame
    ]
    bounds = [0, *known, len(scan.frames)]
    for before, place, after in zip(bounds, known, bounds[2:], strict=False):
        part = slice(before, after)
        np.minimum(found[part], unlike(scan.thumbnails[part], scan.thumbnails[place]), out=found[part])
    return found


def _leeway(around: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much each scanned frame may differ, by how much those around it move."""
    return np.asarray(np.minimum(ALIKE + _LEEWAY * around, _MOST_LEEWAY))


def _led_to(
    scan: Scan, looked_at: Iterable[int], steps: npt.NDArray[np.float64], around: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Which scanned frames move, with no cut between them and one that is looked at."""
    cuts = steps > np.maximum(_CUT * around[1:], _CUT * around[:-1]) if len(steps) else np.zeros(0, dtype=bool)
    shots = np.concatenate([[0], np.cumsum(cuts)])
    seen = np.unique(shots[np.isin(scan.frames, list(looked_at))])
    return np.asarray((around > _MOVES) & np.isin(shots, seen))


def _motion(scan: Scan) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How much each scanned frame differs from the next one, shape (scanned - 1,), and usually does around it."""
    times = scan.times[scan.frames]
    gaps = np.diff(times)
    steps = np.array(
        [
            0.0 if gap >= STANDS_S else float(unlike(scan.thumbnails[n : n + 1], scan.thumbnails[n + 1])[0])
            for n, gap in enumerate(gaps)
        ]
    )
    # By time, not by frame: what stands for long is calm, whatever comes and goes beside it.
    moments = np.arange(times[0], times[-1] + _TICK_S, _TICK_S)
    moving = np.append(steps, 0.0)[np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(steps))]
    reach = round(_AROUND_S / _TICK_S)
    padded = np.pad(moving, reach, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    at = np.clip(np.round((times - times[0]) / _TICK_S).astype(int), 0, len(around) - 1)
    return steps, np.asarray(around[at])


def _spans(
    times: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], seen: npt.NDArray[np.bool_]
) -> tuple[Span, ...]:
    missed = np.flatnonzero(~seen)
    runs = np.split(missed, np.flatnonzero(np.diff(missed) > 1) + 1) if len(missed) else []
    spans = [(round(float(times[run[0]]), 3), round(float(ends[run[-1]]), 3)) for run in runs]
    longest = sorted(spans, key=lambda span: span[0] - span[1])[:MOST_SPANS]
    return tuple(sorted(longest))
