"""What a video is, before it is decoded: codec, size, turn, and a timetable of all its frames, by PyAV.

The timetable comes from the packets themselves, not from what the container claims: a header can lie about its frames
and its length, and then a bound would be a wish. Reading packets is reading the file once; nothing is decoded but one
frame, which tells the rotation and the size that the codec really has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from moderation.media import ReadRules, Refused
from moderation.preprocess.outlines import check_extent, walk_boxes

av.logging.set_level(None)

_BOXED = frozenset({"mp4", "mov"})
_TRIMMED = 3
"""Frames that encoders put before a video's beginning, and hide by an edit list."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a video before it is decoded.

    Attributes:
        codec: as FFmpeg names it.
        width, height: as stored, in pixels.
        rotation: degrees, counter-clockwise: 0, 90, 180 or 270.
        pts: of every frame, in units of `unit`, ascending.
        unit: seconds.
        seconds: from the first frame to the end of the last.
        keys: which frames are key frames, ascending.
        alone: whether no other stream has moving pictures: readers may differ in which of several they take.
        edited: whether an edit list leaves out, or repeats, what the packets hold; the timetable has all of it.
    """

    codec: str
    width: int
    height: int
    rotation: int
    pts: npt.NDArray[np.int64]
    unit: float
    seconds: float
    keys: list[int]
    alone: bool = True
    edited: bool = False

    @property
    def display_size(self) -> tuple[int, int]:
        """Width and height, turned."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """When each frame is shown, in seconds from the first one; shape (frames,)."""
        return (self.pts - self.pts[0]) * self.unit


@contextmanager
def opened(path: Path, *, edited: bool = False) -> Iterator[tuple[InputContainer, VideoStream | None]]:
    """A container and the video stream that players show, to be decoded by one thread; None: it has none.

    That is the first that is flagged as default; the first of all, where none is. What an edit list (of MP4 and MOV)
    cuts away is there, unless `edited`: players differ in how they follow one, and what any shows is to be seen.
    """
    options = {} if edited else {"advanced_editlist": "0"}
    with av.open(str(path), metadata_errors="ignore", options=options) as container:
        streams = _moving(container)
        stream = next((s for s in streams if s.disposition & av.stream.Disposition.default), None)
        stream = stream or next(iter(streams), None)
        if stream is not None and _has_decoder(stream):
            stream.codec_context.thread_count = 1
        yield container, stream


def _moving(container: InputContainer) -> list[VideoStream]:
    return [stream for stream in container.streams.video if not _is_cover(stream)]


def _has_decoder(stream: VideoStream) -> bool:
    """Whether FFmpeg knows the stream's codec; PyAV's types leave out that a stream of another has no context."""
    context: object = stream.codec_context
    return context is not None


def _is_cover(stream: VideoStream) -> bool:
    """The picture of a song's album is a video stream to FFmpeg."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def read_header(path: Path, video_format: str, rules: ReadRules) -> Header | Refused:
    """Read what is known before decoding, and hold it against the bounds.

    Args:
        path: the video.
        video_format: as `sniff` says.
        rules: its bounds.
    """
    try:
        with opened(path) as (container, stream):
            if stream is None:
                return Refused("no_video", f"there is no picture in its {video_format} container")
            if not _has_decoder(stream):
                return Refused("unsupported_format", f"no decoder here knows the codec in its {video_format} container")
            return _header(container, stream, path, video_format, rules)
    except FFmpegError as error:
        return cut_off(path, video_format) or Refused("broken", f"its container is not to be read: {error.strerror}")


def _header(
    container: InputContainer, stream: VideoStream, path: Path, video_format: str, rules: ReadRules
) -> Header | Refused:
    refused = check_extent(stream.width, stream.height, rules.max_video_pixels, rules.max_video_side)
    if refused is not None:
        return refused
    if _index_exceeds(stream, path):
        return Refused("truncated", "its index names frames behind the end of its bytes")
    pts, keys, last, whole = _timetable(container, stream, rules.max_video_frames)
    if len(pts) > rules.max_video_frames:
        detail = f"it has more than {rules.max_video_frames} frames"
        return Refused("too_many_frames", detail, rules.max_video_frames)
    if not len(pts):
        return cut_off(path, video_format) or Refused("no_video", "there is no frame in its video stream")
    unit = float(stream.time_base or 1)
    seconds = float(pts[-1] - pts[0] + last) * unit
    if seconds > rules.max_seconds:
        detail = f"it lasts {seconds:.1f} s; at most {rules.max_seconds:g} s are read"
        return Refused("too_long", detail, rules.max_seconds)
    if not whole:
        return cut_off(path, video_format) or Refused("broken", "its packets cannot be read to the end")
    missing = cut_off(path, video_format)
    if missing is not None:
        return missing
    width, height, rotation = _first_frame(path, (stream.width, stream.height))
    refused = check_extent(width, height, rules.max_video_pixels, rules.max_video_side)
    if refused is not None:
        return refused
    alone = len(_moving(container)) == 1
    edited = video_format in _BOXED and _is_edited(path, len(stream.index_entries))
    return Header(_codec(stream), width, height, rotation, pts, unit, seconds, keys, alone, edited)


def _is_edited(path: Path, entries: int) -> bool:
    """Whether an edit list shows other frames than the `entries` of the index."""
    with suppress(FFmpegError), opened(path, edited=True) as (_, stream):
        if stream is not None:
            shown = sum(not entry.is_discard for entry in stream.index_entries)
            return abs(shown - entries) > _TRIMMED
    return True


def _codec(stream: VideoStream) -> str:
    """The codec's name; decoders go by names of their own."""
    return {"libdav1d": "av1", "libaom-av1": "av1", "libvpx-vp9": "vp9"}.get(stream.codec_context.name) or str(
        stream.codec_context.name
    )


def _index_exceeds(stream: VideoStream, path: Path) -> bool:
    """Whether the container's own index points behind the end of the file."""
    size = path.stat().st_size
    return any(entry.pos + entry.size > size for entry in stream.index_entries if entry.size > 0)


def _timetable(
    container: InputContainer, stream: VideoStream, most: int
) -> tuple[npt.NDArray[np.int64], list[int], int, bool]:
    """When each frame is shown, in units of the stream, which are key frames, how long the last lasts, all read."""
    rate = stream.average_rate or stream.guessed_rate
    usual = round(1 / (rate * stream.time_base)) if rate and stream.time_base else 1
    found: list[tuple[int, bool, int]] = []
    whole = True
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            moment = packet.pts if packet.pts is not None else packet.dts
            if moment is None:
                moment = found[-1][0] + usual if found else 0
            found.append((moment, packet.is_keyframe, packet.duration or usual))
            if len(found) > most:
                break
    except FFmpegError:
        whole = False
    found.sort()
    pts = np.array([moment for moment, _, _ in found], dtype=np.int64)
    return pts, [n for n, (_, key, _) in enumerate(found) if key], found[-1][2] if found else 0, whole


def _first_frame(path: Path, told: tuple[int, int]) -> tuple[int, int, int]:
    """Width, height and rotation as the first frame has them; as the container tells, where none can be decoded."""
    with suppress(FFmpegError), opened(path) as (container, stream):
        for frame in container.decode(stream):
            assert isinstance(frame, VideoFrame)
            turned = round(frame.rotation / 90) * 90 % 360
            return frame.width, frame.height, turned
    return *told, 0


def cut_off(path: Path, video_format: str) -> Refused | None:
    """Whether the container itself says that more bytes should follow; None: it does not, or cannot say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if video_format in _BOXED:
            return _boxes_cut_off(file, size)
        head = file.read(64)
    told = _told_size(head, video_format)
    if told is not None and told > size:
        return Refused("truncated", f"it has {size} bytes and says that it has {told}")
    return None


def _boxes_cut_off(file: BinaryIO, size: int) -> Refused | None:
    end, whole, names = walk_boxes(file, size)
    if not whole:
        return Refused("truncated", f"it has {end} bytes and its last box would end beyond them")
    if b"moov" not in names:
        return Refused("truncated", "its index, the box `moov`, is not there")
    return None


def _told_size(head: bytes, video_format: str) -> int | None:
    """The size that an AVI, Matroska or WebM file tells of itself; None: it tells none."""
    if video_format == "avi":
        return 8 + int.from_bytes(head[4:8], "little")
    if video_format not in {"webm", "mkv"}:
        return None
    size, at = _ebml_size(head, 4)
    at += size or 0
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return None
    size, at = _ebml_size(head, at + 4)
    return None if size is None else at + size


def _ebml_size(head: bytes, at: int) -> tuple[int | None, int]:
    """A variable-length size (RFC 8794, section 4), and where it ends; None: unknown, as in live streams."""
    if at >= len(head) or not head[at]:
        return None, at
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), at + length
