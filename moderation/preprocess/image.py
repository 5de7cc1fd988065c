"""An image's bytes -> `Reading`, by Pillow.

In this order, so that nothing is decoded before it is known how much there is: bytes, format by its first bytes, size
and frames by the container's outline, what hides behind the picture, decoding, EXIF's turn, RGB on white, and on black
too where it is seen through; still pictures far from square in tiles as well (`tiles.py`). JPEG is
decoded at half, a quarter or an eighth of its size where that is still enough (Pillow's draft mode).

A JPEG without its end is refused although decoders would fill the rest with grey: what was not sent was not seen.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from moderation.media import MediaKind, Reading, ReadRules, Refused
from moderation.preprocess.formats import ANIMATED, HEAD, Sniffed, sniff
from moderation.preprocess.outlines import Outline, check_extent, check_moving, outline_of
from moderation.preprocess.payloads import hidden_payload
from moderation.preprocess.pixels import perceptual_hash, sees_through, shrink, to_rgb
from moderation.preprocess.sampling import by_time
from moderation.preprocess.stills import SIDE, Coverage, Scan, coverage_of, more_of, thumbnail, within_budget
from moderation.preprocess.tiles import Region, still_pictures

# Every bound is checked here, with the rules' own figures; Pillow's would warn, or refuse, at figures of its own.
Image.MAX_IMAGE_PIXELS = None

_MAY_MOVE = ANIMATED | {"avif"}
_DECODERS = {"jpeg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "avif": "AVIF"}
_SLOWER = 4
_MOST_SCANS = 100
"""Of a JPEG: encoders make about ten."""
_SCREEN = 2.2
_LEAST_GAMMA = 0.1
"""Relative deviation from a screen's gamma, beyond which it is seen."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an image may be, in the units of their names.

    Attributes:
        side: of width and height each.
        moving: pixels of all frames of an animation.
    """

    pixels: int
    side: int
    frames: int
    moving: int
    seconds: float


@dataclass(slots=True)
class Opened:
    """An image within its bounds, its first frame decoded.

    Attributes:
        image: as Pillow holds it.
        format: `jpeg`, `png`, ...
        stored: width and height as stored, before draft mode.
        turn: EXIF's orientation, 1 to 8.
        starts: when each frame is shown, in seconds; empty: a still picture.
        seconds: how long all of them last.
        first: the decoder's number of the first frame.
        table: what is shown for each value of a sample, where the file's gamma is not a screen's; shape (256,).
    """

    image: Image.Image
    format: str
    stored: tuple[int, int]
    turn: int
    starts: npt.NDArray[np.float64]
    seconds: float
    first: int = 0
    table: npt.NDArray[np.uint8] | None = None

    @property
    def display_size(self) -> tuple[int, int]:
        """Width and height, turned."""
        return self.stored[::-1] if self.turn >= 5 else self.stored

    def pictures(self, frames: Sequence[int], side: int) -> npt.NDArray[np.uint8]:
        """Decode frames as they are shown, the longer side at most `side` px; shape (frames, height, width, 3)."""
        return self.layers(frames, side)[0]

    def layers(self, frames: Sequence[int], side: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        """The same, on white, and on black as well where any of them is seen through."""
        light, dark, through = [], [], False
        for frame in frames:
            if len(self.starts):
                self.image.seek(frame + self.first)
            small = shrink(self.image, side)
            light.append(np.asarray(self.turned(to_rgb(small))))
            through = sees_through(small) or through
            dark.append(np.asarray(self.turned(to_rgb(small, 0))) if through else light[-1])
        pictures = np.stack(light).astype(np.uint8, copy=False)
        return pictures, np.stack(dark).astype(np.uint8, copy=False) if through else None

    def scan(self, pixels: int) -> Scan:
        """Thumbnails of all frames of an animation that a budget of pixels reaches, from the first on."""
        width, height = self.image.size
        # Pillow decodes more slowly than FFmpeg, and will begin anew for the frames that are wanted.
        count = within_budget(len(self.starts), width, height, pixels // _SLOWER)
        found = []
        for frame in range(count):
            self.image.seek(frame + self.first)
            # On grey, on which white words stand out as well as black ones.
            found.append(thumbnail(np.asarray(to_rgb(shrink(self.image, SIDE), 128))))
        points = np.stack(found) if found else np.zeros((0, 1), dtype=np.uint8)
        return Scan(self.starts, self.seconds, np.arange(count), points)

    def turned(self, picture: Image.Image) -> Image.Image:
        """A picture in RGB as it is shown."""
        if self.table is not None:
            picture = Image.fromarray(self.table[np.asarray(picture)])
        return picture.transpose(_TURNS[self.turn]) if self.turn in _TURNS else picture


def read_image(path: Path, rules: ReadRules, *, declared: MediaKind = "image") -> Reading | Refused:
    """Read an image.

    Args:
        path: its bytes.
        rules: its bounds, and what is sampled.
        declared: what the client says that it is.

    Raises:
        MemoryError: it needs more than there is.
        OSError: the file itself cannot be read.
    """
    refused = check_size(path, rules.max_image_bytes)
    if refused is not None:
        return refused
    data = path.read_bytes()
    known = check_format(data[:HEAD], declared)
    if isinstance(known, Refused):
        return known
    opened = open_image(data, known.format, image_bounds(rules), rules.image_side)
    if isinstance(opened, Refused):
        return opened
    try:
        looked = _looked_at(opened, rules)
    except MemoryError:
        raise
    except Exception as error:
        return decoder_refuses(error)
    width, height = opened.display_size
    return Reading(
        kind="image",
        format=opened.format,
        width=width,
        height=height,
        frames=len(opened.starts) or 1,
        seconds=opened.seconds if len(opened.starts) else None,
        pictures=looked.pictures,
        times=looked.times,
        followers=None,
        step=None,
        perceptual_hash=perceptual_hash(looked.whole),
        reader="pillow",
        looked_at=None if looked.coverage is None else looked.coverage.share,
        unseen=() if looked.coverage is None else looked.coverage.spans,
        regions=looked.regions,
    )


def image_bounds(rules: ReadRules) -> Bounds:
    """How much an image may be that is told as one."""
    return Bounds(
        pixels=rules.max_image_pixels,
        side=rules.max_image_side,
        frames=rules.max_image_frames,
        moving=rules.max_animation_pixels,
        seconds=rules.max_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Looked:
    """What is looked at of an image: fields as in `Reading`, and the picture that the perceptual hash is of."""

    pictures: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float32]
    whole: npt.NDArray[np.uint8]
    regions: tuple[Region, ...] | None = None
    coverage: Coverage | None = None


def _looked_at(opened: Opened, rules: ReadRules) -> _Looked:
    if not len(opened.starts):
        pictures, regions, whole = still_pictures(opened.image, rules.image_side, opened.turn, opened.turned)
        return _Looked(pictures, np.zeros(len(pictures), dtype=np.float32), whole, regions)
    scanned = opened.scan(rules.scan_pixels)
    for grounds in (1, 2):  # what is seen through is looked at in half as many moments, each on both grounds
        base = by_time(opened.starts, opened.seconds, max(1, rules.image_samples // grounds))
        more = more_of(scanned, base, rules.added_samples // grounds)
        frames = sorted({*base, *more})
        light, dark = opened.layers(frames, rules.image_side)
        if dark is None or (2 * len(base) <= rules.image_samples and 2 * len(more) <= rules.added_samples):
            break
    coverage = coverage_of(scanned, frames, more)
    times = opened.starts[frames].astype(np.float32)
    if dark is None:
        return _Looked(light, times, light[0], coverage=coverage)
    both = np.stack([light, dark], axis=1).reshape(-1, *light.shape[1:])[: rules.image_samples + 2 * len(more)]
    return _Looked(both, np.repeat(times, 2)[: len(both)], light[0], coverage=coverage)


def check_size(path: Path, most: int) -> Refused | None:
    """Refuse a file of no bytes, or of more than `most`."""
    size = path.stat().st_size
    if size == 0:
        return Refused("empty", "there are no bytes in it")
    if size > most:
        return Refused("too_many_bytes", f"it has {size} bytes; at most {most} are read", most)
    return None


def check_format(head: bytes, declared: MediaKind) -> Sniffed | Refused:
    """Refuse what is not read here, or is not what it was told to be; an animated image may be told as a video."""
    found = sniff(head)
    if found is None:
        return Refused("unknown_format", "its first bytes are those of no picture or video that is known here")
    if found.support == "foreign":
        return Refused("unknown_format", f"its first bytes are those of {found.format}, not of a picture or video")
    if found.support == "unsupported":
        return Refused("unsupported_format", f"{found.format} is not read here")
    if found.kind != declared and not (declared == "video" and found.format in ANIMATED):
        return Refused("wrong_kind", f"it was told as {declared} and is {found.format}, of kind {found.kind}")
    return found


def open_image(data: bytes, image_format: str, bounds: Bounds, side: int) -> Opened | Refused:
    """Open an image if it is within its bounds, and decode its first frame.

    Args:
        data: the whole file.
        image_format: as `sniff` says.
        bounds: checked before anything is decoded.
        side: pixels of the longer side that are enough; a JPEG may be decoded smaller, but no smaller than that.
    """
    outline = outline_of(data, image_format, bounds.frames)
    if outline is None:
        return Refused("broken", f"its {image_format} container makes no sense")
    refused = check_outline(outline, image_format, bounds)
    if refused is not None:
        return refused
    payload = hidden_payload(data, outline.end)
    if payload is not None:
        return Refused("hidden_payload", f"{payload} stands in or behind the picture")
    try:
        return _open(without(data, outline), image_format, outline, bounds, side)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever comes to hand: struct.error, KeyError, SyntaxError, ...
        return decoder_refuses(error)


def check_outline(outline: Outline, image_format: str, bounds: Bounds) -> Refused | None:
    """Hold what the container says against the bounds; a bound that is exceeded is told before a missing end."""
    frames, seconds = len(outline.delays), sum(outline.delays)
    refused = check_extent(outline.width, outline.height, bounds.pixels, bounds.side)
    if refused is not None:
        return refused
    if frames > bounds.frames:
        return _too_many_frames(bounds)
    refused = check_moving(outline.width, outline.height, frames, bounds.moving)
    if refused is not None:
        return refused
    if seconds > bounds.seconds and frames > 1:
        return _too_long(seconds, bounds)
    if outline.scans > _MOST_SCANS:
        detail = f"it has {outline.scans} scans, each over the whole picture; at most {_MOST_SCANS} are read"
        return Refused("too_many_frames", detail, _MOST_SCANS)
    if not outline.whole:
        return Refused("truncated", f"its bytes end before the {image_format} does")
    return None


def _too_many_frames(bounds: Bounds) -> Refused:
    return Refused("too_many_frames", f"it has more than {bounds.frames} frames", bounds.frames)


def _too_long(seconds: float, bounds: Bounds) -> Refused:
    return Refused("too_long", f"it lasts {seconds:.1f} s; at most {bounds.seconds:g} s are read", bounds.seconds)


def without(data: bytes, outline: Outline) -> bytes:
    """The file without what its outline skips."""
    if not outline.skipped:
        return data
    kept, at = [], 0
    for begin, end in outline.skipped:
        kept.append(data[at:begin])
        at = end
    return b"".join([*kept, data[at:]])


def decoder_refuses(error: Exception) -> Refused:
    """A decoder's exception as a refusal."""
    text = str(error)[:200]
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return Refused("truncated", f"its bytes end before the picture does: {text}")
    return Refused("broken", f"the decoder refuses it: {type(error).__name__}: {text}")


def _open(data: bytes, image_format: str, outline: Outline, bounds: Bounds, side: int) -> Opened | Refused:
    image = Image.open(io.BytesIO(data), formats=[_DECODERS[image_format]])
    stored = (image.width, image.height)
    refused = check_extent(image.width, image.height, bounds.pixels, bounds.side)
    if refused is not None:
        return refused
    count = int(getattr(image, "n_frames", 1)) if image_format in _MAY_MOVE else 1
    first = int(bool(getattr(image, "default_image", False)))  # an APNG's picture for who cannot see it move
    count -= first
    if count > bounds.frames:
        return _too_many_frames(bounds)
    refused = check_moving(image.width, image.height, count, bounds.moving)
    if refused is not None:
        return refused
    if len(outline.delays) > max(count, 1):  # what the decoder leaves out, a browser may show
        return Refused("broken", f"it has {len(outline.delays)} frames, of which the decoder knows {count}")
    if image_format == "jpeg":
        image.draft(None, (side, side))
    image.load()  # before EXIF: Pillow decodes a PNG to find it, and a second load hides what broke the first
    turn = _turn(image)
    if first and count == 1:
        image.seek(first)
    starts, seconds = _timetable(image, outline, count)
    if seconds > bounds.seconds:
        return _too_long(seconds, bounds)
    return Opened(image, image_format, stored, turn, starts, seconds, first, _table(outline.gamma))


def _table(gamma: float | None) -> npt.NDArray[np.uint8] | None:
    """A lookup table by PNG's chunk gAMA (W3C PNG, 13.13) for a screen of 2.2; None: there is next to nothing to do."""
    if gamma is None or abs(gamma * _SCREEN - 1) <= _LEAST_GAMMA:
        return None
    values = 255.0 * np.linspace(0, 1, 256) ** (1 / (gamma * _SCREEN))
    return values.round().astype(np.uint8)


def _turn(image: Image.Image) -> int:
    try:
        exif = Image.Exif()  # not `getexif`, which also believes XMP: browsers do not
        exif.load(image.info.get("exif", b""))
        turn = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make a broken picture
        return 1
    return turn if turn in _TURNS else 1


def _timetable(image: Image.Image, outline: Outline, count: int) -> tuple[npt.NDArray[np.float64], float]:
    """When each frame begins, and when the last one ends; empty and 0 for a still picture."""
    if count < 2:
        return np.zeros(0), 0.0
    if outline.delays:
        delays = np.array((outline.delays + [0.1] * count)[:count], dtype=np.float64)
        starts = np.concatenate([np.zeros(1), np.cumsum(delays)[:-1]])
        return starts, float(delays.sum())
    # AVIF: libavif knows of times only once it has decoded a frame; frames of one duration are the rule.
    delay = float(image.info.get("duration") or 100) / 1000
    return np.arange(count, dtype=np.float64) * delay, count * delay
