"""A video's bytes -> `Reading`: by decord, and by PyAV what decord refuses.

In this order: bytes, format by its first bytes, header (PyAV: codec, size), a timetable of all frames from the
container's packets, bounds, and only then decoding. Both readers scale while they convert, so a 4K frame is never held
as RGB in full. Both turn the picture as the container says. A worker decodes with one thread: there are as many workers
as cores. decord is not asked where it would see other frames than players may show: of several video streams it takes
another one, and it leaves out what an edit list cuts away.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from moderation.media import Reading, ReadRules, Refused
from moderation.preprocess.formats import HEAD
from moderation.preprocess.image import (
    Bounds,
    check_format,
    check_outline,
    check_size,
    decoder_refuses,
    open_image,
)
from moderation.preprocess.outlines import outline_of, walk_boxes
from moderation.preprocess.payloads import hidden_payload
from moderation.preprocess.pixels import follower, perceptual_hash
from moderation.preprocess.sampling import Sampling, choose, followers_of
from moderation.preprocess.stills import Scan, at_moments, coverage_of, more_of
from moderation.preprocess.video_header import read_header
from moderation.preprocess.video_readers import NOT_DECORD, Sampled, Undecodable, by_decord, by_pyav, scan

_ANY_NUMBER = 2**31
"""Of frames: only the end of the file is asked for."""


def read_video(path: Path, rules: ReadRules, *, sampling: Sampling = "auto") -> Reading | Refused:
    """Read a video, or an animated image that was told as one.

    Args:
        path: its bytes.
        rules: its bounds, and what is sampled.
        sampling: `key` and `even` force a method.

    Raises:
        MemoryError: it needs more than there is.
        OSError: the file itself cannot be read.
    """
    refused = check_size(path, rules.max_video_bytes)
    if refused is not None:
        return refused
    with path.open("rb") as file:
        known = check_format(file.read(HEAD), "video")
    if isinstance(known, Refused):
        return known
    if known.kind == "image" and known.format != "gif":
        return _read_animation(path, known.format, rules, sampling)
    refused = _check_gif(path, rules) if known.format == "gif" else None
    if refused is not None:
        return refused
    payload = _behind(path, known.format)
    if payload is not None:
        return Refused("hidden_payload", f"{payload} stands behind the video")
    header = read_header(path, known.format, rules)
    if isinstance(header, Refused):
        return header
    scanned = scan(path, header, rules.scan_pixels)
    base = choose(header.times, header.seconds, header.keys, rules, sampling)
    more = more_of(scanned, base, rules.added_samples)
    sampled: Sampled | None = None
    if header.codec not in NOT_DECORD and header.alone and not header.edited:
        with suppress(Undecodable):
            sampled = by_decord(path, header, rules, sampling, more)
    if sampled is None:
        try:
            sampled = by_pyav(path, header, rules, sampling, more)
        except Undecodable as error:
            return Refused("broken", f"no decoder reads it: {error}")
    return _reading(known.format, header.display_size, header.codec, sampled, scanned)


def _animation_bounds(rules: ReadRules) -> Bounds:
    """How much an animated image may be that is told as a video."""
    return Bounds(
        pixels=rules.max_video_pixels,
        side=rules.max_video_side,
        frames=rules.max_video_frames,
        moving=rules.max_animation_pixels,
        seconds=rules.max_seconds,
    )


def _check_gif(path: Path, rules: ReadRules) -> Refused | None:
    """Bounds of a GIF, which FFmpeg decodes from its first frame to its last, whichever are wanted."""
    bounds = _animation_bounds(rules)
    outline = outline_of(path.read_bytes(), "gif", bounds.frames)
    if outline is None:
        return Refused("broken", "its gif container makes no sense")
    return check_outline(outline, "gif", bounds)


def _behind(path: Path, video_format: str) -> str | None:
    """What is hidden behind a video whose end its container tells."""
    data = path.read_bytes() if video_format == "gif" else b""
    if video_format == "gif":
        outline = outline_of(data, "gif", _ANY_NUMBER)
        return hidden_payload(data, outline.end) if outline else None
    if video_format not in {"mp4", "mov"}:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        end, _, _ = walk_boxes(file, size)
        file.seek(end)
        return hidden_payload(file.read(), 0) if end < size else None


def _read_animation(path: Path, image_format: str, rules: ReadRules, sampling: Sampling) -> Reading | Refused:
    """Animated WebP and PNG, told as a video: FFmpeg reads the former not at all, so Pillow reads both."""
    found = open_image(path.read_bytes(), image_format, _animation_bounds(rules), rules.video_side)
    if isinstance(found, Refused):
        return found
    count = len(found.starts)
    if not count:
        return Refused("wrong_kind", f"it was told as video and is {image_format} that does not move, of kind image")
    chosen = choose(found.starts, found.seconds, [], rules, "even" if sampling == "auto" else sampling)
    following = dict(zip(chosen, followers_of(chosen, count), strict=True))
    try:
        scanned = found.scan(rules.scan_pixels)
        more = more_of(scanned, chosen, rules.added_samples)
        pairs = {frame: frame for frame in more} | following
        frames = sorted({*pairs, *pairs.values()})
        pictures = dict(zip(frames, found.pictures(frames, rules.video_side), strict=True))
    except MemoryError:
        raise
    except Exception as error:
        return decoder_refuses(error)
    looked_at = sorted(pairs)
    sampled = Sampled(
        "pillow",
        np.stack([pictures[frame] for frame in looked_at]),
        np.stack([pictures[pairs[frame]] for frame in looked_at]),
        found.starts[looked_at],
        np.abs(found.starts[[pairs[frame] for frame in looked_at]] - found.starts[looked_at]),
        tuple(place for place, frame in enumerate(looked_at) if frame not in following),
    )
    return _reading(image_format, found.display_size, image_format, sampled, scanned)


def _reading(video_format: str, shown: tuple[int, int], codec: str, sampled: Sampled, scanned: Scan) -> Reading:
    looked_at = at_moments(scanned.times, sampled.times)
    coverage = coverage_of(scanned, looked_at, [looked_at[place] for place in sampled.added])
    return Reading(
        kind="video",
        format=video_format,
        width=shown[0],
        height=shown[1],
        frames=len(scanned.times),
        seconds=scanned.seconds,
        pictures=sampled.pictures,
        times=sampled.times.astype(np.float32),
        followers=np.stack([follower(picture) for picture in sampled.followers]),
        step=sampled.step.astype(np.float32),
        perceptual_hash=perceptual_hash(sampled.pictures[0]),
        reader=sampled.reader,
        codec=codec,
        added=sampled.added,
        looked_at=coverage.share,
        unseen=coverage.spans,
    )
