"""Still pictures that no single small picture can stand for: far from square, or seen through.

A screenshot of 1080 x 12,000 made small enough for a model is 115 px wide, and its words are gone. So what is further
from square than 3 to 1 is looked at as a whole and in tiles along its longer side, which overlap, so that what one cuts
another has whole. And what is seen through looks different on every page: white words on nothing are nothing on white.
So it is looked at on white and on black.

All pictures of one image have one shape: the whole is put in the middle of a tile's, with the ground around it. Beyond
about 14 to 1 tiles get longer than 1 to 2 rather than more: the number is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from moderation.media import MOST_STILL_PICTURES
from moderation.preprocess.pixels import sees_through, shrink, to_rgb

MOST_TILES = MOST_STILL_PICTURES // 2 - 1
_TALL = 3.0
_SHAPE = 1.2
"""Length over width of a tile, where there are enough of them: models look at the middle square."""
_OVERLAP = 0.15
"""Of a tile's length."""
_NARROWEST = 32
"""Pixels of the shorter side, below which nothing can be made out, and no tiles are cut."""

Region = tuple[float, float, float, float]
_FLIPS_X, _FLIPS_Y = frozenset({2, 3, 7, 8}), frozenset({3, 4, 6, 7})


def tiles_of(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Where to cut: left, top, right, bottom in pixels, all of one size; empty: not far enough from square."""
    long, short = max(width, height), min(width, height)
    if long <= _TALL * short or short < _NARROWEST:
        return []
    count = min(MOST_TILES, int(np.ceil((long / (_SHAPE * short) - _OVERLAP) / (1 - _OVERLAP))))
    length = min(long, int(np.ceil(long / (count - (count - 1) * _OVERLAP))))
    starts = [round(at) for at in np.linspace(0, long - length, count)]
    if width > height:
        return [(at, 0, at + length, height) for at in starts]
    return [(0, at, width, at + length) for at in starts]


def still_pictures(
    image: Image.Image, side: int, turn: int, turned: Callable[[Image.Image], Image.Image]
) -> tuple[npt.NDArray[np.uint8], tuple[Region, ...] | None, npt.NDArray[np.uint8]]:
    """What is looked at of a still image.

    Args:
        image: decoded, as stored.
        side: pixels of the longer side of each picture, at most.
        turn: EXIF's orientation, 1 to 8.
        turned: turns a picture accordingly.

    Returns:
        The pictures, shape (pictures, height, width, 3): the whole on white, its tiles from top to bottom or from left
        to right, and the same on black where it is seen through; what each shows, as `Reading.regions`; and the whole
        alone, on white, of shape (height', width', 3).
    """
    small = shrink(image, side)
    grounds = (255, 0) if sees_through(small) else (255,)
    boxes = tiles_of(*image.size)
    wholes = [np.asarray(turned(to_rgb(small, ground))) for ground in grounds]
    if not boxes:
        return np.stack(wholes).astype(np.uint8, copy=False), None, wholes[0]
    length = max(small.size)
    tile = (boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1])
    share = length / max(tile)
    size = (max(1, round(tile[0] * share)), max(1, round(tile[1] * share)))
    tiles = [(_turned_region(_region(box, image.size), turn), box) for box in boxes]
    tiles.sort(key=lambda pair: (pair[0][1], pair[0][0]))
    left, top = (size[0] - small.width) // 2, (size[1] - small.height) // 2
    frame = _region((-left, -top, size[0] - left, size[1] - top), small.size)
    pieces = [shrink(image.crop(box), length) for _, box in tiles]
    pictures = []
    for ground in grounds:
        ringed = Image.new("RGB", size, (ground,) * 3)
        ringed.paste(to_rgb(small, ground), (left, top))
        pictures.append(np.asarray(turned(ringed)))
        for piece in pieces:
            pictures.append(np.asarray(turned(to_rgb(piece, ground).resize(size, Image.Resampling.BICUBIC))))
    regions = (_turned_region(frame, turn), *(region for region, _ in tiles)) * len(grounds)
    return np.stack(pictures).astype(np.uint8, copy=False), regions, wholes[0]


def _region(box: tuple[int, int, int, int], size: tuple[int, int]) -> Region:
    return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]


def _turned_region(region: Region, turn: int) -> Region:
    """Where a region lies once the picture is turned."""
    left, top, right, bottom = region
    if turn in _FLIPS_X:
        left, right = 1 - right, 1 - left
    if turn in _FLIPS_Y:
        top, bottom = 1 - bottom, 1 - top
    return (top, left, bottom, right) if turn >= 5 else (left, top, right, bottom)
