"""What a file is, told by its first bytes: never by its name, nor by what the client says.

Kept by hand because every decoder guesses on its own, and guesses differently: what is not on this list reaches none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from moderation.media import MediaKind

HEAD = 4096
"""Bytes from the beginning that tell the format."""

Support = Literal["read", "unsupported", "foreign"]

ANIMATED = frozenset({"gif", "webp", "png"})
"""Images that may move, and may therefore be told as videos."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What the first bytes say.

    Attributes:
        kind: None where it is neither, such as audio or an archive.
        format: a short name such as `jpeg` or `mp4`.
        support: `read`; `unsupported`, a medium that is not read here; `foreign`, no medium at all.
    """

    kind: MediaKind | None
    format: str
    support: Support = "read"


_BEGINNINGS: tuple[tuple[bytes, Sniffed], ...] = (
    (b"\xff\xd8\xff", Sniffed("image", "jpeg")),
    (b"\x89PNG\r\n\x1a\n", Sniffed("image", "png")),
    (b"GIF87a", Sniffed("image", "gif")),
    (b"GIF89a", Sniffed("image", "gif")),
    (b"FLV\x01", Sniffed("video", "flv")),
    (b"\x00\x00\x01\xba", Sniffed("video", "mpeg")),
    (b"\x00\x00\x01\xb3", Sniffed("video", "mpeg")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Sniffed("video", "asf")),
    (b"OggS", Sniffed("video", "ogg")),
    (b"II*\x00", Sniffed("image", "tiff", "unsupported")),
    (b"MM\x00*", Sniffed("image", "tiff", "unsupported")),
    (b"II+\x00", Sniffed("image", "tiff", "unsupported")),
    (b"MM\x00+", Sniffed("image", "tiff", "unsupported")),
    (b"%PDF-", Sniffed("image", "pdf", "unsupported")),
    (b"8BPS", Sniffed("image", "psd", "unsupported")),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", Sniffed("image", "jpeg2000", "unsupported")),
    (b"\xff\x4f\xff\x51", Sniffed("image", "jpeg2000", "unsupported")),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", Sniffed("image", "jpeg-xl", "unsupported")),
    (b"\xff\x0a", Sniffed("image", "jpeg-xl", "unsupported")),
    (b"\x00\x00\x01\x00", Sniffed("image", "ico", "unsupported")),
    (b"gimp xcf", Sniffed("image", "xcf", "unsupported")),
    (b"v/1\x01", Sniffed("image", "exr", "unsupported")),
    (b"%!PS", Sniffed("image", "postscript", "unsupported")),
    (b"ID3", Sniffed(None, "mp3", "unsupported")),
    (b"\xff\xfb", Sniffed(None, "mp3", "unsupported")),
    (b"\xff\xf3", Sniffed(None, "mp3", "unsupported")),
    (b"\xff\xf1", Sniffed(None, "aac", "unsupported")),
    (b"\xff\xf9", Sniffed(None, "aac", "unsupported")),
    (b"fLaC", Sniffed(None, "flac", "unsupported")),
    (b"PK\x03\x04", Sniffed(None, "zip", "foreign")),
    (b"PK\x05\x06", Sniffed(None, "zip", "foreign")),
    (b"Rar!\x1a\x07", Sniffed(None, "rar", "foreign")),
    (b"7z\xbc\xaf\x27\x1c", Sniffed(None, "7z", "foreign")),
    (b"\x1f\x8b", Sniffed(None, "gzip", "foreign")),
    (b"\x7fELF", Sniffed(None, "elf", "foreign")),
    (b"MZ", Sniffed(None, "exe", "foreign")),
)

_RIFF: Mapping[bytes, Sniffed] = {
    b"WEBP": Sniffed("image", "webp"),
    b"AVI ": Sniffed("video", "avi"),
    b"WAVE": Sniffed(None, "wav", "unsupported"),
}
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_MOVIE_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_TRANSPORT_PACKET = 188


def sniff(head: bytes) -> Sniffed | None:
    """Tell a format by its first bytes.

    Args:
        head: the first `HEAD` bytes, or all where there are fewer.

    Returns:
        None: nothing that is known here.
    """
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    for beginning, found in _BEGINNINGS:
        if head.startswith(beginning):
            return found
    if head[:2] == b"BM" and head[14:18] in _BITMAP_HEADERS:
        return Sniffed("image", "bmp")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Sniffed("video", "webm" if b"webm" in head[:64] else "mkv")
    if head[4:8] in _MOVIE_BOXES:
        return Sniffed("video", "mp4")
    if _is_transport_stream(head):
        return Sniffed("video", "mpegts")
    return _by_text(head)


_BITMAP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))


def _by_brand(head: bytes) -> Sniffed:
    """ISO base media (ISO/IEC 14496-12): the major brand, then the compatible ones, which begin at byte 16."""
    size = min(int.from_bytes(head[:4], "big"), 512)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
    if brands & _AVIF_BRANDS:
        return Sniffed("image", "avif")
    if brands & _HEIF_BRANDS:
        return Sniffed("image", "heic", "unsupported")
    return Sniffed("video", "mov" if head[8:12] == b"qt  " else "mp4")


def _is_transport_stream(head: bytes) -> bool:
    """A synchronisation byte at the beginning of each packet of 188 bytes; three in a row are no accident."""
    marks = head[: 3 * _TRANSPORT_PACKET : _TRANSPORT_PACKET]
    return len(marks) == 3 and set(marks) == {0x47}


def _by_text(head: bytes) -> Sniffed | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith((b"<", b"#!")):
        return None
    if b"<svg" in text:
        return Sniffed("image", "svg", "unsupported")
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<?php", b"#!")):
        return Sniffed(None, "script" if text.startswith((b"#!", b"<?php")) else "html", "foreign")
    return None
