"""How much work a medium will be, by its header alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from moderation.media import MediaKind, Reading, ReadRules, Refused
from moderation.preprocess.image import read_image
from serve.media.glance import VIDEO_WORK, glance
from tests.media_samples import IMAGES, Sample, animated, clip, encoded, gif_of, picture, png, png_chunk, samples

RULES = ReadRules()


def flat(mode: str = "RGB", side: int = 3000) -> Image.Image:
    return Image.new(mode, (side, side))


def work_of(folder: Path, data: bytes, kind: MediaKind = "image") -> int | Refused:
    path = folder / "medium"
    path.write_bytes(data)
    return glance(path, kind, RULES)


@pytest.mark.parametrize(
    ("make", "work"),
    [
        (lambda: encoded(flat(), "PNG"), 9),
        (lambda: encoded(flat("L"), "BMP"), 9),
        (lambda: encoded(flat("L"), "GIF"), 9),
        (lambda: encoded(flat(), "WEBP"), 9),
        (lambda: encoded(flat(side=2000), "WEBP", lossless=True), 4),
        (lambda: encoded(flat(side=1500), "AVIF", speed=10), 3),
        (lambda: encoded(flat(), "JPEG"), 3),  # a quarter
        (lambda: encoded(flat(), "JPEG", progressive=True), 9),
        (lambda: encoded(picture(), "PNG"), 1),
        (lambda: gif_of(900, (200, 100), (8, 8)), 18),
        (lambda: gif_of(2, (8, 8), (3000, 1000)), 6),
        (lambda: animated("WEBP", 12), 1),
        (lambda: png(7000, 7000, b"", png_chunk(b"acTL", b"\x00\x00\x00\x14\x00\x00\x00\x00")), 980),
        (lambda: clip(seconds=1), VIDEO_WORK),
    ],
)
def test_work_is_told_in_megapixels(tmp_path: Path, make: Callable[[], bytes], work: int) -> None:
    assert work_of(tmp_path, make()) == work


@pytest.mark.parametrize("sample", [s for s in samples() if s.kind == "image"], ids=lambda sample: sample.name)
def test_what_is_refused_at_the_door_is_what_a_decoder_would_refuse(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_bytes(sample.make())
    found = glance(path, sample.kind, RULES)
    if isinstance(found, Refused):
        assert found.code == sample.expect
        assert found == read_image(path, RULES)
    else:
        assert found >= 1


@pytest.mark.parametrize(
    "name", ["png_30000_square", "png_header_bomb", "jpeg_header_bomb", "gif_header_bomb", "webp_header_bomb"]
)
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, name: str) -> None:
    found = work_of(tmp_path, IMAGES[name][0]())
    assert isinstance(found, Refused)
    assert (found.code, found.bound) == ("too_many_pixels", RULES.max_image_pixels)


@pytest.mark.parametrize(
    "side", ["png_one_row_of_a_million", "png_one_column_of_a_million", "bmp_one_row_of_a_million"]
)
def test_a_side_of_a_million_is_refused_by_its_header(tmp_path: Path, side: str) -> None:
    found = work_of(tmp_path, IMAGES[side][0]())
    assert isinstance(found, Refused)
    assert (found.code, found.bound) == ("too_many_pixels", 65_535)
    assert "1000001" in found.detail


def test_an_animation_told_as_a_video_is_held_against_a_video_s_bounds(tmp_path: Path) -> None:
    data = gif_of(2, (4000, 4000), (8, 8))
    assert work_of(tmp_path, data) == 32
    refused = work_of(tmp_path, data, "video")
    assert isinstance(refused, Refused)
    assert refused.bound == RULES.max_video_pixels


@pytest.mark.parametrize(
    "data",
    [
        gif_of(1500),
        png(8, 8, zlib.compress(bytes(72)), *[png_chunk(b"tEXt", b"a")] * 3000),
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 3000 + encoded(picture(), "JPEG")[2:],
    ],
)
def test_what_takes_too_long_to_find_out_is_taken_for_large(tmp_path: Path, data: bytes) -> None:
    assert work_of(tmp_path, data) == 200


@pytest.mark.parametrize("length", [0, 1, 4, 8, 12, 20, 24, 30, 40])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF"])
def test_whatever_is_cut_off_is_told_or_left_to_the_decoder(tmp_path: Path, image_format: str, length: int) -> None:
    found = work_of(tmp_path, encoded(picture(), image_format)[:length])
    assert isinstance(found, int)
    assert found >= 1


def test_work_is_what_is_decoded(tmp_path: Path) -> None:
    data = encoded(flat(side=2100), "PNG")
    path = tmp_path / "medium"
    path.write_bytes(data)
    read = read_image(path, RULES)
    assert isinstance(read, Reading)
    assert work_of(tmp_path, data) == -(-read.width * read.height // 1_000_000)
