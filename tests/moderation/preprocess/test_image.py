"""Images: what is decoded, and how it comes out."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from moderation.media import MOST_STILL_PICTURES, Reading, ReadRules, Refused
from moderation.preprocess.image import read_image
from moderation.preprocess.pixels import perceptual_hash, shrink, smaller, to_rgb
from moderation.preprocess.sampling import by_time
from moderation.preprocess.tiles import tiles_of
from serve.media.isolation.wire import answer_of, most_payload, read_answer
from tests.media_samples import animated, canvas, encoded, picture, png, png_chunk, with_exif

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def reading(path: Path, data: bytes, rules: ReadRules | None = None) -> Reading:
    path.write_bytes(data)
    found = read_image(path, rules or ReadRules())
    assert isinstance(found, Reading), found
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "medium"


@pytest.mark.parametrize(
    ("turn", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
def test_exif_turns_the_red_corner(path: Path, turn: int, corner: tuple[int, int]) -> None:
    found = reading(path, with_exif(turn))
    assert (found.width, found.height) == ((160, 120) if turn < 5 else (120, 160))
    assert found.pictures.shape[1:3] == (found.height, found.width)
    red = found.pictures[0][corner].astype(int)
    assert red[0] > 200
    assert red[1:].max() < 60


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "PNG"])
def test_a_turn_in_xmp_counts_for_nothing_as_in_browsers(path: Path, image_format: str) -> None:
    description = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{description}</rdf:RDF></x:xmpmeta>'.encode()
    options: dict[str, object] = {"xmp": xmp}
    if image_format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": text}
    data = encoded(picture(), image_format, **options)
    found = reading(path, data)
    assert b"tiff:Orientation" in data
    assert (found.width, found.height) == (160, 120)


@pytest.mark.parametrize(
    ("gamma", "before", "shown"),
    [
        (45_455, (), 128),
        (48_000, (), 128),
        (100_000, (), 186),  # linear light
        (4_545, (), 0),
        (0, (), 128),
        (100_000, (png_chunk(b"sRGB", b"\x00"),), 128),
    ],
)
def test_the_gamma_of_a_png_is_that_of_browsers(path: Path, gamma: int, before: tuple[bytes, ...], shown: int) -> None:
    rows = zlib.compress((b"\x00" + b"\x80" * 64) * 64)
    found = reading(path, png(64, 64, rows, png_chunk(b"gAMA", struct.pack(">I", gamma)), *before))
    assert np.abs(found.pictures[0].astype(int) - shown).max() <= 1


def test_sixteen_bits_are_scaled_not_clipped(path: Path) -> None:
    wide = np.linspace(0, 65_535, 128 * 128).astype(np.uint16).reshape(128, 128)
    found = reading(path, encoded(Image.fromarray(wide), "PNG"))
    assert np.abs(found.pictures[0][..., 0] - wide / 257.0).max() <= 1


@pytest.mark.parametrize(
    ("values", "first", "last"),
    [
        (np.array([[0.0, 1.0]], dtype=np.float32), 0, 255),
        (np.array([[-5.0, 5.0]], dtype=np.float32), 0, 255),
        (np.array([[0, 65_535]], dtype=np.int32), 0, 255),
        (np.array([[0, 32_768]], dtype=np.int32), 0, 128),
        (np.array([[0, 10**6]], dtype=np.int32), 0, 255),
        (np.array([[np.nan, 0.5]], dtype=np.float32), 0, 128),
    ],
)
def test_wide_values_become_eight_bits(values: np.ndarray, first: int, last: int) -> None:
    pixels = np.asarray(to_rgb(Image.fromarray(values)))
    assert pixels[0, 0].tolist() == [first] * 3
    assert pixels[0, 1].tolist() == [last] * 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(path: Path, mode: str) -> None:
    layered = Image.new("RGBA", (80, 80), (200, 0, 0, 0))
    layered.paste((0, 0, 0, 255), (0, 0, 40, 80))
    pixels = reading(path, encoded(layered.convert(mode), "PNG")).pictures[0]
    assert pixels[40, 10].max() < 10
    assert pixels[40, 70].min() > 245


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_seen_through_is_looked_at_on_white_and_on_black(path: Path, mode: str) -> None:
    layered = Image.new("RGBA", (80, 80), (255, 255, 255, 0))
    layered.paste((255, 255, 255, 255), (0, 0, 40, 80))
    found = reading(path, encoded(layered.convert(mode), "PNG"))
    assert found.times.tolist() == [0.0, 0.0]
    assert found.seconds is None
    assert found.pictures[0].min() > 245
    assert found.pictures[1][:, :39].min() > 245
    assert found.pictures[1][:, 41:].max() < 10


def test_a_solid_picture_is_looked_at_once(path: Path) -> None:
    layered = Image.new("RGBA", (80, 80), (10, 20, 30, 255))
    layered.putpixel((3, 3), (0, 0, 0, 0))
    assert len(reading(path, encoded(layered, "PNG")).pictures) == 1


@pytest.mark.parametrize(("samples", "pictures"), [(8, 8), (30, 24), (1, 1)])
def test_an_animation_that_is_seen_through_shares_its_samples(path: Path, samples: int, pictures: int) -> None:
    frames = [Image.new("RGBA", (64, 48), (255, 255, 255, 0)) for _ in range(12)]
    for number, frame in enumerate(frames):
        frame.paste((255, 255, 255, 255), (0, 0, 20 + number, 48))
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    found = reading(path, data, ReadRules(image_samples=samples, scan_pixels=0))
    assert len(found.pictures) == len(found.times) == pictures
    assert found.pictures[0].min() > 245
    assert (np.diff(found.times) >= 0).all()
    if pictures > 1:
        assert found.pictures[1][:, 40:].max() < 10
        assert found.times[-1] == pytest.approx(1.1)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("size", [(200, 2400), (2400, 200)])
def test_tiles_show_their_region_of_the_whole_however_it_is_turned(
    path: Path, turn: int, size: tuple[int, int]
) -> None:
    y, x = np.mgrid[: size[1], : size[0]]
    slopes = np.stack([x * 255 // size[0], y * 255 // size[1], 0 * x], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    found = reading(path, encoded(Image.fromarray(slopes), "PNG", exif=exif))
    assert found.regions is not None
    assert 2 < len(found.pictures) == len(found.regions) <= 9
    assert set(found.times.tolist()) == {0.0}
    whole = np.asarray(Image.fromarray(slopes).transpose(TURNS[turn]) if turn > 1 else Image.fromarray(slopes))
    covered = []
    for shown, (left, top, right, bottom) in zip(found.pictures, found.regions, strict=True):
        for u, v in [(0.5, 0.5), (0.48, 0.3), (0.52, 0.7), (0.3, 0.48), (0.7, 0.52)]:
            x_share, y_share = left + u * (right - left), top + v * (bottom - top)
            if 0.01 < x_share < 0.99 and 0.01 < y_share < 0.99:
                there = whole[int(y_share * whole.shape[0]), int(x_share * whole.shape[1])].astype(int)
                assert np.abs(shown[int(v * shown.shape[0]), int(u * shown.shape[1])] - there).max() <= 4
        covered.append((top, bottom) if whole.shape[0] > whole.shape[1] else (left, right))
    for before, after in itertools.pairwise(covered[1:]):
        assert before[0] < after[0] < before[1]  # in order, and they overlap
    assert (covered[1][0], covered[-1][1]) == pytest.approx((0, 1))


@pytest.mark.parametrize(
    ("size", "count"), [((300, 900), 0), ((300, 901), 3), ((1080, 12_000), 8), ((12_000, 1080), 8), ((31, 4000), 0)]
)
def test_what_is_far_from_square_is_cut_within_bounds(size: tuple[int, int], count: int) -> None:
    boxes = tiles_of(*size)
    assert len(boxes) == count
    for left, top, right, bottom in boxes:
        assert 1 <= max(right - left, bottom - top) / min(right - left, bottom - top) <= 2


def test_cmyk_keeps_its_colours(path: Path) -> None:
    found = reading(path, encoded(Image.new("RGB", (80, 80), (250, 10, 10)).convert("CMYK"), "JPEG"))
    assert np.abs(found.pictures[0].astype(int) - (250, 10, 10)).max() < 12


def test_a_large_picture_is_made_smaller_and_says_how_large_it_was(path: Path) -> None:
    found = reading(path, encoded(picture(2000, 1000), "JPEG"), ReadRules(image_side=400))
    assert (found.width, found.height) == (2000, 1000)
    assert found.pictures.shape == (1, 200, 400, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_shrinking_keeps_what_is_seen(mode: str) -> None:
    image = Image.fromarray(np.full((300, 600), 30_000, dtype=np.uint16)) if mode == "I;16" else picture(600, 300, mode)
    small = to_rgb(shrink(image, 100))
    assert small.size == (100, 50)
    full = np.asarray(to_rgb(image)).reshape(50, 6, 100, 6, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(small) - full).mean() < 12


@pytest.mark.parametrize(
    ("size", "side", "expected"), [((100, 50), 200, (100, 50)), ((4000, 1), 400, (400, 1)), ((300, 600), 60, (30, 60))]
)
def test_a_smaller_size_keeps_its_shape(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert smaller(size, side) == expected


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_frames_are_spread_over_an_animation(path: Path, image_format: str) -> None:
    found = reading(path, animated(image_format), ReadRules(image_samples=4))
    assert found.frames == 12
    assert found.seconds == pytest.approx(1.2)
    assert found.times[[0, -1]].tolist() == pytest.approx([0.0, 1.1])
    assert len(found.times) == 4
    assert np.diff(found.times).max() <= 0.5 + 1e-3
    assert all((found.pictures[0] != later).any() for later in found.pictures[1:])


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_what_is_shown_longest_is_looked_at(path: Path, image_format: str) -> None:
    pictures = [picture(64, 48, shift=shift) for shift in range(50)]
    delays = [10_000 if number == 10 else 20 for number in range(50)]
    data = encoded(pictures[0], image_format, save_all=True, append_images=pictures[1:], duration=delays, loop=0)
    found = reading(path, data)
    assert found.times[[0, -1]].tolist() == pytest.approx([0.0, 10.96])
    assert 0.2 in [round(float(moment), 3) for moment in found.times]


@pytest.mark.parametrize("most", [1, 2, 3, 8, 49])
@pytest.mark.parametrize("long", [0, 17, 49])
def test_frames_are_chosen_by_time_within_their_number(most: int, long: int) -> None:
    lasts = np.where(np.arange(50) == long, 10.0, 0.02)
    chosen = by_time(np.cumsum(lasts) - lasts, float(lasts.sum()), most)
    assert len(chosen) == most
    assert long in chosen
    assert chosen == sorted(set(chosen))
    assert most < 3 or {0, 49} <= set(chosen)


@pytest.mark.parametrize("frames", [1, 5])
def test_a_default_image_is_no_frame(path: Path, frames: int) -> None:
    plain = [Image.new("RGB", (64, 48), (255, 0, 0)), *(Image.new("RGB", (64, 48), (0, 9 * n, 255)) for n in range(5))]
    more = plain[1 : frames + 1]
    data = encoded(plain[0], "PNG", save_all=True, default_image=True, append_images=more, duration=[100] * frames)
    found = reading(path, data)
    assert found.frames == frames
    assert found.pictures[..., 2].min() > 240
    assert found.times.tolist() == pytest.approx([0.1 * n for n in range(frames)])


def test_frames_that_the_decoder_would_leave_out_are_refused(path: Path) -> None:
    data = animated("PNG")
    at = data.index(b"acTL")
    path.write_bytes(data[: at - 4] + png_chunk(b"acTL", struct.pack(">II", 3, 0)) + data[at + 16 :])
    found = read_image(path, ReadRules())
    assert isinstance(found, Refused)
    assert found.code == "broken"
    assert "12 frames" in found.detail


def test_a_frame_that_is_shown_for_no_time_is_shown_for_a_tenth_of_a_second(path: Path) -> None:
    assert reading(path, animated("GIF", delay_ms=0)).seconds == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("rules", "code", "bound"),
    [
        (ReadRules(max_image_bytes=10), "too_many_bytes", 10),
        (ReadRules(max_image_pixels=64 * 48 - 1), "too_many_pixels", 64 * 48 - 1),
        (ReadRules(max_image_frames=11), "too_many_frames", 11),
        (ReadRules(max_seconds=1.1), "too_long", 1.1),
    ],
)
@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_bounds_are_told(path: Path, image_format: str, rules: ReadRules, code: str, bound: float) -> None:
    path.write_bytes(animated(image_format))
    found = read_image(path, rules)
    assert isinstance(found, Refused)
    assert (found.code, found.bound) == (code, bound)
    assert f"{bound:g}" in found.detail or str(bound) in found.detail


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_what_is_at_its_bounds_is_read(path: Path, image_format: str) -> None:
    data = animated(image_format)
    rules = ReadRules(max_image_bytes=len(data), max_image_pixels=64 * 48, max_image_frames=12, max_seconds=1.21)
    reading(path, data, rules)


def test_the_perceptual_hash_survives_a_smaller_jpeg(path: Path) -> None:
    smooth = Image.fromarray(canvas(40, 30)).resize((640, 480), Image.Resampling.BICUBIC)
    other = Image.fromarray(canvas(40, 30)[::-1]).resize((640, 480), Image.Resampling.BICUBIC)
    hashes = [
        reading(path, data).perceptual_hash
        for data in (encoded(smooth, "PNG"), encoded(smooth.resize((320, 240)), "JPEG"), encoded(other, "PNG"))
    ]
    bits = [int(found[0], 16) for found in hashes if found is not None]
    assert len(bits) == 3
    assert (bits[0] ^ bits[1]).bit_count() <= 31  # the distance below which PDQ's authors call two pictures the same
    assert (bits[0] ^ bits[2]).bit_count() > 60


@pytest.mark.parametrize(("width", "height", "has_one"), [(64, 64, True), (63, 200, False), (200, 63, False)])
def test_a_small_picture_has_no_perceptual_hash(width: int, height: int, has_one: bool) -> None:
    assert (perceptual_hash(canvas(width, height)) is not None) == has_one


def test_tiles_cross_the_pipe_of_a_worker_within_its_bound(path: Path) -> None:
    rules = ReadRules(image_samples=1, video_samples=8, max_seconds=16)
    layered = Image.new("RGBA", (600, 6000), (200, 100, 50, 90))
    sent = reading(path, encoded(layered, "PNG"), rules)
    assert len(sent.pictures) == MOST_STILL_PICTURES
    _, body, *arrays = answer_of(sent)
    payload = bytearray(b"".join(arrays))
    assert len(payload) <= most_payload(rules)
    come = read_answer(bytes(body), payload)
    assert isinstance(come, Reading)
    assert come.regions == sent.regions
    assert (come.pictures == sent.pictures).all()
