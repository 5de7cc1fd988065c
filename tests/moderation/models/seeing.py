"""Small readings, and a network that sees mean colours alone: so it is plain what the models do with features."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from moderation.media import MediaKind, Reading
from moderation.models.backbone import Backbone, Picture, as_planes


class Colours(Backbone):
    """Three features: the mean of red, green and blue, in [0, 1], times `gain`."""

    name = "colours"
    width = 3
    side = 1

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def prepare(self, picture: Picture) -> torch.Tensor:
        return as_planes(picture.mean(axis=(0, 1), keepdims=True)) / 255.0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[:, :, 0, 0] * self.gain


def plain(colour: tuple[int, int, int], height: int = 24, width: int = 32) -> Picture:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def a_reading(
    pictures: Sequence[Picture],
    kind: MediaKind = "image",
    *,
    times: Sequence[float] | None = None,
    followers: Sequence[np.ndarray] | None = None,
    step: float = 0.1,
) -> Reading:
    """Of pictures of one size, a second apart; a video whose followers are not told stands still."""
    stacked = np.stack(pictures)
    still = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    grey = np.stack(still if followers is None else followers)
    count = len(stacked)
    video = kind == "video"
    return Reading(
        kind=kind,
        format="mp4" if video else "png",
        width=stacked.shape[2],
        height=stacked.shape[1],
        frames=count,
        seconds=float(count) if count > 1 else None,
        pictures=stacked,
        times=np.array(range(count) if times is None else times, dtype=np.float32),
        followers=grey if video else None,
        step=np.full(count, step, dtype=np.float32) if video else None,
        perceptual_hash=None,
        reader="decord" if video else "pillow",
    )
