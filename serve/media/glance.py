"""What a medium will cost, by its first bytes and its container's headers: before it is stored, queued or decoded.

Pure Python, a bounded number of small reads, nothing is decoded: it is looked at in the process that takes requests.
What is told is believed for the order of work alone: a worker holds the whole container against the bounds, and whoever
says less than there is costs the small ones a worker for as long as one medium takes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from moderation.media import MediaKind, ReadRules, Refused
from moderation.preprocess.formats import HEAD, Sniffed, sniff
from moderation.preprocess.outlines import check_extent, check_moving

MEGAPIXEL = 1_000_000
VIDEO_WORK = 50
"""Megapixels that a video counts: what its frames take is known only to a decoder."""
_UNKNOWN = 200
"""The same of an image of which too much would have to be read to tell."""
_STEPS = 2000
"""Chunks, segments or blocks that are looked at."""
_JPEG_SHARE = 4
"""A JPEG takes about a quarter of what a PNG of its size takes; one with many scans does not."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def glance(path: Path, kind: MediaKind, rules: ReadRules) -> int | Refused:
    """How much work it will be to decode a medium, in megapixels, at least 1; or why it never will be.

    Args:
        path: its bytes.
        kind: as it was told.
        rules: the bounds that its header is held against.
    """
    with path.open("rb") as file:
        found = sniff(file.read(HEAD))
        if found is None or found.support != "read":
            return 1  # it will be refused by whoever reads it
        if found.kind == "video":
            return VIDEO_WORK
        try:
            told = _header_extent(file, found)
        except (struct.error, IndexError, ValueError):
            return 1  # likewise
    if told is None:
        return _UNKNOWN
    width, height, frames, share = told
    most, side = rules.max_image_pixels, rules.max_image_side
    if kind == "video":
        most, side = rules.max_video_pixels, rules.max_video_side
    refused = check_extent(width, height, most, side) or check_moving(width, height, frames, rules.max_animation_pixels)
    return refused or max(1, -(-width * height * max(1, frames) // (share * MEGAPIXEL)))


def _header_extent(file: BinaryIO, found: Sniffed) -> tuple[int, int, int, int] | None:
    """Width, height, frames, and the share of a PNG's work that a pixel is; None: that takes too long to find out."""
    walk = {"png": _png, "jpeg": _jpeg, "gif": _gif, "webp": _webp, "bmp": _bmp, "avif": _avif}[found.format]
    return walk(file)


def _at(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)


def _png(file: BinaryIO) -> tuple[int, int, int, int] | None:
    width, height = struct.unpack(">II", _at(file, 16, 8))
    at = 8
    for _ in range(_STEPS):
        length, name = struct.unpack(">I4s", _at(file, at, 8))
        if name == b"acTL":
            return width, height, struct.unpack(">I", file.read(4))[0], 1
        if name in (b"IDAT", b"IEND"):  # an animation says so before its picture
            return width, height, 1, 1
        at += 12 + length
    return None


def _jpeg(file: BinaryIO) -> tuple[int, int, int, int] | None:
    at = 2
    for _ in range(_STEPS):
        mark, marker, length = struct.unpack(">BBH", _at(file, at, 4))
        if mark != 0xFF:
            raise ValueError("no marker")
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack(">xHH", file.read(5))
            return width, height, 1, 1 if marker in _PROGRESSIVE else _JPEG_SHARE
        at += 1 if marker == 0xFF else 2 + length
    return None


def _gif(file: BinaryIO) -> tuple[int, int, int, int] | None:
    width, height, flags = struct.unpack("<HHB", _at(file, 6, 5))
    at, frames = 13 + _colours(flags), 0
    for _ in range(_STEPS):
        introducer = _at(file, at, 1)
        if introducer in (b"", b"\x3b"):
            return width, height, frames, 1
        if introducer == b"\x2c":
            left, top, wide, high, flags = struct.unpack("<HHHHB", file.read(9))
            width, height, frames = max(width, left + wide), max(height, top + high), frames + 1
            at += 10 + _colours(flags) + 1
        elif introducer == b"\x21":
            at += 2
        else:
            raise ValueError("no block")
        for _ in range(_STEPS):
            size = _at(file, at, 1)
            at += 1 + (size[0] if size else 0)
            if size in (b"", b"\x00"):
                break
        else:
            return None
        if frames * 2 > _STEPS:
            return None
    return None


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(file: BinaryIO) -> tuple[int, int, int, int] | None:
    at, width, height, frames = 12, 0, 0, 0
    for _ in range(_STEPS):
        head = _at(file, at, 18)
        if len(head) < 18:
            return width, height, frames, 1
        name, length = struct.unpack("<4sI", head[:8])
        body = head[8:]
        if name == b"VP8X":
            wide, high = int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
        elif name == b"VP8 ":
            wide, high = (side & 0x3FFF for side in struct.unpack("<HH", body[6:10]))
        elif name == b"VP8L":
            bits = struct.unpack("<I", body[1:5])[0]
            wide, high = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        else:
            wide, high = 0, 0
        width, height, frames = max(width, wide), max(height, high), frames + (name == b"ANMF")
        at += 8 + length + (length & 1)
    return None


def _bmp(file: BinaryIO) -> tuple[int, int, int, int] | None:
    head = _at(file, 14, 20)
    if head[:4] == b"\x0c\x00\x00\x00":
        width, height = struct.unpack("<HH", head[4:8])
        return width, height, 1, 1
    width, height, compression = struct.unpack("<iixxxxI", head[4:20])
    # Runs are unpacked by a loop in Python, by the bytes that they take.
    return None if compression in (1, 2) else (abs(width), abs(height), 1, 1)


def _avif(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """By the largest `ispe` (ISO/IEC 23008-12, 6.5.3) near its beginning; a sequence is not told apart from a still."""
    head = _at(file, 0, 1 << 16)
    if b"avis" in head[:64]:
        return None
    sizes: list[tuple[int, int]] = []
    at = head.find(b"ispe")
    while at >= 0 and len(sizes) < _STEPS:
        sizes.append(struct.unpack(">II", head[at + 8 : at + 16]))
        at = head.find(b"ispe", at + 4)
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return (width, height, 1, 1) if sizes else None
