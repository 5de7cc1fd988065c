"""An image's outline, read from its container without decoding a pixel: sizes, frames, times, and where it ends.

A decoder may only be asked once it is known what it will be asked for: a file of a kilobyte can stand for a picture of
a gigabyte, or for ten thousand of them. Walking the container costs a look at each chunk and never allocates more than
the file. It also tells a file that was cut off from one that is broken, and finds what was appended to it.

Formats: JPEG (ITU T.81), PNG and APNG (W3C), GIF89a, WebP (RFC 9649), BMP, and the boxes of AVIF.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from moderation.media import Refused


@dataclass(slots=True)
class Outline:
    """What a container says of its picture.

    Attributes:
        width, height: in pixels, as stored; the most that any frame says.
        delays: seconds that each frame is shown; one entry a frame; empty: a still picture.
        end: where the picture ends: bytes behind are not its own.
        whole: False: the file ends before its picture does.
        skipped: ranges of bytes that a decoder need not see.
        scans: of a JPEG: each goes over the whole picture, so that a small file of many may take minutes.
        gamma: of a PNG, from samples to light: 1 / 2.2 is the rule; None: it says nothing of it, or has a profile,
            which comes first.
    """

    width: int = 0
    height: int = 0
    delays: list[float] = field(default_factory=list)
    end: int = 0
    whole: bool = False
    skipped: list[tuple[int, int]] = field(default_factory=list)
    scans: int = 0
    gamma: float | None = None


def outline_of(data: bytes, image_format: str, most_frames: int) -> Outline | None:
    """Walk an image's container.

    Args:
        data: the whole file.
        image_format: as `sniff` says.
        most_frames: the walk stops once there are more, so `len(delays)` is at most one above.

    Returns:
        None: a container that makes no sense.
    """
    walk = _WALKS[image_format]
    try:
        return walk(data, most_frames)
    except (struct.error, IndexError):  # a field beyond the end of the file
        return Outline(end=len(data))
    except ValueError:
        return None


def check_extent(width: int, height: int, most: int, most_side: int) -> Refused | None:
    """Refuse a picture, or a video, of more than `most` pixels, or with a side of more than `most_side`."""
    if width * height > most:
        detail = f"it is {width} x {height}, {width * height} pixels; at most {most} are read"
        return Refused("too_many_pixels", detail, most)
    if max(width, height) > most_side:
        detail = f"it is {width} x {height}, a side of {max(width, height)} pixels; at most {most_side} are read"
        return Refused("too_many_pixels", detail, most_side)
    return None


def check_moving(width: int, height: int, frames: int, most: int) -> Refused | None:
    """Refuse an animation of more than `most` pixels in all its frames."""
    pixels = width * height * frames
    if frames < 2 or pixels <= most:
        return None
    detail = f"it is {width} x {height} in {frames} frames, {pixels} pixels in all; at most {most} are read"
    return Refused("too_many_pixels", detail, most)


_ENTROPY_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(data: bytes, _most_frames: int) -> Outline:
    found = Outline(end=len(data))
    at = 2
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("no marker where one must stand")
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        at += 2
        if marker == 0xD9:
            found.end, found.whole = at, True
            return found
        if marker in _STANDALONE:
            continue
        length = struct.unpack_from(">H", data, at)[0]
        if length < 2:
            raise ValueError("a segment shorter than its own length")
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 3)
            found.width, found.height = max(found.width, width), max(found.height, height)
        at += length
        if marker == 0xDA:
            found.scans += 1
            following = _ENTROPY_END.search(data, at)
            if following is None:
                return found
            at = following.start()
    return found


_PNG_SKIPPED = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
"""Words and colour profiles: neither is used here, and each may be a bomb of its own."""


_PNG_PROFILES = frozenset({b"sRGB", b"iCCP", b"cICP"})


def _png(data: bytes, most_frames: int) -> Outline:
    found = Outline(end=len(data))
    at, profiled = 8, False
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body, behind = at + 8, at + 12 + length
        if behind > len(data):
            break
        if name == b"IHDR":
            found.width, found.height = struct.unpack_from(">II", data, body)
        elif name == b"fcTL":
            numerator, denominator = struct.unpack_from(">HH", data, body + 20)
            found.delays.append(_display_time(numerator / (denominator or 100)))
        elif name == b"gAMA" and not profiled:
            found.gamma = struct.unpack_from(">I", data, body)[0] / 100_000 or None
        elif name in _PNG_SKIPPED:
            found.skipped.append((at, behind))
        elif name == b"IEND":
            found.end, found.whole = behind, True
            break
        at, profiled = behind, profiled or name in _PNG_PROFILES
        if profiled:
            found.gamma = None
        if len(found.delays) > most_frames:
            break
    return found


def _gif(data: bytes, most_frames: int) -> Outline:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    found = Outline(width, height, end=len(data))
    at = 13 + _colours(flags)
    delay = 0.0
    while at < len(data) and len(found.delays) <= most_frames:
        introducer = data[at]
        if introducer == 0x3B:
            found.end, found.whole = at + 1, True
            break
        if introducer == 0x21:
            if data[at + 1] == 0xF9:
                delay = struct.unpack_from("<H", data, at + 4)[0] / 100
            at = _behind_blocks(data, at + 2)
        elif introducer == 0x2C:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            found.width, found.height = max(found.width, left + width), max(found.height, top + height)
            at = _behind_blocks(data, at + 10 + _colours(flags) + 1)
            if at <= len(data):
                found.delays.append(_display_time(delay))
        else:
            raise ValueError("no block where one must stand")
    # Many encoders forget the trailer: a file that ends between two blocks is whole.
    found.whole = found.whole or (at == len(data) and bool(found.delays))
    return found


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _behind_blocks(data: bytes, at: int) -> int:
    """Behind a chain of sub-blocks; beyond the end of the data where the chain is cut off."""
    while at < len(data):
        size = data[at]
        at += size + 1
        if not size:
            return at
    return len(data) + 1


def _webp(data: bytes, most_frames: int) -> Outline:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    found = Outline(end=min(end, len(data)), whole=end <= len(data))
    at = 12
    while at + 8 <= found.end and len(found.delays) <= most_frames:
        name, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        found.whole = found.whole and body + length <= len(data)
        width, height = _webp_size(data, name, body)
        found.width, found.height = max(found.width, width), max(found.height, height)
        if name == b"ANMF":
            found.delays.append(_display_time(int.from_bytes(data[body + 12 : body + 15], "little") / 1000))
        at = body + length + (length & 1)
    return found


def _webp_size(data: bytes, name: bytes, body: int) -> tuple[int, int]:
    if name == b"VP8X":
        at = body + 4
    elif name == b"ANMF":
        at = body + 6
    elif name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, body + 6)
        return width & 0x3FFF, height & 0x3FFF
    elif name == b"VP8L":
        bits = struct.unpack_from("<I", data, body + 1)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        return 0, 0
    return int.from_bytes(data[at : at + 3], "little") + 1, int.from_bytes(data[at + 3 : at + 6], "little") + 1


def _bmp(data: bytes, _most_frames: int) -> Outline:
    offset, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        bits, compression = struct.unpack_from("<H", data, 24)[0], 0
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        bits, compression = struct.unpack_from("<HI", data, 28)
    found = Outline(abs(width), abs(height), end=len(data), whole=True)
    if compression in (0, 3, 6):
        end = offset + (found.width * bits + 31) // 32 * 4 * found.height
        found.end, found.whole = min(end, len(data)), end <= len(data)
    return found


def _avif(data: bytes, _most_frames: int) -> Outline:
    """Sizes and frames are left to the decoder, whose own parser allocates nothing for them."""
    end, whole, _ = walk_boxes(io.BytesIO(data), len(data))
    return Outline(end=end, whole=whole)


def walk_boxes(file: BinaryIO, size: int) -> tuple[int, bool, set[bytes]]:
    """Walk the boxes of the top floor of an MP4, MOV or AVIF file (ISO/IEC 14496-12).

    Args:
        file: at any place; it is moved.
        size: in bytes.

    Returns:
        Where the last box ends; whether no box reaches beyond the file; the boxes' names.
    """
    at, names = 0, set()
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if not _BOX_NAME.fullmatch(name):  # what follows is no box
            break
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        names.add(name)
        if length == 0:  # to the end of the file
            return size, True, names
        if length < 8:
            break
        at += length
    return min(at, size), at <= size, names


_BOX_NAME = re.compile(rb"[ -~\xa9]{4}")


def _display_time(seconds: float) -> float:
    """As browsers do: a frame that is to be shown for no time at all is shown for a tenth of a second."""
    return seconds if seconds > 0.01 else 0.1


_WALKS: Mapping[str, Callable[[bytes, int], Outline]] = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "webp": _webp,
    "bmp": _bmp,
    "avif": _avif,
}
