"""Bad and odd media, each with the refusal that it must get, read in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moderation.media import MOST_STILL_PICTURES, Reading, ReadRules, Refused
from moderation.preprocess.media import read
from tests.media_samples import Sample, clip, encoded, picture, samples

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
RULES = ReadRules()
FUZZED = {
    "jpeg": ("image", lambda: encoded(picture(), "JPEG")),
    "png": ("image", lambda: encoded(picture(), "PNG")),
    "webp": ("image", lambda: encoded(picture(), "WEBP")),
    "gif": ("image", lambda: encoded(picture(), "GIF")),
    "bmp": ("image", lambda: encoded(picture(32, 32), "BMP")),
    "avif": ("image", lambda: encoded(picture(), "AVIF")),
    "mp4": ("video", clip),
    "gif_video": ("video", lambda: encoded(picture(), "GIF", save_all=True, append_images=[picture(shift=3)])),
}


def test_there_are_enough_kinds() -> None:
    names = [sample.name for sample in samples()]
    assert len(names) == len(set(names)) >= 45


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_each_gets_what_it_must(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_bytes(sample.make())
    found = read(path, sample.kind, RULES)
    if sample.expect is not None:
        assert isinstance(found, Refused), sample.name
        assert found.code == sample.expect
        assert (found.bound is not None) == found.code.startswith("too_")
        return
    assert isinstance(found, Reading), found
    check_reading(found)


def check_reading(found: Reading) -> None:
    """What holds of every reading."""
    sampled, height, width, colours = found.pictures.shape
    assert found.pictures.dtype == np.uint8
    assert colours == 3
    assert found.times.shape == (sampled,)
    assert (np.diff(found.times) >= (0 if found.kind == "image" else 1e-9)).all()
    assert found.regions is None or len(found.regions) == sampled
    assert max(height, width) <= max(RULES.image_side, RULES.video_side)
    assert (width > height) == (found.width > found.height)
    if found.kind == "video":
        assert found.followers is not None
        assert found.step is not None
        assert found.followers.shape[0] == sampled == found.step.shape[0]
        assert max(found.followers.shape[1:]) <= 160
        assert found.seconds is not None
        assert sampled <= RULES.video_samples
        assert sampled >= min(RULES.least_samples, found.frames or 0) * 0.75
    else:
        assert found.followers is None
        assert sampled <= (MOST_STILL_PICTURES if found.seconds is None else RULES.image_samples)


@pytest.mark.parametrize("name", FUZZED)
def test_flipped_bytes_give_a_reading_or_a_refusal(name: str, tmp_path: Path) -> None:
    kind, make = FUZZED[name]
    whole = make()
    random = np.random.default_rng(len(name))
    path = tmp_path / "medium"
    outcomes = set()
    for _ in range(40):
        data = bytearray(whole)
        for at in random.integers(0, len(data), random.integers(1, 12)):
            data[at] = random.integers(0, 256)
        path.write_bytes(data[: random.integers(1, len(data) + 1)] if random.random() < 0.3 else data)
        found = read(path, kind, RULES)
        assert isinstance(found, Reading | Refused)
        outcomes.add(found.code if isinstance(found, Refused) else "read")
    assert len(outcomes) > 1
