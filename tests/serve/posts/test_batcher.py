"""Grouping concurrent calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from serve.errors import ClientShareError, QueueFullError
from serve.posts import batcher
from serve.posts.batcher import Grouper
from tests.rooms import run


def test_calls_that_come_together_are_handled_together_and_answered_in_order() -> None:
    groups: list[list[int]] = []

    async def handle(items: Sequence[int]) -> list[int | Exception]:
        groups.append(list(items))
        return [item * 10 for item in items]

    async def work() -> list[int]:
        grouper: Grouper[int, int] = Grouper(handle, group_size=64, max_waiting=100)
        return await asyncio.gather(*(grouper.submit(item) for item in range(10)))

    assert run(work()) == [item * 10 for item in range(10)]
    assert groups == [list(range(10))]


def test_a_call_alone_is_a_group_of_its_own() -> None:
    groups: list[list[str]] = []

    async def handle(items: Sequence[str]) -> list[str | Exception]:
        groups.append(list(items))
        await asyncio.sleep(0.001)
        return [item.upper() for item in items]

    async def work() -> list[str]:
        grouper: Grouper[str, str] = Grouper(handle, group_size=64, max_waiting=100)
        return [await grouper.submit("a"), await grouper.submit("b")]

    assert run(work()) == ["A", "B"]
    assert groups == [["a"], ["b"]]


@pytest.mark.parametrize("most", [1, 2])
def test_a_call_that_comes_at_the_moment_when_all_groups_end_is_not_forgotten(most: int) -> None:
    async def work() -> tuple[list[int], set[asyncio.Task[int]]]:
        gate = asyncio.Event()

        async def handle(items: Sequence[int]) -> list[int | Exception]:
            await gate.wait()
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=1, max_waiting=100, max_in_flight=most)

        async def call_twice() -> int:
            await grouper.submit(0)
            return await grouper.submit(10)  # nothing else is in flight now, and nothing else will come

        others = [grouper.submit(item) for item in range(1, most)]
        tasks = [asyncio.create_task(work) for work in (call_twice(), *others)]
        for _ in range(4):
            await asyncio.sleep(0)
        gate.set()
        done, pending = await asyncio.wait(tasks, timeout=60)
        for task in pending:
            task.cancel()
        return sorted(task.result() for task in done), pending

    answers, pending = run(work())
    assert pending == set()
    assert answers == [*range(1, most), 10]


@pytest.mark.parametrize(
    ("items", "group_size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 1, [1, 1, 1]), (3, 4, [3])]
)
def test_a_group_never_exceeds_its_size(items: int, group_size: int, sizes: list[int]) -> None:
    found: list[int] = []

    async def handle(group: Sequence[int]) -> list[int | Exception]:
        found.append(len(group))
        return list(group)

    async def work() -> list[int]:
        grouper: Grouper[int, int] = Grouper(handle, group_size=group_size, max_waiting=100)
        return await asyncio.gather(*(grouper.submit(item) for item in range(items)))

    assert run(work()) == list(range(items))
    assert found == sizes


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_groups_are_handled_at_a_time_than_allowed_and_the_rest_gathers(most: int) -> None:
    groups: list[int] = []
    under_way = 0
    peak = 0

    async def work() -> list[int]:
        gate = asyncio.Event()

        async def handle(items: Sequence[int]) -> list[int | Exception]:
            nonlocal under_way, peak
            groups.append(len(items))
            under_way += 1
            peak = max(peak, under_way)
            await gate.wait()
            under_way -= 1
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=64, max_waiting=100, max_in_flight=most)
        tasks = []
        for item in range(8):  # one by one, so that each finds the groups before it in flight
            tasks.append(asyncio.create_task(grouper.submit(item)))
            for _ in range(4):
                await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)

    assert run(work()) == list(range(8))
    assert peak == most
    assert groups == [1] * most + [8 - most]


def test_one_call_too_many_is_told_the_bound_and_costs_the_others_nothing() -> None:
    async def work() -> tuple[list[int], int, int]:
        gate = asyncio.Event()

        async def handle(items: Sequence[int]) -> list[int | Exception]:
            await gate.wait()
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=1, max_waiting=3, max_in_flight=1)
        first = asyncio.create_task(grouper.submit(0))
        for _ in range(4):
            await asyncio.sleep(0)  # in flight now, so it no longer waits
        waiting = [asyncio.create_task(grouper.submit(item)) for item in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="3 posts are waiting already") as full:
            await grouper.submit(4)
        gate.set()
        answers = await asyncio.gather(first, *waiting)
        await asyncio.sleep(0.01)
        return answers, full.value.bound, await grouper.submit(5)

    answers, bound, later = run(work())
    assert answers == [0, 1, 2, 3]
    assert bound == 3
    assert later == 5


def test_a_client_that_alone_fills_its_share_is_told_and_others_go_on() -> None:
    async def work() -> tuple[list[int], list[str], tuple[int, int]]:
        gate = asyncio.Event()

        async def handle(items: Sequence[int]) -> list[int | Exception]:
            await gate.wait()
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=1, max_waiting=5, max_in_flight=1, max_a_client=3)
        tasks = [asyncio.create_task(grouper.submit(0, client="greedy"))]
        for _ in range(4):
            await asyncio.sleep(0)  # in flight now, so it no longer waits

        async def put(item: int, client: str | None) -> None:
            tasks.append(asyncio.create_task(grouper.submit(item, client=client)))
            await asyncio.sleep(0)

        refused: list[str] = []
        for item in (1, 2, 3):
            await put(item, "greedy")
        for _ in range(2):
            with pytest.raises(ClientShareError) as told:
                await grouper.submit(9, client="greedy")
            assert told.value.bound == 3
            refused.append(str(told.value))
        await put(4, "modest")
        await put(5, "modest")
        # Full now: that is nobody's own fault, but for the one whose share is full too.
        for client, kind in (("greedy", ClientShareError), ("modest", QueueFullError)):
            with pytest.raises(QueueFullError) as full:
                grouper.admit(client)
            assert type(full.value) is kind
        gate.set()
        answers = list(await asyncio.gather(*tasks))
        assert await grouper.submit(6, client="greedy") == 6
        return answers, refused, grouper._queue.held("greedy")

    answers, refused, held = run(work())
    assert answers == [0, 1, 2, 3, 4, 5]
    assert refused == ["3 posts of this client are waiting already, the bound is 3; try again in 1 s"] * 2
    assert held == (0, 0)


class Gate:
    """Handles groups when it is let, and notes them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.groups: list[list[str]] = []

    async def handle(self, items: Sequence[str]) -> list[str | Exception]:
        self.groups.append(list(items))
        await self.open.wait()
        return list(items)


async def waiting(grouper: Grouper[str, str], *items: str, client: str | None = None) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(grouper.submit(item, client=client)) for item in items]
    for _ in range(4):
        await asyncio.sleep(0)
    return tasks


def test_an_honest_client_does_not_wait_behind_another_ones_flood() -> None:
    async def work() -> list[list[str]]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(gate.handle, group_size=2, max_waiting=100, max_in_flight=1)
        tasks = await waiting(grouper, *(f"flood {number}" for number in range(8)), client="flood")
        tasks += await waiting(grouper, "honest 0", "honest 1", client="honest")
        tasks += await waiting(grouper, "nobody 0", client=None)
        gate.open.set()
        await asyncio.gather(*tasks)
        return gate.groups

    assert run(work()) == [
        ["flood 0", "flood 1"],
        ["honest 0", "nobody 0"],
        ["flood 2", "honest 1"],
        ["flood 3", "flood 4"],
        ["flood 5", "flood 6"],
        ["flood 7"],
    ]


def test_turns_are_taken_by_work_and_a_group_has_a_bound_of_work() -> None:
    async def work() -> list[list[str]]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(
            gate.handle, group_size=9, max_waiting=100, max_in_flight=1, work_of=len, group_work=6
        )
        tasks = await waiting(grouper, "now")
        tasks += await waiting(grouper, "aaaa", "aaaa", "aaaaaaaaaa", client="long")
        tasks += await waiting(grouper, "b", "b", "b", "b", "b", client="short")
        gate.open.set()
        await asyncio.gather(*tasks)
        return gate.groups

    # What is more than a group may be is one by itself.
    assert run(work()) == [["now"], ["aaaa", "b", "b"], ["b", "b", "aaaa"], ["b"], ["a" * 10]]


def test_in_a_full_queue_the_newest_of_whoever_has_most_gives_way() -> None:
    async def work() -> tuple[list[list[str]], list[str]]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(gate.handle, group_size=9, max_waiting=4, max_in_flight=1)
        tasks = await waiting(grouper, "now")
        flood = await waiting(grouper, "f1", "f2", "f3", "f4", client="flood")
        tasks += await waiting(grouper, "h1", "h2", client="honest")
        with pytest.raises(QueueFullError, match="4 posts are waiting already, which is the bound"):
            await grouper.submit("h3", client="honest")  # as many as the other one has now
        refused = await asyncio.gather(*flood[2:], return_exceptions=True)
        gate.open.set()
        await asyncio.gather(*tasks, *flood[:2])
        return gate.groups, [f"{type(error).__name__}: {error}" for error in refused]

    groups, refused = run(work())
    assert groups == [["now"], ["f1", "h1", "f2", "h2"]]
    full = "4 posts are waiting already, which is the bound; try again in 1 s"
    assert refused == [f"ClientShareError: {full}"] * 2


def test_a_batch_that_was_taken_gives_way_to_nobody() -> None:
    async def work() -> list[str]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(gate.handle, group_size=9, max_waiting=2, max_in_flight=1)
        tasks = await waiting(grouper, "now")
        tasks += [asyncio.create_task(grouper.submit(item, taken=True, client="a")) for item in ("b1", "b2", "b3")]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await grouper.submit("h", client="honest")
        gate.open.set()
        return list(await asyncio.gather(*tasks))

    assert run(work()) == ["now", "b1", "b2", "b3"]


def test_a_client_s_single_items_do_not_wait_behind_its_batch() -> None:
    async def work() -> list[list[str]]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(gate.handle, group_size=2, max_waiting=99, max_in_flight=1)
        tasks = await waiting(grouper, "now")
        batch = (grouper.submit(f"b{number}", taken=True, client="a") for number in range(4))
        tasks += [asyncio.create_task(item) for item in batch]
        await asyncio.sleep(0)
        tasks += await waiting(grouper, "live", client="a")
        gate.open.set()
        await asyncio.gather(*tasks)
        return gate.groups

    assert run(work()) == [["now"], ["b0", "live"], ["b1", "b2"], ["b3"]]


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(batcher.time, "monotonic", lambda: self.now)


def test_what_would_wait_too_long_is_refused_when_it_comes_with_the_time_that_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)

    async def work() -> list[str]:
        gate = Gate()

        async def handle(items: Sequence[str]) -> list[str | Exception]:
            clock.now += 2 * len(items)  # seconds a post
            return await gate.handle(items)

        grouper: Grouper[str, str] = Grouper(handle, group_size=1, max_waiting=99, max_in_flight=1, max_wait_s=5)
        gate.open.set()
        assert await grouper.submit("first") == "first"  # from here on it is known how long one takes
        gate.open.clear()
        tasks = await waiting(grouper, "now", client="flood")
        tasks += await waiting(grouper, "f1", "f2", "f3", client="flood")
        refused: list[str] = []
        for client in ("flood", "flood", "honest", "other"):
            try:
                tasks += [await admitted(grouper, client)]
            except QueueFullError as error:
                refused.append(f"{client}: {type(error).__name__}: {error} {error.bound} {error.retry_after}")
        for task in tasks:
            task.cancel()
        gate.open.set()
        return refused

    async def admitted(grouper: Grouper[str, str], client: str) -> asyncio.Task[str]:
        grouper.admit(client)
        return (await waiting(grouper, f"{client} 1", client=client))[0]

    # Six seconds are before the flood's own next one. Before the others' is one of each client alone.
    told = "flood: ClientShareError: it would wait 6.0 s, the bound is 5 s; try again in 6 s 5 6"
    assert run(work()) == [told, told]


def test_what_waited_too_long_when_its_turn_comes_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    async def work() -> tuple[list[list[str]], list[str | BaseException]]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(gate.handle, group_size=9, max_waiting=9, max_in_flight=1, max_wait_s=5)
        tasks = await waiting(grouper, "now", client="a")
        tasks += await waiting(grouper, "late", client="a")
        tasks.append(asyncio.create_task(grouper.submit("of a batch", taken=True)))
        await asyncio.sleep(0)
        clock.now += 4
        tasks += await waiting(grouper, "in time", client="a")
        clock.now += 2
        gate.open.set()
        return gate.groups, await asyncio.gather(*tasks, return_exceptions=True)

    groups, answers = run(work())
    assert groups == [["now"], ["of a batch", "in time"]]
    assert [str(answer) for answer in answers] == [
        "now",
        "it waited longer than 5 s, which is the bound; try again in 1 s",
        "of a batch",
        "in time",
    ]
    assert isinstance(answers[1], QueueFullError)


def test_items_of_a_key_keep_their_order_whosever_they_are() -> None:
    async def work() -> list[list[str]]:
        gate = Gate()
        grouper: Grouper[str, str] = Grouper(gate.handle, group_size=2, max_waiting=99, max_in_flight=2)
        tasks = await waiting(grouper, "now")
        for client, item, key in (
            ("a", "a1", "x"),
            ("a", "a2", "x"),
            ("a", "a3", None),
            ("b", "b1", "x"),
            ("b", "b2", None),
        ):
            tasks.append(asyncio.create_task(grouper.submit(item, client=client, key=key)))
        for _ in range(6):
            await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(*tasks)
        return gate.groups

    flat = [item for group in run(work()) for item in group]
    assert [item for item in flat if item in ("a1", "a2", "b1")] == ["a1", "a2", "b1"]
    assert sorted(flat) == ["a1", "a2", "a3", "b1", "b2", "now"]


def test_callers_without_a_client_share_the_whole_queue() -> None:
    async def work() -> list[int]:
        async def handle(items: Sequence[int]) -> list[int | Exception]:
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=8, max_waiting=8, max_a_client=1)
        return list(await asyncio.gather(*(grouper.submit(item) for item in range(8))))

    assert run(work()) == list(range(8))


def test_a_caller_that_leaves_gives_its_place_back() -> None:
    async def work() -> int:
        gate = asyncio.Event()

        async def handle(items: Sequence[int]) -> list[int | Exception]:
            await gate.wait()
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=1, max_waiting=8, max_in_flight=1, max_a_client=1)
        first = asyncio.create_task(grouper.submit(0))
        for _ in range(4):
            await asyncio.sleep(0)
        leaving = asyncio.create_task(grouper.submit(1, client="a"))
        await asyncio.sleep(0)
        leaving.cancel()
        gate.set()
        await asyncio.wait([first, leaving])
        await asyncio.sleep(0.01)
        return await grouper.submit(2, client="a")

    assert run(work()) == 2


def test_what_was_taken_already_is_not_refused_and_the_next_call_is() -> None:
    async def work() -> tuple[list[bool], list[int]]:
        async def handle(items: Sequence[int]) -> list[int | Exception]:
            return list(items)

        grouper: Grouper[int, int] = Grouper(handle, group_size=64, max_waiting=2)
        full = [grouper.full]
        tasks = [asyncio.create_task(grouper.submit(item, taken=True)) for item in range(5)]
        await asyncio.sleep(0)
        full.append(grouper.full)
        with pytest.raises(QueueFullError, match="2 posts are waiting already"):
            await grouper.submit(5)
        answers = list(await asyncio.gather(*tasks))
        return [*full, grouper.full], answers

    assert run(work()) == ([False, True, False], [0, 1, 2, 3, 4])


def test_a_member_that_leaves_while_it_waits_is_dropped_and_its_mates_are_answered() -> None:
    groups: list[list[str]] = []

    async def work() -> list[str]:
        gate = asyncio.Event()

        async def handle(items: Sequence[str]) -> list[str | Exception]:
            groups.append(list(items))
            await gate.wait()
            return [item.upper() for item in items]

        grouper: Grouper[str, str] = Grouper(handle, group_size=64, max_waiting=100, max_in_flight=1)
        first = asyncio.create_task(grouper.submit("first"))
        for _ in range(4):
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(grouper.submit(item)) for item in ("a", "leaves", "b")]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        return [await first, await waiting[0], await waiting[2]]

    assert run(work()) == ["FIRST", "A", "B"]
    assert groups == [["first"], ["a", "b"]]


def test_a_member_that_leaves_while_its_group_is_handled_costs_its_mates_nothing() -> None:
    async def work() -> list[str]:
        gate = asyncio.Event()

        async def handle(items: Sequence[str]) -> list[str | Exception]:
            await gate.wait()
            return [item.upper() for item in items]

        grouper: Grouper[str, str] = Grouper(handle, group_size=64, max_waiting=100)
        tasks = [asyncio.create_task(grouper.submit(item)) for item in ("leaves", "a", "b")]
        for _ in range(4):
            await asyncio.sleep(0)
        tasks[0].cancel()
        gate.set()
        answers = await asyncio.gather(*tasks[1:])
        assert tasks[0].cancelled()
        return answers

    assert run(work()) == ["A", "B"]


def test_an_error_of_handle_reaches_all_of_its_group_and_no_other() -> None:
    async def handle(items: Sequence[str]) -> list[str | Exception]:
        await asyncio.sleep(0.001)
        if "bad" in items:
            raise RuntimeError("the handle broke")
        return [item.upper() for item in items]

    async def work() -> tuple[list[str | BaseException], str]:
        grouper: Grouper[str, str] = Grouper(handle, group_size=2, max_waiting=100)
        answers = await asyncio.gather(
            *(grouper.submit(item) for item in ("a", "bad", "b", "c", "d")), return_exceptions=True
        )
        return answers, await grouper.submit("later")

    answers, later = run(work())
    assert [str(answer) for answer in answers] == ["the handle broke", "the handle broke", "B", "C", "D"]
    assert [type(answer) for answer in answers[:2]] == [RuntimeError, RuntimeError]
    assert later == "LATER"


def test_an_exception_as_a_result_is_raised_to_its_own_caller_alone() -> None:
    async def handle(items: Sequence[int]) -> list[int | Exception]:
        return [ValueError(f"{item} is odd") if item % 2 else item for item in items]

    async def work() -> list[int | BaseException]:
        grouper: Grouper[int, int] = Grouper(handle, group_size=64, max_waiting=100)
        return await asyncio.gather(*(grouper.submit(item) for item in range(4)), return_exceptions=True)

    answers = run(work())
    assert answers[0::2] == [0, 2]
    assert [(type(answer), str(answer)) for answer in answers[1::2]] == [
        (ValueError, "1 is odd"),
        (ValueError, "3 is odd"),
    ]


@pytest.mark.parametrize("results", [0, 1, 4])
def test_a_wrong_number_of_results_is_an_error_for_all_and_never_a_mix_up(results: int) -> None:
    async def handle(_items: Sequence[int]) -> list[int | Exception]:
        return [0] * results

    async def work() -> list[int | BaseException]:
        grouper: Grouper[int, int] = Grouper(handle, group_size=64, max_waiting=100)
        return await asyncio.gather(*(grouper.submit(item) for item in range(3)), return_exceptions=True)

    assert [str(answer) for answer in run(work())] == [f"{results} results for 3 items"] * 3


def test_a_handle_that_is_cancelled_leaves_nobody_waiting_for_ever() -> None:
    async def handle(items: Sequence[str]) -> list[str | Exception]:
        if "bad" in items:
            raise asyncio.CancelledError  # as a Ray Serve handle does when its parent request is cancelled
        return [item.upper() for item in items]

    async def work() -> tuple[set[asyncio.Task[str]], str]:
        grouper: Grouper[str, str] = Grouper(handle, group_size=64, max_waiting=100)
        tasks = [asyncio.create_task(grouper.submit(item)) for item in ("a", "bad", "b")]
        _, pending = await asyncio.wait(tasks, timeout=60)
        for task in pending:
            task.cancel()
        await asyncio.sleep(0.01)
        return pending, await grouper.submit("later")

    pending, later = run(work())
    assert later == "LATER"
    assert pending == set()


def test_a_group_does_not_run_in_the_context_of_one_of_its_callers() -> None:
    # Ray Serve keeps the parent request in a context variable, and cancels the calls made in it with that request.
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen: list[str] = []

    async def handle(items: Sequence[int]) -> list[int | Exception]:
        seen.append(caller.get())
        return list(items)

    async def work() -> None:
        grouper: Grouper[int, int] = Grouper(handle, group_size=64, max_waiting=100)

        async def call(item: int) -> int:
            caller.set(f"caller {item}")
            return await grouper.submit(item)

        assert list(await asyncio.gather(call(1), call(2))) == [1, 2]

    run(work())
    assert seen == ["nobody"]


@pytest.mark.parametrize("size", [1, 3])
def test_items_of_one_key_are_handled_in_their_order_and_hold_up_no_others(size: int) -> None:
    begun: list[str] = []
    under_way: list[str] = []

    async def handle(items: Sequence[str]) -> list[str | Exception]:
        keys = {item[0] for item in items}
        assert not keys & {item[0] for item in under_way}
        begun.extend(items)
        under_way.extend(items)
        await asyncio.sleep(0.01 if "a" in keys else 0)
        for item in items:
            under_way.remove(item)
        return list(items)

    async def work() -> None:
        grouper: Grouper[str, str] = Grouper(handle, group_size=size, max_waiting=12)
        items = ["a1", "b1", "a2", "c1", "a3", "b2", "c2", "a4", "a5"]
        assert await asyncio.gather(*(grouper.submit(item, key=item[0]) for item in items)) == items
        assert [item for item in begun if item[0] == "a"] == ["a1", "a2", "a3", "a4", "a5"]
        assert [item for item in begun if item[0] == "b"] == ["b1", "b2"]
        if size == 1:
            assert begun.index("c2") < begun.index("a3")

    run(work())


def test_items_that_wait_for_others_of_their_key_count_as_waiting() -> None:
    async def handle(items: Sequence[int]) -> list[int | Exception]:
        await asyncio.sleep(0.001)
        return list(items)

    async def work() -> None:
        grouper: Grouper[int, int] = Grouper(handle, group_size=2, max_waiting=4, max_a_client=3)
        calls = (grouper.submit(n, key="same", client="one") for n in range(4))
        *answers, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert answers == [0, 1, 2]
        assert isinstance(refused, ClientShareError)
        calls = (grouper.submit(n, key="same") for n in range(5))
        *answers, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert answers == [0, 1, 2, 3]
        assert type(refused) is QueueFullError
        assert await grouper.submit(9, key="same") == 9

    run(work())


def test_a_group_that_fails_does_not_hold_up_the_next_of_its_key() -> None:
    async def handle(items: Sequence[int]) -> list[int | Exception]:
        if items == [1]:
            raise RuntimeError("broken")
        return list(items)

    async def work() -> None:
        grouper: Grouper[int, int] = Grouper(handle, group_size=1, max_waiting=4)
        calls = (grouper.submit(n, key="same") for n in (1, 2))
        broken, answer = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(broken, RuntimeError)
        assert answer == 2

    run(work())


def test_under_load_every_caller_gets_its_own_answer() -> None:
    groups: list[int] = []

    async def handle(items: Sequence[int]) -> list[int | Exception]:
        groups.append(len(items))
        await asyncio.sleep(0.001)
        return [item**2 for item in items]

    async def work() -> list[int]:
        grouper: Grouper[int, int] = Grouper(handle, group_size=16, max_waiting=1000)

        async def call(item: int) -> int:
            await asyncio.sleep(item % 7 / 1000)
            return await grouper.submit(item)

        return await asyncio.gather(*(call(item) for item in range(300)))

    assert run(work()) == [item**2 for item in range(300)]
    assert sum(groups) == 300
    assert max(groups) == 16
    assert len(groups) < 100
