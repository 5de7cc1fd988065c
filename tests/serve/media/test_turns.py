"""One at a time, small ones before large ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from serve.media.turns import SmallFirst
from tests.moderation.waiting import LONG_S, wait_until


def test_one_at_a_time() -> None:
    lock = SmallFirst()
    assert lock.acquire(large=True, within_s=0)
    assert not lock.acquire(large=False, within_s=0)
    assert not lock.acquire(large=True, within_s=0.01)
    lock.release()
    assert lock.acquire(large=False, within_s=0)


def test_a_small_one_that_came_last_goes_first() -> None:
    lock, order = SmallFirst(), []

    def work(name: str, *, large: bool) -> None:
        assert lock.acquire(large=large, within_s=LONG_S)
        order.append(name)
        lock.release()

    assert lock.acquire(large=True, within_s=0)
    with ThreadPoolExecutor(3) as threads:
        for name in ("first large", "second large"):
            threads.submit(work, name, large=True)
        threads.submit(work, "small", large=False)
        wait_until(lambda: lock._small_waiting == 1)
        lock.release()
    assert order[0] == "small"
    assert sorted(order[1:]) == ["first large", "second large"]


def test_a_small_one_that_gave_up_holds_up_nobody() -> None:
    lock = SmallFirst()
    assert lock.acquire(large=True, within_s=0)
    assert not lock.acquire(large=False, within_s=0.01)
    lock.release()
    assert lock.acquire(large=True, within_s=0)
