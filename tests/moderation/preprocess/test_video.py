"""Videos: which frames are looked at, when they are shown, and by which reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moderation.media import Reading, ReadRules, Refused
from moderation.preprocess.sampling import Sampling, choose, evenly, followers_of
from moderation.preprocess.video import read_video
from moderation.preprocess.video_header import Header, read_header
from moderation.preprocess.video_readers import by_decord, by_pyav
from tests.media_samples import clip, edited, truncated, two_tracks

RULES = ReadRules(scan_pixels=0)
"""What sampling chooses: what it leaves out and differs is looked at too, `test_stills.py`."""
QUICK = (("preset", "ultrafast"),)
LONG = clip(seconds=12, gop=10, options=QUICK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "medium"


def reading(path: Path, data: bytes, rules: ReadRules = RULES, sampling: str = "auto") -> Reading:
    path.write_bytes(data)
    found = read_video(path, rules, sampling=sampling)
    assert isinstance(found, Reading), found
    return found


def header_of(path: Path, data: bytes) -> Header:
    path.write_bytes(data)
    found = read_header(path, "mp4", RULES)
    assert isinstance(found, Header), found
    return found


def test_key_frames_are_taken_where_there_are_enough(path: Path) -> None:
    found = reading(path, LONG)
    assert np.allclose(np.round(found.times[:-1] * 15) % 10, 0)
    assert found.times[-1] == pytest.approx(179 / 15, abs=0.01)
    assert len(found.times) == 19


def test_too_many_key_frames_are_thinned(path: Path) -> None:
    found = reading(path, LONG, ReadRules(video_samples=11, max_seconds=18, scan_pixels=0))
    assert len(found.times) == 11
    assert np.diff(found.times).max() <= 2.0


def test_a_long_gop_is_sampled_evenly(path: Path) -> None:
    found = reading(path, clip(seconds=10, gop=250, options=QUICK))
    assert len(found.times) == RULES.least_samples
    assert np.ptp(np.diff(found.times)) < 0.15


def test_a_method_can_be_forced(path: Path) -> None:
    even, key = (reading(path, LONG, sampling=sampling) for sampling in ("even", "key"))
    assert len(even.times) == RULES.least_samples
    assert len(key.times) == 19


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("read", [by_decord, by_pyav])
def test_both_readers_turn_the_picture_alike(path: Path, read: Callable[..., Reading], rotation: int) -> None:
    header = header_of(path, clip(rotation=rotation, seconds=1))
    assert header.display_size == ((160, 120) if rotation % 180 == 0 else (120, 160))
    picture = read(path, header, RULES, "even").pictures[0]
    assert picture.shape[:2] == header.display_size[::-1]
    straight = np.rot90(picture, -rotation // 90)
    red = straight[10, 10].astype(int)
    assert red[0] > 200
    assert red[1:].max() < 60


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("sampling", ["even", "key"])
@pytest.mark.parametrize("gop", [5, 60])
def test_both_readers_see_the_same(path: Path, rotation: int, sampling: str, gop: int) -> None:
    header = header_of(path, clip(seconds=4, rotation=rotation, gop=gop))
    first, second = (read(path, header, RULES, sampling) for read in (by_decord, by_pyav))
    assert np.allclose(first.times, second.times, atol=1e-3)
    assert np.allclose(first.step, second.step, atol=1e-3)
    assert first.pictures.shape == second.pictures.shape
    for name in ("pictures", "followers"):
        assert np.abs(getattr(first, name).astype(int) - getattr(second, name).astype(int)).mean() < 6


@pytest.mark.parametrize("read", [by_decord, by_pyav])
def test_a_large_frame_is_made_smaller(path: Path, read: Callable[..., Reading]) -> None:
    header = header_of(path, clip(size=(400, 200), seconds=0.4, rotation=90))
    sampled = read(path, header, ReadRules(video_side=100), "even")
    assert sampled.pictures.shape[1:] == (100, 50, 3)


def test_times_follow_a_variable_rate(path: Path) -> None:
    moments = tuple(40 * n + 3 * n * n for n in range(30))
    found = reading(path, clip(moments_ms=moments))
    shown = np.array(moments) / 1000
    assert np.abs(found.times[:, None] - shown).min(axis=1).max() < 0.002


@pytest.mark.parametrize(
    ("container", "codec", "reader"),
    [
        ("mp4", "libx264", "decord"),
        ("mp4", "libsvtav1", "pyav"),
        ("mpegts", "libx264", "pyav"),
        ("avi", "mpeg4", "decord"),
    ],
)
def test_what_decord_refuses_is_read_by_pyav(path: Path, container: str, codec: str, reader: str) -> None:
    options = (("preset", "12"),) if codec == "libsvtav1" else ()
    assert reading(path, clip(container, codec, seconds=1, options=options)).reader == reader


@pytest.mark.parametrize(("begin_s", "seconds"), [(3, 1), (0, 1), (1, 2), (0, 0.05)])
def test_what_an_edit_list_cuts_away_is_looked_at_all_the_same(path: Path, begin_s: float, seconds: float) -> None:
    found = reading(path, edited(begin_s, seconds))
    assert found.frames == 60
    assert found.seconds == pytest.approx(4.0, abs=0.1)
    assert found.times[[0, -1]].tolist() == pytest.approx([0.0, 59 / 15], abs=0.01)
    assert found.reader == "pyav"
    whole = reading(path, clip(seconds=4, gop=10))
    assert whole.reader == "decord"
    assert np.abs(found.pictures[-1].astype(int) - whole.pictures[-1].astype(int)).mean() < 6


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("default", [0, 1])
def test_of_two_tracks_the_one_that_players_show_is_read(path: Path, container: str, default: int) -> None:
    found = reading(path, two_tracks(container, default))
    assert (found.width, found.height) == ((64, 48), (320, 240))[default]
    assert found.reader == "pyav"
    assert found.pictures[0].mean(axis=(0, 1)).argmax() == (0, 2)[default]


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (ReadRules(max_video_bytes=100), "too_many_bytes"),
        (ReadRules(max_video_pixels=160 * 120 - 1), "too_many_pixels"),
        (ReadRules(max_video_frames=29), "too_many_frames"),
        (ReadRules(max_seconds=1.9), "too_long"),
    ],
)
def test_bounds_are_told(path: Path, rules: ReadRules, code: str) -> None:
    path.write_bytes(clip())
    found = read_video(path, rules)
    assert isinstance(found, Refused)
    assert found.code == code
    assert found.bound is not None


def test_what_is_at_its_bounds_is_read(path: Path) -> None:
    data = clip()
    rules = ReadRules(max_video_bytes=len(data), max_video_pixels=160 * 120, max_video_frames=30, max_seconds=2.0)
    assert reading(path, data, rules).frames == 30


def test_a_codec_that_nobody_here_knows_is_refused(path: Path) -> None:
    whole = clip()
    at = whole.index(b"avc1", whole.index(b"stsd"))
    path.write_bytes(whole[:at] + b"zzzz" + whole[at + 4 :])
    found = read_video(path, ReadRules())
    assert isinstance(found, Refused)
    assert (found.code, found.detail) == ("unsupported_format", "no decoder here knows the codec in its mp4 container")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_cut_off_video_is_truncated_wherever_it_is_cut(path: Path, share: float) -> None:
    path.write_bytes(truncated(clip(container_options=(("movflags", "faststart"),)), share))
    found = read_video(path, RULES)
    assert isinstance(found, Refused)
    assert found.code == "truncated"


@pytest.mark.parametrize("how", ["auto", "key", "even"])
@pytest.mark.parametrize("keys", [[], [0], [30, 60], list(range(0, 240, 10)), list(range(240))])
@pytest.mark.parametrize("samples", [2, 8, 32])
def test_the_first_and_the_last_frame_are_looked_at(how: Sampling, keys: list[int], samples: int) -> None:
    rules = ReadRules(video_samples=samples, least_samples=2, max_seconds=4)
    chosen = choose(np.arange(240) / 30, 8.0, keys, rules, how)
    assert (chosen[0], chosen[-1]) == (0, 239)
    assert len(chosen) <= samples
    assert chosen == sorted(set(chosen))


def test_every_moment_is_within_the_gap() -> None:
    times = np.arange(0, 60, 1 / 30)
    chosen = evenly(times, 60.0, RULES)
    assert np.diff([0, *times[chosen], 60.0]).max() <= RULES.max_gap_s + 1 / 30


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([0, 30, 60, 90, 120, 150, 180, 210], "key"),
        ([0, 30, 60], "even"),  # too few
        ([0, 100, 110, 120, 130, 140, 150, 160], "even"),  # a gap of more than two seconds
        ([0, 30, 60, 90, 110, 120, 130, 140], "even"),  # nothing near the end
        ([], "even"),
    ],
)
def test_key_frames_must_be_many_and_near(keys: list[int], expected: str) -> None:
    times = np.arange(240) / 30
    chosen = choose(times, 8.0, keys, RULES, "auto")
    assert (chosen == [*keys, 239]) == (expected == "key")


@pytest.mark.parametrize(
    ("chosen", "count", "expected"),
    [([0, 5], 10, [2, 7]), ([9], 10, [7]), ([8], 10, [9]), ([0], 1, [0]), ([1], 2, [0])],
)
def test_a_follower_comes_after_or_else_before(chosen: list[int], count: int, expected: list[int]) -> None:
    assert followers_of(chosen, count) == expected
