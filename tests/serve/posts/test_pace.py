"""How fast work is done, by the groups that were done of late."""

from __future__ import annotations

import pytest

from serve.posts.pace import Pace, whole_seconds


def test_nothing_is_foretold_before_anything_was_done() -> None:
    assert Pace().seconds(1000) == 0


def test_full_groups_tell_what_is_done_between_their_ends_however_many_are_under_way() -> None:
    pace = Pace()
    pace.begun(0.0, alone=True)
    pace.begun(0.1, alone=False)
    for end in range(2, 20):  # two at a time, each of two seconds: one a second
        pace.done(50, end - 2.0, float(end), full=True)
    assert pace.seconds(100) == pytest.approx(2.0)


def test_a_group_of_all_that_waited_tells_the_least_that_could_be_done() -> None:
    pace = Pace()
    pace.begun(0.0, alone=True)
    pace.done(64, 0.0, 1.0, full=False)
    assert pace.seconds(64) == 1
    pace.begun(5.0, alone=True)
    pace.done(1, 5.0, 5.5, full=False)  # a small one is slow for its size
    assert pace.seconds(64) == 1
    pace.begun(6.0, alone=True)
    pace.done(64, 6.0, 6.5, full=False)
    assert pace.seconds(64) == 0.5


def test_it_follows_when_work_becomes_slower_and_faster() -> None:
    pace = Pace()
    pace.begun(0.0, alone=True)
    for end in range(1, 5):
        pace.done(100, end - 1.0, float(end), full=True)
    assert pace.seconds(100) == pytest.approx(1)
    for end in range(10, 200, 5):
        pace.done(100, end - 5.0, float(end), full=True)
    assert pace.seconds(100) == pytest.approx(5)
    pace.begun(300.0, alone=True)
    pace.done(100, 300.0, 301.0, full=False)
    assert pace.seconds(100) == pytest.approx(1)


def test_a_pause_is_no_time_of_work() -> None:
    pace = Pace()
    pace.begun(0.0, alone=True)
    pace.done(100, 0.0, 1.0, full=True)
    pace.begun(100.0, alone=True)
    pace.done(100, 100.0, 101.0, full=True)
    assert pace.seconds(100) == pytest.approx(1)


def test_groups_that_end_at_once_are_no_division_by_zero() -> None:
    pace = Pace()
    pace.begun(1.0, alone=True)
    pace.done(1, 1.0, 1.0, full=True)
    pace.done(1, 1.0, 1.0, full=False)
    assert pace.seconds(10) == 0


@pytest.mark.parametrize(("wait", "told"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.2, 2), (24.0, 24)])
def test_retry_after_is_whole_seconds_and_never_too_few(wait: float, told: int) -> None:
    assert whole_seconds(wait) == told
