"""Bad and odd images and videos, each with the refusal that it must get, or none where it must be read.

Made in code, small on disk: what is large says so in a header, or is compressed. `samples()` is what a benchmark or an
end-to-end test sends in one batch with good media.
"""

from __future__ import annotations

import functools
import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageDraw, ImageFont

from moderation.media import Code, MediaKind

av.logging.set_level(None)


@dataclass(frozen=True, slots=True)
class Sample:
    """An input.

    Attributes:
        name: unique.
        kind: as it is told.
        make: its bytes.
        expect: the refusal that it must get under the rules as they are by default; None: it must be read.
    """

    name: str
    kind: MediaKind
    make: Callable[[], bytes]
    expect: Code | None


def canvas(width: int = 160, height: int = 120, shift: int = 0) -> npt.NDArray[np.uint8]:
    """A picture with detail in every channel and a red corner at the top left; shape (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([(x + y) % 256, (x * 3 + shift * 5) % 256, (y * 2) % 256], axis=-1).astype(np.uint8)
    pixels[: height // 4, : width // 4] = (255, 0, 0)
    return pixels


def picture(width: int = 160, height: int = 120, mode: str = "RGB", shift: int = 0) -> Image.Image:
    """The canvas in a mode of Pillow's."""
    return Image.fromarray(canvas(width, height, shift)).convert(mode)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """An image's file."""
    target = io.BytesIO()
    image.save(target, image_format, **options)
    return target.getvalue()


@functools.cache
def animated(image_format: str, frames: int = 12, delay_ms: int = 100, mode: str = "RGB") -> bytes:
    """An animation whose frames differ."""
    pictures = [picture(64, 48, mode, shift) for shift in range(frames)]
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": delay_ms, "loop": 0}
    return encoded(pictures[0], image_format, **options)


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, rows: bytes, *before: bytes) -> bytes:
    """A grey PNG file of eight bits, by its header and its compressed rows, which need not agree."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def png_bomb(side: int = 30_000) -> bytes:
    """A real picture of `side` x `side`, all black: some 2 MB that become 900 MB."""
    packer = zlib.compressobj(9)
    packer.compress(b"")
    head = packer.flush(zlib.Z_FULL_FLUSH)
    row = packer.compress(bytes(side + 1)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it may be repeated
    checksum = struct.pack(">HH", side * (side + 1) % 65521, 1)  # Adler-32 of nothing but zeros
    return png(side, side, head + row * side + b"\x03\x00" + checksum)


def gif_of(frames: int, canvas_size: tuple[int, int] = (8, 8), frame_size: tuple[int, int] = (8, 8)) -> bytes:
    """A GIF of many equal frames, written by hand: 30 bytes a frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas_size, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    control = b"\x21\xf9\x04\x00\x05\x00\x00\x00"
    one = control + b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame_size, 0) + b"\x02\x02\x4c\x01\x00"
    return head + one * frames + b"\x3b"


def zip_archive() -> bytes:
    """An archive with a page in it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.html", "<html>hello</html>" * 40)
    return target.getvalue()


def zip_bomb() -> bytes:
    """An archive of 20 MB of nothing, in 20 kB."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20_000_000))
    return target.getvalue()


def with_exif(turn: int) -> bytes:
    """A JPEG that is to be turned before it is shown."""
    exif = Image.Exif()
    exif[0x0112] = turn
    return encoded(picture(), "JPEG", exif=exif)


@functools.cache
def clip(
    container: str = "mp4",
    codec: str = "libx264",
    size: tuple[int, int] = (160, 120),
    seconds: float = 2.0,
    rate: int = 15,
    gop: int | None = None,
    rotation: int = 0,
    pixels: str = "yuv420p",
    blank: bool = False,
    moments_ms: tuple[int, ...] | None = None,
    options: tuple[tuple[str, str], ...] = (),
    container_options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A video whose frames differ: red, green and blue run with time.

    Args:
        container: as FFmpeg names it.
        codec: an encoder of FFmpeg's.
        size: width and height.
        seconds: how long.
        rate: frames a second.
        gop: frames from key frame to key frame, at most; None: as the encoder likes.
        rotation: degrees, counter-clockwise, that a player must turn it by.
        pixels: the pixel format.
        blank: all frames in one colour, which is quick where they are large.
        moments_ms: when each frame is shown, in place of `seconds` and `rate`.
        options: of the encoder.
        container_options: of the container.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        with av.open(str(path), "w", format=container, options=dict(container_options)) as target:
            stream: Any = target.add_stream(codec, rate=rate)
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            stream.codec_context.thread_count = 1
            stream.options = dict(options) | ({"g": str(gop), "keyint_min": str(gop)} if gop else {})
            if moments_ms is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                stream.set_display_rotation(rotation)
            moments = moments_ms or tuple(range(round(seconds * rate)))
            unit = Fraction(1, 1000) if moments_ms else Fraction(1, rate)
            for number, moment in enumerate(moments):
                if blank:
                    frame = av.VideoFrame(*size, format=pixels)
                else:
                    frame = av.VideoFrame.from_ndarray(canvas(*size, number), format="rgb24")
                frame.pts, frame.time_base = moment, unit
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        return path.read_bytes()


def film(
    pictures: Sequence[npt.NDArray[np.uint8]],
    rate: int = 10,
    container: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: tuple[tuple[str, str], ...] = (("preset", "ultrafast"), ("g", "1000")),
) -> bytes:
    """A video of just these frames, each of shape (height, width, 3); one key frame unless the encoder wants more."""
    height, width, _ = pictures[0].shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film"
        with av.open(str(path), "w", format=container) as target:
            stream: Any = target.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            stream.codec_context.thread_count = 1
            stream.options = dict(options)
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        return path.read_bytes()


def slide(text: str, size: tuple[int, int] = (320, 180), points: int = 22) -> npt.NDArray[np.uint8]:
    """Words on a plain ground; shape (height, width, 3)."""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), points)
    page = Image.new("RGB", size, (236, 236, 230))
    ImageDraw.Draw(page).multiline_text((size[0] // 16, size[1] // 3), text, font=font, fill="black")
    return np.asarray(page)


def edited(begin_s: float, seconds: float) -> bytes:
    """An MP4 of four seconds whose edit list shows a part."""
    video = bytearray(clip(seconds=4, gop=10))
    at = video.index(b"elst") + 12
    video[at : at + 8] = struct.pack(">Ii", round(seconds * 1000), round(begin_s * 15_360))
    return bytes(video)


@functools.cache
def two_tracks(container: str = "mp4", default: int = 0) -> bytes:
    """A small red video and a larger blue one in one file, of which one is flagged as default."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        with av.open(str(path), "w", format=container) as target:
            tracks: list[Any] = []
            for number, (size, colour) in enumerate((((64, 48), (255, 0, 0)), ((320, 240), (0, 0, 255)))):
                stream: Any = target.add_stream("libx264", rate=15)
                stream.width, stream.height = size
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
                stream.disposition = av.stream.Disposition.default if number == default else 0
                tracks.append((stream, np.full((size[1], size[0], 3), colour, dtype=np.uint8)))
            for moment in range(20):
                for stream, pixels in tracks:
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts, frame.time_base = moment, Fraction(1, 15)
                    target.mux(stream.encode(frame))
            for stream, _ in tracks:
                target.mux(stream.encode(None))
        return path.read_bytes()


@functools.cache
def sound(container: str = "mp4", codec: str = "aac") -> bytes:
    """A second of silence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=container) as target:
            stream: Any = target.add_stream(codec, rate=44_100, layout="mono")
            for number in range(43):
                planes = "fltp" if codec == "aac" else "s16"
                silence = np.zeros((1, 1024), dtype=np.float32 if planes == "fltp" else np.int16)
                frame = av.AudioFrame.from_ndarray(silence, format=planes, layout="mono")
                frame.sample_rate, frame.pts = 44_100, number * 1024
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        return path.read_bytes()


def without_index(video: bytes) -> bytes:
    """An MP4 that was cut off before its index, as when a recorder loses power."""
    return video[: video.index(b"moov") - 4]


def truncated(data: bytes, share: float = 0.6) -> bytes:
    """The first part."""
    return data[: int(len(data) * share)]


_QUICK = (("preset", "ultrafast"),)
_FRONT = (("movflags", "faststart"),)
_VP9 = (("deadline", "realtime"), ("cpu-used", "8"))


def _grey_with_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(picture(mode="L"), "JPEG", icc_profile=profile)


def _sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.arange(65_536, dtype=np.uint16).reshape(256, 256)), "PNG")


def _text_bomb() -> bytes:
    bomb = zlib.compress(bytes(50_000_000), 1)
    return png(64, 64, zlib.compress(bytes(65 * 64)), png_chunk(b"zTXt", b"Comment\x00\x00" + bomb))


def _profile_bomb() -> bytes:
    bomb = zlib.compress(bytes(50_000_000), 1)
    return png(64, 64, zlib.compress(bytes(65 * 64)), png_chunk(b"iCCP", b"name\x00\x00" + bomb))


def _broken_png() -> bytes:
    return png(64, 64, b"this is not what zlib makes" * 20)


def _motion_photo() -> bytes:
    return encoded(picture(), "JPEG") + clip()


def _zip_in_comment() -> bytes:
    """An archive inside a JPEG's comment that ends at the file's end: readers of archives find it from behind."""
    image, archive = encoded(picture(), "JPEG"), zip_archive()
    archive = archive[:-2] + struct.pack("<H", len(image) - 2)
    return image[:2] + b"\xff\xfe" + struct.pack(">H", len(archive) + 2) + archive + image[2:]


def _pdf_in_comment() -> bytes:
    image, comment = encoded(picture(), "JPEG"), b"%PDF-1.4\n1 0 obj\n"
    return image[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + image[2:]


def _heic() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic\x00\x00\x00\x00mif1heic" + bytes(400)


def _huge_webp() -> bytes:
    """A canvas of 16,384 x 16,384 in forty bytes."""
    canvas_chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\x00\x00\x00" + b"\xff\x3f\x00" * 2
    return b"RIFF" + struct.pack("<I", len(canvas_chunk) + 4) + b"WEBP" + canvas_chunk


def _tall_jpeg() -> bytes:
    """A JPEG whose header says 65,500 x 65,500."""
    image = bytearray(encoded(picture(), "JPEG"))
    at = image.index(b"\xff\xc0")
    image[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(image)


def _long_bmp() -> bytes:
    """A bitmap of one row of 1,000,001 pixels, two colours: 125 kB."""
    row = (1_000_001 + 31) // 32 * 4
    head = struct.pack("<IiiHHIIiiII", 40, 1_000_001, 1, 1, 1, 0, row, 0, 0, 2, 2)
    return b"BM" + struct.pack("<IHHI", 62 + row, 0, 0, 62) + head + bytes(8 + row)


def _scan_bomb() -> bytes:
    """A progressive JPEG whose last scan comes four hundred times more: each is a walk over the whole picture."""
    image = encoded(picture(640, 480), "JPEG", progressive=True)
    last = image.rindex(b"\xff\xda")
    return image[:-2] + image[last:-2] * 400 + b"\xff\xd9"


def _claims_8k() -> bytes:
    """The codec's own header stays as it is, and is what counts: the container alone says that it is 8K."""
    video = bytearray(clip(codec="mpeg4"))
    at = video.index(b"mp4v", video.index(b"stsd")) + 28
    assert video[at : at + 4] == struct.pack(">HH", 160, 120)
    video[at : at + 4] = struct.pack(">HH", 7680, 4320)
    return bytes(video)


IMAGES: Mapping[str, tuple[Callable[[], bytes], Code | None]] = {
    "no_bytes": (lambda: b"", "empty"),
    "one_byte": (lambda: b"\xff", "unknown_format"),
    "noise": (lambda: np.random.default_rng(5).bytes(4000), "unknown_format"),
    "zeros": (lambda: bytes(4000), "unknown_format"),
    "text": (lambda: b"just some words, called photo.jpg", "unknown_format"),
    "page_called_jpg": (lambda: b"<!DOCTYPE html><html><script>alert(1)</script></html>", "unknown_format"),
    "zip": (zip_archive, "unknown_format"),
    "zip_bomb": (zip_bomb, "unknown_format"),
    "program": (lambda: b"\x7fELF\x02\x01\x01" + bytes(200), "unknown_format"),
    "svg": (lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>', "unsupported_format"),
    "tiff": (lambda: encoded(picture(), "TIFF"), "unsupported_format"),
    "pdf": (lambda: encoded(picture(), "PDF"), "unsupported_format"),
    "psd": (lambda: b"8BPS\x00\x01" + bytes(100), "unsupported_format"),
    "jpeg2000": (lambda: encoded(picture(), "JPEG2000"), "unsupported_format"),
    "icon": (lambda: encoded(picture(32, 32), "ICO"), "unsupported_format"),
    "heic": (_heic, "unsupported_format"),
    "mp3_told_as_image": (lambda: sound("mp3", "libmp3lame"), "unsupported_format"),
    "mp4_told_as_image": (clip, "wrong_kind"),
    "webm_told_as_image": (lambda: clip("webm", "libvpx-vp9", options=_VP9), "wrong_kind"),
    "jpeg_truncated": (lambda: truncated(encoded(picture(), "JPEG")), "truncated"),
    "jpeg_without_its_last_bytes": (lambda: encoded(picture(), "JPEG")[:-2], "truncated"),
    "jpeg_head_alone": (lambda: encoded(picture(), "JPEG")[:4], "truncated"),
    "progressive_truncated": (lambda: truncated(encoded(picture(), "JPEG", progressive=True)), "truncated"),
    "png_truncated": (lambda: truncated(encoded(picture(), "PNG")), "truncated"),
    "png_header_lies": (lambda: png(3000, 3000, zlib.compress(bytes(65 * 64))), "truncated"),
    "gif_truncated": (lambda: truncated(animated("GIF")), "truncated"),
    "webp_truncated": (lambda: truncated(encoded(picture(), "WEBP")), "truncated"),
    "bmp_truncated": (lambda: truncated(encoded(picture(), "BMP")), "truncated"),
    "avif_truncated": (lambda: truncated(encoded(picture(), "AVIF")), "truncated"),
    "png_rows_are_noise": (_broken_png, "broken"),
    "jpeg_without_tables": (lambda: b"\xff\xd8\xff\xdb" + bytes(50), "broken"),
    "png_30000_square": (png_bomb, "too_many_pixels"),
    "png_header_bomb": (lambda: png(2**31 - 1, 2**31 - 1, b""), "too_many_pixels"),
    "jpeg_header_bomb": (_tall_jpeg, "too_many_pixels"),
    "gif_header_bomb": (lambda: gif_of(1, (65_535, 65_535)), "too_many_pixels"),
    "gif_frame_bomb": (lambda: gif_of(1, (8, 8), (65_535, 65_535)), "too_many_pixels"),
    "webp_header_bomb": (_huge_webp, "too_many_pixels"),
    "png_one_row_of_a_million": (lambda: png(1_000_001, 1, zlib.compress(bytes(1_000_002))), "too_many_pixels"),
    "png_one_column_of_a_million": (lambda: png(1, 1_000_001, zlib.compress(bytes(2_000_002))), "too_many_pixels"),
    "bmp_one_row_of_a_million": (_long_bmp, "too_many_pixels"),
    "gif_of_a_billion_pixels_and_more": (lambda: gif_of(900, (1100, 1100)), "too_many_pixels"),
    "jpeg_scan_bomb": (_scan_bomb, "too_many_frames"),
    "gif_10000_frames": (lambda: gif_of(10_000), "too_many_frames"),
    "gif_too_long": (lambda: animated("GIF", delay_ms=20_000), "too_long"),
    "too_many_bytes": (lambda: encoded(picture(), "PNG") + bytes(20_000_001), "too_many_bytes"),
    "zip_behind_jpeg": (lambda: encoded(picture(), "JPEG") + zip_archive(), "hidden_payload"),
    "zip_behind_png": (lambda: encoded(picture(), "PNG") + zip_archive(), "hidden_payload"),
    "zip_behind_gif": (lambda: animated("GIF") + zip_archive(), "hidden_payload"),
    "zip_behind_webp": (lambda: encoded(picture(), "WEBP") + zip_archive(), "hidden_payload"),
    "zip_behind_bmp": (lambda: encoded(picture(), "BMP") + zip_archive(), "hidden_payload"),
    "zip_behind_avif": (lambda: encoded(picture(), "AVIF") + zip_archive(), "hidden_payload"),
    "zip_in_jpeg_comment": (_zip_in_comment, "hidden_payload"),
    "pdf_in_jpeg_comment": (_pdf_in_comment, "hidden_payload"),
    "pdf_behind_jpeg": (lambda: encoded(picture(), "JPEG") + encoded(picture(), "PDF"), "hidden_payload"),
    "script_behind_gif": (lambda: animated("GIF") + b"<script>alert(1)</script>", "hidden_payload"),
    "page_behind_png": (lambda: encoded(picture(), "PNG") + b"\n\n<HTML><body>", "hidden_payload"),
    "program_behind_jpeg": (lambda: encoded(picture(), "JPEG") + b"\x7fELF\x02\x01\x01" + bytes(99), "hidden_payload"),
    "exe_behind_jpeg": (lambda: encoded(picture(), "JPEG") + b"MZ" + bytes(200), "hidden_payload"),
    "rar_behind_jpeg": (lambda: encoded(picture(), "JPEG") + b"Rar!\x1a\x07\x01\x00" + bytes(60), "hidden_payload"),
    "php_in_jpeg": (lambda: encoded(picture(), "JPEG", comment=b"<?php system($_GET[0]); ?>"), "hidden_payload"),
    "one_pixel": (lambda: encoded(picture(1, 1), "PNG"), None),
    "one_pixel_gif": (lambda: encoded(picture(1, 1), "GIF"), None),
    "tall": (lambda: encoded(picture(300, 3000), "PNG"), None),
    "wide_jpeg": (lambda: encoded(picture(2400, 300), "JPEG"), None),
    "wide_and_seen_through": (lambda: encoded(Image.new("RGBA", (900, 100), (255, 255, 255, 90)), "PNG"), None),
    "one_row": (lambda: encoded(picture(9000, 1), "PNG"), None),
    "jpeg": (lambda: encoded(picture(), "JPEG"), None),
    "png_called_jpg": (lambda: encoded(picture(), "PNG"), None),
    "cmyk": (lambda: encoded(picture(mode="CMYK"), "JPEG"), None),
    "sixteen_bits": (_sixteen_bits, None),
    "two_colours": (lambda: encoded(picture(mode="1"), "PNG"), None),
    "palette": (lambda: encoded(picture(mode="P"), "PNG", transparency=0), None),
    "alpha": (lambda: encoded(picture(mode="RGBA"), "PNG"), None),
    "grey_alpha": (lambda: encoded(picture(mode="LA"), "PNG"), None),
    "grey_with_profile": (_grey_with_profile, None),
    "progressive": (lambda: encoded(picture(), "JPEG", progressive=True), None),
    "motion_photo": (_motion_photo, None),
    "padded": (lambda: encoded(picture(), "JPEG") + bytes(3000), None),
    "gif_without_trailer": (lambda: animated("GIF")[:-1], None),
    "text_bomb": (_text_bomb, None),
    "profile_bomb": (_profile_bomb, None),
    "animated_gif": (lambda: animated("GIF"), None),
    "animated_png": (lambda: animated("PNG"), None),
    "animated_webp": (lambda: animated("WEBP"), None),
    "avif": (lambda: encoded(picture(), "AVIF"), None),
    "bmp": (lambda: encoded(picture(), "BMP"), None),
    "webp": (lambda: encoded(picture(), "WEBP", lossless=True), None),
    **{f"exif_turn_{turn}": (functools.partial(with_exif, turn), None) for turn in range(1, 9)},
}

VIDEOS: Mapping[str, tuple[Callable[[], bytes], Code | None]] = {
    "no_bytes": (lambda: b"", "empty"),
    "noise": (lambda: np.random.default_rng(6).bytes(4000), "unknown_format"),
    "page_called_mp4": (lambda: b"<html><video></video></html>", "unknown_format"),
    "jpeg_told_as_video": (lambda: encoded(picture(), "JPEG"), "wrong_kind"),
    "png_told_as_video": (lambda: encoded(picture(), "PNG"), "wrong_kind"),
    "still_webp_told_as_video": (lambda: encoded(picture(), "WEBP"), "wrong_kind"),
    "wav_told_as_video": (lambda: sound("wav", "pcm_s16le"), "unsupported_format"),
    "mp3_told_as_video": (lambda: sound("mp3", "libmp3lame"), "unsupported_format"),
    "audio_only_mp4": (sound, "no_video"),
    "audio_only_mkv": (lambda: sound("matroska"), "no_video"),
    "index_lost": (lambda: without_index(clip()), "truncated"),
    "mp4_truncated": (lambda: truncated(clip(container_options=_FRONT), 0.8), "truncated"),
    "webm_truncated": (lambda: truncated(clip("webm", "libvpx-vp9", options=_VP9)), "truncated"),
    "avi_truncated": (lambda: truncated(clip("avi", "mpeg4")), "truncated"),
    "mp4_head_alone": (lambda: clip()[:32], "truncated"),
    "8k": (lambda: clip(size=(7680, 4320), seconds=1 / 15, blank=True, options=_QUICK), "too_many_pixels"),
    "claims_8k": (_claims_8k, None),
    "two_rows_of_20000": (
        lambda: clip("avi", "png", (20_000, 2), 1 / 15, pixels="rgb24", blank=True),
        "too_many_pixels",
    ),
    "gif_of_two_billion_pixels_told_as_video": (lambda: gif_of(1900, (1100, 1100)), "too_many_pixels"),
    "too_long": (lambda: clip(size=(32, 32), seconds=90, rate=2, options=_QUICK), "too_long"),
    "gap_of_an_hour": (lambda: clip(moments_ms=(0, 40, 80, 3_600_000)), "too_long"),
    "gif_10000_frames_told_as_video": (lambda: gif_of(20_001), "too_many_frames"),
    "zip_behind_mp4": (lambda: clip() + zip_archive(), "hidden_payload"),
    "mp4": (clip, None),
    "mov": (lambda: clip("mov"), None),
    "fragmented_mp4": (lambda: clip(container_options=(("movflags", "frag_keyframe+empty_moov"),)), None),
    "mkv": (lambda: clip("matroska"), None),
    "webm_vp9": (lambda: clip("webm", "libvpx-vp9", options=_VP9), None),
    "webm_vp8": (lambda: clip("webm", "libvpx", options=(("deadline", "realtime"),)), None),
    "av1": (lambda: clip(codec="libsvtav1", options=(("preset", "12"),)), None),
    "hevc": (lambda: clip(codec="libx265", options=(("preset", "ultrafast"), ("x265-params", "log-level=0"))), None),
    "mpeg4_avi": (lambda: clip("avi", "mpeg4"), None),
    "mpeg_ts": (lambda: clip("mpegts"), None),
    "mpeg_ps": (lambda: clip("mpeg", "mpeg2video", rate=25), None),
    "flv": (lambda: clip("flv"), None),
    "one_frame": (lambda: clip(seconds=1 / 15), None),
    "two_tracks": (two_tracks, None),
    "edit_list": (lambda: edited(3, 1), None),
    "turned": (lambda: clip(rotation=90), None),
    "odd_size": (lambda: clip(size=(161, 121), pixels="yuv444p"), None),
    "tiny": (lambda: clip(size=(16, 16)), None),
    "variable_rate": (lambda: clip(moments_ms=tuple(40 * n + 3 * n * n for n in range(30))), None),
    "long_gop": (lambda: clip(seconds=10, gop=250, options=_QUICK), None),
    "short_gop": (lambda: clip(seconds=10, gop=10, options=_QUICK), None),
    "ten_bits": (lambda: clip(pixels="yuv420p10le"), None),
    "gif_told_as_video": (lambda: animated("GIF"), None),
    "animated_webp_told_as_video": (lambda: animated("WEBP"), None),
    "animated_png_told_as_video": (lambda: animated("PNG"), None),
}


def samples() -> Sequence[Sample]:
    """All of them."""
    images = [Sample(f"image_{name}", "image", make, expect) for name, (make, expect) in IMAGES.items()]
    return images + [Sample(f"video_{name}", "video", make, expect) for name, (make, expect) in VIDEOS.items()]
