"""What moves between a picture of a video and the frame shortly after it, in a handful of numbers.

Dense optical flow (Farneback 2003) on grey pictures of 160 px, some milliseconds a pair. A camera that pans moves
everything alike; what is left when the flow's median is taken off is what moves by itself. All speeds are told in
picture widths a second, so that neither size nor frame rate is read in them, and as logarithms, because they spread
over orders of magnitude. The outer tenth of a picture is left out: bars and captions stand there, and no flow is known.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

MOTION = (
    "speed_mean",  # of all that moves
    "speed_95",  # 95th percentile
    "own_mean",  # the same, the median flow taken off
    "own_75",
    "own_95",
    "own_spread",  # how unevenly it is spread over the picture
    "camera",  # of the median flow
    "disorder",  # share of the mean speed that is lost in the mean flow: 0 where all moves one way, or nothing
    "shear",  # how much neighbouring points part or turn
    "change_mean",  # of brightness
    "change_95",
    "changed_share",  # of points whose brightness changes by a tenth or more
)
"""Names of the numbers, in their order."""

_LONGER_SIDE = 160
_MARGIN = 0.1
_GRID = 6
_SLOWEST = 0.02
"""Widths a second that the logarithm treats as standing still."""


def motion_of(picture: npt.NDArray[np.uint8], follower: npt.NDArray[np.uint8], step: float) -> npt.NDArray[np.float32]:
    """The numbers of one pair, shape (len(MOTION),).

    Args:
        picture: RGB, shape (height, width, 3).
        follower: the frame `step` seconds after it (or before: speeds are the same), grey, shape (height', width').
        step: seconds between them; where it is not above 0, nothing is known to move.
    """
    if step <= 0:
        return np.zeros(len(MOTION), dtype=np.float32)
    second = _smaller(follower)
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    first = cv2.resize(grey, (second.shape[1], second.shape[0]), interpolation=cv2.INTER_AREA)
    flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    flow = _inner(flow) / (max(second.shape) * step)
    change = np.abs(_inner(first).astype(np.float32) - _inner(second)) / 255.0
    return _numbers(flow, change)


def _numbers(flow: npt.NDArray[np.float32], change: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    speed = np.linalg.norm(flow, axis=2)
    camera = np.median(flow, axis=(0, 1))
    own = np.linalg.norm(flow - camera, axis=2)
    cells = [cell.mean() for band in np.array_split(own, _GRID) for cell in np.array_split(band, _GRID, axis=1)]
    parting = [np.abs(np.diff(flow, axis=axis)).mean() for axis in (0, 1)]
    speeds = (speed.mean(), np.percentile(speed, 95), own.mean(), *np.percentile(own, (75, 95)), np.std(cells))
    disorder = (speed.mean() - np.linalg.norm(flow.mean(axis=(0, 1)))) / (speed.mean() + _SLOWEST)
    changes = (change.mean(), np.percentile(change, 95))
    numbers = [
        *(np.log1p(value / _SLOWEST) for value in (*speeds, np.linalg.norm(camera))),
        disorder,
        np.log1p(sum(parting) / _SLOWEST * 10),
        *(np.log1p(value * 50) for value in changes),
        (change >= 0.1).mean(),
    ]
    return np.array(numbers, dtype=np.float32)


def _smaller(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A grey picture of 160 px on its longer side, at least 16 px on the other, if it is larger."""
    height, width = grey.shape
    scale = _LONGER_SIDE / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _inner(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    top, left = round(values.shape[0] * _MARGIN), round(values.shape[1] * _MARGIN)
    return values[top : values.shape[0] - top, left : values.shape[1] - left].astype(np.float32)
