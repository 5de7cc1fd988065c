"""Two readers of chosen frames: decord, which is quick, and PyAV, which reads what decord refuses.

Both scale while they convert and turn the picture as the container says (measured: decord turns it by itself; PyAV
tells by how much). Neither is believed blindly: decord returns the last good frame for each one that it cannot decode,
and some containers give it times that are no times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal  # Any: PyAV says of pixels only that they are numbers

import decord
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from moderation.errors import QuotingError
from moderation.media import ReadRules
from moderation.preprocess.pixels import smaller
from moderation.preprocess.sampling import Sampling, choose, followers_of
from moderation.preprocess.stills import Scan, at_moments, size_of, within_budget
from moderation.preprocess.video_header import Header, opened

decord.logging.set_level(decord.logging.QUIET)

NOT_DECORD = frozenset({"gif", "av1"})
"""Codecs that decord is known to refuse."""
_LONGEST_SCAN_S = 3.0
"""Of a processor: some codecs take long for few pixels, and a decoder that takes too long sees nothing at all."""
_LEAST_DECODED = 0.75
"""Share of frames that must be decodable: a decoder that skips more has not seen the video."""


_TRANSPARENT = frozenset({"bgra", "rgba", "argb", "abgr", "yuva420p", "yuva444p", "pal8", "ya8"})
"""Pixel formats that may let white through."""


class Undecodable(QuotingError):
    """A reader gives up on a video."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Frames as a reader gives them: shapes as in `Reading`, with `followers` in colour and in full.

    Attributes:
        added: as in `Reading`; their followers are themselves, as motion is told by what sampling chose.
    """

    reader: Literal["pillow", "decord", "pyav"]
    pictures: npt.NDArray[np.uint8]
    followers: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64]
    step: npt.NDArray[np.float64]
    added: tuple[int, ...] = ()


def by_decord(path: Path, header: Header, rules: ReadRules, sampling: Sampling, more: Sequence[int] = ()) -> Sampled:
    """Read by decord.

    Args:
        path: the video.
        header: of it.
        rules: how many frames are sampled.
        sampling: how.
        more: frames of the header's timetable that are looked at as well.

    Raises:
        Undecodable: it refuses, skips too much, or knows no times.
    """
    width, height = smaller(header.display_size, rules.video_side)
    try:
        video = decord.VideoReader(str(path), num_threads=1, width=width, height=height, fault_tol=1 - _LEAST_DECODED)
        times = np.asarray(video.get_frame_timestamp(range(len(video))), dtype=np.float64)
        if not _are_times(times[:, 0]):
            raise Undecodable("its times do not ascend")
        starts = times[:, 0] - times[0, 0]
        chosen = choose(starts, header.seconds, video.get_key_indices(), rules, sampling)
        following = followers_of(chosen, len(video))
        more = sorted(set(at_moments(starts, header.times[list(more)])))
        frames = sorted({*chosen, *following, *more})
        decoded = dict(zip(frames, video.get_batch(frames).asnumpy(), strict=True))
    except (decord.DECORDError, RuntimeError, AssertionError, IndexError) as error:
        raise Undecodable(str(error)[:200]) from error
    return _sampled("decord", decoded, dict(zip(chosen, following, strict=True)), more, starts)


def _are_times(starts: npt.NDArray[np.float64]) -> bool:
    return bool(np.isfinite(starts).all() and np.abs(starts).max() < 1e6 and (np.diff(starts) >= 0).all())


def by_pyav(path: Path, header: Header, rules: ReadRules, sampling: Sampling, more: Sequence[int] = ()) -> Sampled:
    """Read by PyAV; arguments as of `by_decord`.

    Raises:
        Undecodable: it refuses, or skips too much.
    """
    chosen = choose(header.times, header.seconds, header.keys, rules, sampling)
    following = followers_of(chosen, len(header.pts))
    wanted = sorted({*chosen, *following, *more})
    decoded = _decode(path, header, wanted, smaller(header.display_size, rules.video_side))
    kept = [(frame, after) for frame, after in zip(chosen, following, strict=True) if frame in decoded]
    if not kept or len(kept) < _LEAST_DECODED * len(chosen):
        raise Undecodable(f"{len(chosen) - len(kept)} of {len(chosen)} frames cannot be decoded")
    pairs = {frame: after if after in decoded else frame for frame, after in kept}
    return _sampled("pyav", decoded, pairs, [frame for frame in more if frame in decoded], header.times)


def _sampled(
    reader: Literal["decord", "pyav"],
    decoded: dict[int, npt.NDArray[np.uint8]],
    chosen: Mapping[int, int],
    more: Sequence[int],
    starts: npt.NDArray[np.float64],
) -> Sampled:
    """`chosen`: frames, each with its follower."""
    pairs = {frame: frame for frame in more} | dict(chosen)
    frames = sorted(pairs)
    following = [pairs[frame] for frame in frames]
    return Sampled(
        reader,
        np.stack([decoded[frame] for frame in frames]),
        np.stack([decoded[frame] for frame in following]),
        starts[frames],
        np.abs(starts[following] - starts[frames]),
        tuple(place for place, frame in enumerate(frames) if frame not in chosen),
    )


def _decode(path: Path, header: Header, wanted: list[int], size: tuple[int, int]) -> dict[int, npt.NDArray[np.uint8]]:
    """Decode frames by number; those that cannot be decoded are missing.

    Jumps to a key frame only where one lies between; a jump that lands behind its goal, or a container that cannot
    jump, is answered by decoding from the beginning.
    """
    for jumps in (True, False):
        try:
            with opened(path) as (container, stream):
                if stream is None:
                    raise Undecodable("no video stream")
                decoded = _walk(container, stream, header, wanted, size, jumps)
        except FFmpegError as error:
            if not jumps:
                raise Undecodable(str(error.strerror)) from error
            continue
        if len(decoded) == len(wanted) or not jumps:
            return decoded
    return {}


def _walk(
    container: InputContainer,
    stream: VideoStream,
    header: Header,
    wanted: list[int],
    size: tuple[int, int],
    jumps: bool,
) -> dict[int, npt.NDArray[np.uint8]]:
    decoded: dict[int, npt.NDArray[np.uint8]] = {}
    keys = np.array(header.keys or [0])
    frames = _frames(container, stream)
    at, frame = -1, None
    for goal in wanted:
        key = int(keys[max(0, int(np.searchsorted(keys, goal, side="right")) - 1)])
        if jumps and key > at + 1:
            container.seek(int(header.pts[key]), stream=stream, backward=True)
            frames = _frames(container, stream)
            at = -1
        while at < goal:
            frame = next(frames, None)
            if frame is None:
                return decoded
            at = at + 1 if frame.pts is None else int(np.searchsorted(header.pts, frame.pts, side="right")) - 1
        if at == goal and frame is not None:
            decoded[goal] = _pixels(frame, size)
    return decoded


def scan(path: Path, header: Header, pixels: int) -> Scan:
    """Thumbnails of all frames, where a budget reaches them, else of key frames.

    What cannot be decoded is missing, and so is what is left after some seconds.

    Args:
        path: the video.
        header: of it.
        pixels: that may be decoded.
    """
    most = within_budget(len(header.pts), header.width, header.height, pixels)
    stored = size_of(header.width, header.height)
    found: dict[int, npt.NDArray[np.uint8]] = {}
    until = time.thread_time() + _LONGEST_SCAN_S
    with suppress(FFmpegError), opened(path) as (container, stream):
        if stream is not None and most:
            if most < len(header.pts):
                stream.codec_context.skip_frame = "NONKEY"
            for frame in _frames(container, stream):
                if len(found) >= most or time.thread_time() > until:
                    break
                place = len(found) if frame.pts is None else int(np.searchsorted(header.pts, frame.pts, "right")) - 1
                small = frame.to_ndarray(width=stored[0], height=stored[1], format="yuv420p", interpolation="AREA")
                found.setdefault(
                    max(0, min(place, len(header.pts) - 1)), small.reshape(-1).astype(np.uint8, copy=False)
                )
    frames = sorted(found)
    points = stored[0] * stored[1] * 3 // 2
    thumbnails = np.stack([found[frame] for frame in frames]) if frames else np.zeros((0, points), dtype=np.uint8)
    return Scan(header.times, header.seconds, np.array(frames, dtype=np.int64), thumbnails)


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All that can be decoded from here on; a packet that cannot be is left out."""
    for packet in container.demux(stream):
        with suppress(InvalidDataError):
            yield from packet.decode()


def _pixels(frame: VideoFrame, shown: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A frame scaled, in RGB, and turned; shape (height, width, 3) as shown."""
    turns = round(frame.rotation / 90) % 4
    width, height = shown[::-1] if turns % 2 else shown
    if frame.format.name in _TRANSPARENT:
        return np.rot90(_on_white(frame.to_ndarray(width=width, height=height, format="rgba")), turns).copy()
    pixels = frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.rot90(pixels, turns).astype(np.uint8)


def _on_white(layered: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # PyAV says of pixels only that they are of some number; those of rgba are bytes.
    alpha = layered[..., 3:].astype(np.uint16)
    return ((layered[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
