"""Pixels of any kind to what models see: RGB of eight bits on white, no larger than needed; and the perceptual hash."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pdqhash
from PIL import Image

HASH_LEAST_SIDE = 64
"""PDQ works on 64 x 64 values: a smaller picture has not enough of them."""
_HASH_SIDE = 512
_SOLID = 240
"""Alpha from which nothing is seen through."""
_TRACE = 0.002
"""Share of a picture: letters take more, soft edges of a shape less."""
_FOLLOWER_SIDE = 160
_WIDE_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_SHRUNK_AS_THEY_ARE = frozenset({"L", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "RGBX"})


def to_rgb(image: Image.Image, ground: int = 255) -> Image.Image:
    """A decoded picture of any mode as RGB, transparency flattened on white, or on another grey.

    Sixteen-bit values are scaled to eight; 32-bit integers and floating-point values have no agreed range, so values
    beyond sixteen bits, or not in [0, 1], are spread from their least to their most. Colour profiles are not applied.
    """
    if image.mode in _WIDE_MODES:
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, (ground, ground, ground, 255))
        page.alpha_composite(layer)
        return page.convert("RGB")
    return image.convert("RGB")


def sees_through(image: Image.Image) -> bool:
    """Whether more than a trace of a picture lets its ground through, so that it looks different on another page."""
    if image.mode in _WIDE_MODES or not image.has_transparency_data:
        return False
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool((alpha < _SOLID).mean() > _TRACE)


def _eight_bits(values: npt.NDArray[np.generic], mode: str) -> npt.NDArray[np.uint8]:
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # the common case, in integers: a fifth of the time
        return ((values.astype(np.uint32) * 255 + 32_768) >> 16).astype(np.uint8)
    wide = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    least, most = (float(wide.min()), float(wide.max())) if wide.size else (0.0, 0.0)
    if mode != "F" and least >= 0 and most <= 65535:
        least, most = 0.0, 65535.0
    elif mode == "F" and least >= 0 and most <= 1:
        least, most = 0.0, 1.0
    return np.round((wide - least) * (255.0 / max(most - least, 1e-9))).astype(np.uint8)


def shrink(image: Image.Image, side: int) -> Image.Image:
    """Make the longer side at most `side` pixels: Lanczos, after an integer reduction where there is much to lose.

    Done before any change of mode, so that a large picture is never held twice in full.
    """
    longer = max(image.size)
    if longer <= side:
        return image
    if image.mode not in _SHRUNK_AS_THEY_ARE and image.mode not in _WIDE_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in _WIDE_MODES:
        image = to_rgb(image)
    return image.resize(smaller(image.size, side), Image.Resampling.LANCZOS, reducing_gap=3.0)


def smaller(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size in the same shape whose longer side is `side` at most, and no side less than 1."""
    share = min(1.0, side / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def follower(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A frame as motion features want it: grey, 160 px on the longer side at most.

    Args:
        picture: RGB, shape (height, width, 3).

    Returns:
        Shape (height', width').
    """
    grey = Image.fromarray(picture).convert("L")
    return np.asarray(grey.resize(smaller(grey.size, _FOLLOWER_SIDE), Image.Resampling.BOX), dtype=np.uint8)


def perceptual_hash(picture: npt.NDArray[np.uint8]) -> tuple[str, int] | None:
    """PDQ (Facebook, 2019): 64 hex digits, and a quality in [0, 100], low where there is little to see.

    Args:
        picture: RGB, shape (height, width, 3).

    Returns:
        None: a side is shorter than 64 px.
    """
    height, width = picture.shape[:2]
    if min(height, width) < HASH_LEAST_SIDE:
        return None
    if max(height, width) > _HASH_SIDE:  # PDQ blurs to 64 x 64 anyway; from 512 px it does so in a fifth of the time
        picture = np.asarray(Image.fromarray(picture).resize(smaller((width, height), _HASH_SIDE), reducing_gap=2.0))
    bits, quality = pdqhash.compute(np.ascontiguousarray(picture))
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes().hex(), int(quality)
