"""A queue in which clients take turns."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from serve.posts.fair_queue import Entry, FairQueue

CLIENTS = st.sampled_from(["a", "b", "c", None])
KEYS = st.sampled_from(["x", "y", None, None])
STEP = st.tuples(CLIENTS, KEYS, st.integers(1, 9))


def any_of(_entry: Entry[int]) -> bool:
    return True


def is_empty(queue: FairQueue[int]) -> bool:
    return not (
        len(queue) or queue.work or queue.clients or queue._keys or any(line.count for *_, line in queue._turns)
    )


@given(steps=st.lists(STEP, max_size=40), leaving=st.sets(st.integers(0, 39)), most=st.integers(1, 9))
def test_whatever_waits_leaves_once_in_the_order_of_its_client_and_of_its_key(
    steps: list[tuple[str | None, str | None, int]], leaving: set[int], most: int
) -> None:
    queue: FairQueue[int] = FairQueue()
    entries = [Entry(number, *step) for number, step in enumerate(steps)]
    for entry in entries:
        queue.push(entry)
    stay = [entry for entry in entries if entry.value not in leaving]
    for entry in entries:
        if entry.value in leaving:
            queue.leave(entry)
            queue.leave(entry)  # a second time changes nothing
    assert len(queue) == len(stay)
    assert queue.work == sum(entry.work for entry in stay)
    assert Counter({client: queue.held(client)[0] for client in ("a", "b", "c", None)}) == Counter(
        {client: sum(entry.client == client for entry in stay) for client in ("a", "b", "c", None)}
    )
    found: list[Entry[int]] = []
    while group := queue.take(most, None, any_of):
        assert len(group) <= most
        found += group
    assert sorted(entry.value for entry in found) == [entry.value for entry in stay]
    for name in ("a", "b", "c", None):
        of_client = [entry.value for entry in found if entry.client == name and entry.key is None]
        assert of_client == sorted(of_client)
    for key in ("x", "y"):
        of_key = [entry.value for entry in found if entry.key == key]
        assert of_key == sorted(of_key)
    assert is_empty(queue)


@given(steps=st.lists(STEP, max_size=40), most=st.integers(1, 9))
def test_what_is_not_ready_stays_and_comes_later_in_its_order(
    steps: list[tuple[str | None, str | None, int]], most: int
) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, step in enumerate(steps):
        queue.push(Entry(number, *step))
    found: list[Entry[int]] = []
    while group := queue.take(most, None, lambda entry: entry.key != "x"):
        found += group
    assert {entry.value for entry in found} == {number for number, step in enumerate(steps) if step[1] != "x"}
    rest: list[int] = []
    while group := queue.take(most, None, any_of):
        rest += [entry.value for entry in group]
    assert rest == [number for number, step in enumerate(steps) if step[1] == "x"]
    assert is_empty(queue)


@given(flood=st.integers(10, 60), honest=st.integers(1, 5), work=st.integers(1, 9))
def test_a_client_waits_for_as_much_of_each_other_one_as_it_brings_itself(flood: int, honest: int, work: int) -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(flood):
        queue.push(Entry("flood", "flood", None, work))
    for _ in range(honest):
        queue.push(Entry("honest", "honest", None, work))
    order = [entry.value for entry in queue.take(flood + honest, None, lambda _: True)]
    assert order[: 2 * honest].count("honest") == honest


def test_one_who_comes_anew_begins_where_the_others_are() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(6):
        queue.push(Entry(f"a{number}", "a", None, 1))
    assert [entry.value for entry in queue.take(3, None, lambda _: True)] == ["a0", "a1", "a2"]
    for number in range(3):
        queue.push(Entry(f"b{number}", "b", None, 1))
    # No credit for the time before: turn by turn from here on.
    found = [entry.value for entry in queue.take(6, None, lambda _: True)]
    assert found in (["b0", "a3", "b1", "a4", "b2", "a5"], ["a3", "b0", "a4", "b1", "a5", "b2"])
    assert queue.clients == 0


def test_who_has_most_is_found_and_what_it_brought_last() -> None:
    queue: FairQueue[str] = FairQueue()
    for value, client in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("b3", "b")):
        queue.push(Entry(value, client, None, 1))
    last = queue.newest("b")
    assert last is not None
    assert (queue.longest(), last.value) == ("b", "b3")
    queue.leave(last)
    newest = queue.newest("b")
    assert newest is not None
    assert newest.value == "b2"
    assert queue.newest("nobody") is None
