"""What sampling leaves out and differs is looked at as well, and what is not looked at is told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from moderation.media import MediaKind, Reading, ReadRules
from moderation.preprocess import video_readers
from moderation.preprocess.media import read
from moderation.preprocess.stills import (
    ALIKE,
    Scan,
    at_moments,
    coverage_of,
    farthest_first,
    more_of,
    size_of,
    thumbnail,
    unlike,
)
from serve.media.isolation.wire import answer_of, most_payload, read_answer
from tests.media_samples import canvas, clip, encoded, film, picture, slide

Pixels = npt.NDArray[np.uint8]
RULES = ReadRules()
NAMES = ("tomatoes", "roses", "beans", "onions", "lilies", "pears", "apples", "herbs", "peas", "figs")
SLIDES = [slide(f"how to grow {name}\nin a small garden") for name in NAMES]
INSULT = slide("you are a stupid idiot\nand nobody likes you")


def reading(folder: Path, data: bytes, kind: MediaKind = "video", rules: ReadRules = RULES) -> Reading:
    path = folder / "medium"
    path.write_bytes(data)
    found = read(path, kind, rules)
    assert isinstance(found, Reading), found
    return found


def shows(found: Reading, wanted: Pixels) -> bool:
    """Whether one of the pictures is that one, but for what a codec does to it."""
    thumbnails = np.stack([thumbnail(shown) for shown in found.pictures])
    return bool(unlike(thumbnails, thumbnail(wanted)).min() <= ALIKE)


def animation(pictures: Sequence[Pixels], image_format: str, delay_ms: int = 100) -> bytes:
    first, *others = [Image.fromarray(shown) for shown in pictures]
    options = {"save_all": True, "append_images": others, "duration": delay_ms, "loop": 0}
    return encoded(first, image_format, **options)


def held(slides: Sequence[Pixels], frames: int) -> list[Pixels]:
    """Each slide for so many frames."""
    return [shown for shown in slides for _ in range(frames)]


def test_each_of_many_slides_is_looked_at(tmp_path: Path) -> None:
    """Twenty-three slides in ten seconds, one key frame: even sampling alone would look at eight moments."""
    numbered = [slide(f"step {number}:\n{name}") for number, name in enumerate(NAMES + NAMES + NAMES[:3])]
    found = reading(tmp_path, film(held(numbered, 4)))
    alone = reading(tmp_path, film(held(numbered, 4)), rules=ReadRules(scan_pixels=0))
    assert sum(shows(alone, shown) for shown in numbered) < 12
    assert all(shows(found, shown) for shown in numbered)
    assert (found.looked_at, found.unseen) == (1.0, ())
    assert found.times.tolist() == sorted(set(found.times.tolist()))


@pytest.mark.parametrize("at", [1, 37, 150, 298])
def test_a_single_frame_among_three_hundred_is_looked_at(tmp_path: Path, at: int) -> None:
    frames = held([SLIDES[0]], 300)
    frames[at] = INSULT
    found = reading(tmp_path, film(frames, rate=30))
    assert shows(found, INSULT)
    assert found.looked_at == 1.0
    assert any(found.times[place] == pytest.approx(at / 30, abs=0.01) for place in found.added) or len(found.added) == 0


def test_a_single_frame_of_a_moving_video_that_shows_something_else_is_looked_at(tmp_path: Path) -> None:
    frames = [canvas(320, 180, number) for number in range(120)]
    frames[67] = INSULT
    found = reading(tmp_path, film(frames, rate=30))
    assert shows(found, INSULT)
    assert found.looked_at == 1.0


def panned(frames: int) -> list[Pixels]:
    """A camera that pans over a rough ground: after a second nothing is where it was."""
    rough = np.random.default_rng(3).integers(0, 256, (12, 60, 3), dtype=np.uint8)
    ground = np.asarray(Image.fromarray(rough).resize((960, 180), Image.Resampling.BICUBIC))
    return [np.ascontiguousarray(ground[:, 5 * at : 5 * at + 320]) for at in range(frames)]


def test_what_merely_moves_is_looked_at_no_more_than_before_and_a_cut_in_it_is(tmp_path: Path) -> None:
    calm = reading(tmp_path, film(panned(120), rate=15))
    assert (calm.added, calm.looked_at, calm.unseen) == ((), 1.0, ())
    frames = panned(120)
    frames[40:43] = [INSULT] * 3
    found = reading(tmp_path, film(frames, rate=15))
    assert shows(found, INSULT)
    assert len(found.added) < 5


@pytest.mark.parametrize("line", ["you are an idiot", "du bist ein Idiot", "傻"])
def test_a_small_line_of_words_makes_a_difference(tmp_path: Path, line: str) -> None:
    """Sixteen pixels high of 640, for a third of a second."""
    calm, other = slide("have a nice day", (640, 360), 16), slide(line, (640, 360), 16)
    frames = held([calm], 100)
    frames[43:46] = [other] * 3
    assert shows(reading(tmp_path, film(frames)), other)


@pytest.mark.parametrize(("image_format", "kind"), [("GIF", "video"), ("WEBP", "video"), ("PNG", "video")])
def test_an_animation_told_as_a_video_is_scanned_too(tmp_path: Path, image_format: str, kind: MediaKind) -> None:
    frames = held(SLIDES[:2], 30)
    frames[41] = INSULT
    found = reading(tmp_path, animation(frames, image_format), kind)
    assert shows(found, INSULT)
    assert found.looked_at == 1.0


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_an_animated_image_is_scanned_too(tmp_path: Path, image_format: str) -> None:
    """Encoders put equal frames together, so something small moves."""
    frames = []
    for number in range(60):
        frame = SLIDES[0].copy()
        frame[5:11, 5 * number : 5 * number + 6] = 200
        frames.append(frame)
    frames[31] = INSULT
    found = reading(tmp_path, animation(frames, image_format), "image")
    assert shows(found, INSULT)
    assert found.looked_at == 1.0
    assert len(found.pictures) <= RULES.image_samples + RULES.added_samples


def test_white_words_on_nothing_are_seen_between_black_ones(tmp_path: Path) -> None:
    def page(text: str, shade: int) -> Image.Image:
        ink = 255 - np.asarray(Image.fromarray(slide(text)).convert("L"))
        layer = np.zeros((*ink.shape, 4), dtype=np.uint8)
        layer[..., :3], layer[..., 3] = shade, np.where(ink > 100, 255, 0)
        return Image.fromarray(layer)

    pages = [page(f"{number}: all is well", 0) for number in range(30)]
    pages[17] = page("you are a stupid idiot", 255)
    target = io.BytesIO()
    pages[0].save(target, "PNG", save_all=True, append_images=pages[1:], duration=500, disposal=1)
    found = reading(tmp_path, target.getvalue(), "image")
    assert 8.5 in found.times.tolist()
    assert len(found.pictures) <= RULES.image_samples + RULES.added_samples


def test_a_calm_video_is_looked_at_no_more_than_before(tmp_path: Path) -> None:
    for data in (film(held([SLIDES[0]], 60)), clip(seconds=4)):
        found = reading(tmp_path, data)
        before = reading(tmp_path, data, rules=ReadRules(scan_pixels=0))
        assert (found.added, found.times.tolist()) == ((), before.times.tolist())
        assert (found.looked_at, before.added) == (1.0, ())


def test_more_slides_than_there_is_room_for_are_told(tmp_path: Path) -> None:
    numbered = [slide(f"number {number}\n{NAMES[number % 10]}") for number in range(50)]
    found = reading(tmp_path, film(held(numbered, 5)))
    assert len(found.added) == RULES.added_samples
    assert found.looked_at is not None
    missed = [number for number, shown in enumerate(numbered) if not shows(found, shown)]
    assert missed
    assert found.looked_at == pytest.approx(1 - len(missed) / 50, abs=0.021)
    for number in missed:
        middle = number / 2 + 0.25
        assert any(begin <= middle <= end for begin, end in found.unseen)


def test_what_the_budget_does_not_reach_is_told(tmp_path: Path) -> None:
    frames = held([SLIDES[0]], 100)
    frames[43] = INSULT
    data = film(frames)
    found = reading(tmp_path, data, rules=ReadRules(scan_pixels=99 * 230_000))
    assert not shows(found, INSULT)
    assert found.looked_at == pytest.approx(len(found.times) / 100, abs=0.011)
    assert any(begin <= 4.3 < end for begin, end in found.unseen)
    unscanned = reading(tmp_path, data, rules=ReadRules(scan_pixels=0))
    assert unscanned.unseen == found.unseen


def test_beyond_the_budget_key_frames_are_scanned(tmp_path: Path) -> None:
    """Encoders put one at a cut, so these alone find much of what comes with one."""
    frames = held([SLIDES[0]], 100)
    frames[43:47] = [INSULT] * 4
    rules = ReadRules(scan_pixels=60 * 230_000, least_samples=2, video_samples=8, max_gap_s=10)
    found = reading(tmp_path, film(frames, options=(("preset", "ultrafast"), ("g", "4"))), rules=rules)
    assert shows(found, INSULT)
    assert found.looked_at is not None
    assert found.looked_at < 0.5


def test_a_scan_that_takes_too_long_is_told_as_far_as_it_did_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_readers, "_LONGEST_SCAN_S", 0.0)
    found = reading(tmp_path, film(held(SLIDES, 10)))
    assert found.looked_at is not None
    assert found.looked_at < 0.5
    assert found.unseen


def test_a_still_picture_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    found = reading(tmp_path, encoded(picture(), "PNG"), "image")
    assert (found.looked_at, found.unseen, found.added) == (None, (), ())


def test_what_is_told_of_a_scan_crosses_the_pipe(tmp_path: Path) -> None:
    numbered = [slide(f"number {number}\n{NAMES[number % 10]}") for number in range(50)]
    rules = ReadRules(video_side=64)
    found = reading(tmp_path, film(held(numbered, 3)), rules=rules)
    _, body, *arrays = answer_of(found)
    assert sum(len(part) for part in arrays) <= most_payload(rules)
    told = read_answer(bytes(body), bytearray(b"".join(arrays)))
    assert isinstance(told, Reading)
    assert (told.added, told.looked_at, told.unseen) == (found.added, found.looked_at, found.unseen)
    assert found.added


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (1, 500), (4000, 3), (161, 121), (1920, 1080)])
def test_thumbnails_of_any_shape(width: int, height: int) -> None:
    first = thumbnail(np.zeros((height, width, 3), dtype=np.uint8))
    small = size_of(width, height)
    assert first.shape == (small[0] * small[1] * 3 // 2,)
    assert max(small) <= 160
    assert unlike(first[None], thumbnail(np.full((height, width, 3), 255, dtype=np.uint8)))[0] > 0.6
    assert unlike(first[None], first)[0] == 0


def test_words_on_the_same_ground_are_unlike_and_a_codec_s_noise_is_not() -> None:
    page = slide("have a nice day", (640, 360), 16)
    noisy = np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(page), "JPEG", quality=40))).convert("RGB"))
    assert unlike(thumbnail(page)[None], thumbnail(slide("you are an idiot", (640, 360), 16)))[0] > ALIKE
    assert unlike(thumbnail(page)[None], thumbnail(noisy))[0] <= ALIKE


def test_red_on_green_of_one_brightness_differs() -> None:
    red, green = (np.full((90, 160, 3), colour, dtype=np.uint8) for colour in ((255, 0, 0), (0, 130, 0)))
    assert unlike(thumbnail(red)[None], thumbnail(green))[0] > 0.1


def test_the_most_unlike_is_taken_first() -> None:
    points = np.zeros((4, 100), dtype=np.uint8)
    points[1, :10], points[2, :60], points[3, :12] = 255, 255, 255
    distances = unlike(points, points[0])
    assert farthest_first(points, distances, 0.05, 9) == [2, 3]  # 1 differs from 3 in two points of a hundred
    assert distances.max() <= 0.05
    assert farthest_first(points, unlike(points, points[0]), 0.05, 1) == [2]


def test_moments_are_found_among_frames() -> None:
    assert at_moments(np.array([0.0, 0.1, 0.2]), np.array([0.0, 0.09, 0.16, 5.0])) == [0, 1, 2, 2]
    assert at_moments(np.array([0.0]), np.array([3.0])) == [0]


def test_where_nothing_was_scanned_nothing_is_added() -> None:
    scan = Scan(np.arange(4) / 2.0, 2.0, np.zeros(0, dtype=np.int64), np.zeros((0, 9), dtype=np.uint8))
    assert more_of(scan, [0, 3], 5) == []
    coverage = coverage_of(scan, [0, 3])
    assert (coverage.share, coverage.spans) == (0.5, ((0.5, 1.5),))
    assert coverage_of(scan, [0, 1, 2, 3]).share == 1.0


def test_frames_that_are_shown_for_no_time_count_all_the_same() -> None:
    scan = Scan(np.zeros(4), 0.0, np.zeros(0, dtype=np.int64), np.zeros((0, 9), dtype=np.uint8))
    assert coverage_of(scan, [0]).share == 0.25
