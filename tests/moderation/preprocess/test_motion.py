"""Motion in numbers: what moves is told from what the camera does, whatever the size and the rate."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from moderation.preprocess.motion import MOTION, motion_of


def texture(seed: int = 0, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 10, width // 10), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def coloured(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def motion_between(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], step: float = 0.1) -> dict[str, float]:
    return dict(zip(MOTION, motion_of(coloured(first), second, step).tolist(), strict=True))


def test_what_stands_still_is_told_so() -> None:
    still = motion_between(texture(), texture())
    assert all(abs(value) < 0.05 for value in still.values())


def test_a_pan_is_the_camera_s_and_moves_all_one_way() -> None:
    pan = motion_between(texture(), np.roll(texture(), 8, axis=1))
    assert pan["camera"] > 1
    assert pan["own_mean"] < 0.5 * pan["speed_mean"]
    assert pan["disorder"] < 0.3


def test_a_thing_that_moves_is_not_the_camera() -> None:
    moved = texture()
    moved[80:160, 100:220] = np.roll(texture(), 8, axis=1)[80:160, 100:220]
    thing = motion_between(texture(), moved)
    pan = motion_between(texture(), np.roll(texture(), 8, axis=1))
    assert thing["camera"] < 0.1
    assert thing["own_95"] > pan["own_95"]
    assert thing["own_spread"] > pan["own_spread"]


def test_speed_is_told_by_the_second() -> None:
    shifted = np.roll(texture(), 8, axis=1)
    assert motion_between(texture(), shifted, 0.2)["camera"] < motion_between(texture(), shifted, 0.1)["camera"]
    slow = np.roll(texture(), 4, axis=1)
    assert motion_between(texture(), slow, 0.1)["camera"] == pytest.approx(
        motion_between(texture(), shifted, 0.2)["camera"], abs=0.1
    )


def test_size_is_not_read() -> None:
    shifted = np.roll(texture(), 8, axis=1)
    small = motion_between(
        *(cv2.resize(frame, (160, 120), interpolation=cv2.INTER_AREA) for frame in (texture(), shifted))
    )
    assert small["camera"] == pytest.approx(motion_between(texture(), shifted)["camera"], abs=0.1)


def test_the_border_is_left_out() -> None:
    framed = texture()
    framed[:20], framed[-20:], framed[:, :25], framed[:, -25:] = 0, 0, 0, 0
    other = framed.copy()
    other[:20], other[-20:] = 255, 255
    assert motion_between(framed, other)["change_mean"] < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (300, 2), (17, 5)])
def test_any_shape_has_numbers(shape: tuple[int, int]) -> None:
    first, second = np.zeros(shape, dtype=np.uint8), np.full(shape, 255, dtype=np.uint8)
    numbers = motion_of(coloured(first), second, 0.1)
    assert numbers.shape == (len(MOTION),)
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize("step", [0.0, -0.1])
def test_without_a_step_nothing_is_known(step: float) -> None:
    assert not motion_of(coloured(texture()), texture(1), step).any()
