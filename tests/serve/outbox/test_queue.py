"""The outbox in the ledger: what is fanned out, what is due, who has it, what becomes of it."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from moderation.errors import ConflictError, NotFoundError
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import deliveries
from serve.outbox import queue as outbox_queue
from serve.outbox.queue import AttemptResult, Delivery
from tests.moderation.storage.acts import act
from tests.moderation.storage.rows import an_entry, at, record

HOLD = timedelta(minutes=1)
END = "platform"


def fan_out(ledger: Ledger, endpoint: str = END) -> int:
    return outbox_queue.fan_out(ledger, endpoint)


def take(ledger: Ledger, limit: int = 100, *, endpoint: str = END, hold: timedelta = HOLD) -> list[Delivery]:
    return outbox_queue.take(ledger, endpoint, limit=limit, hold=hold)


def ids(taken: list[Delivery]) -> list[int]:
    return [delivery.action_id for delivery in taken]


def lost(delivery: Delivery, *, again_in: float | None = 0.0) -> AttemptResult:
    return AttemptResult(delivery, "answered 500", None if again_in is None else now() + timedelta(seconds=again_in))


def test_each_action_is_fanned_out_once_for_each_endpoint(ledger: Ledger) -> None:
    for number in range(3):
        act(ledger, f"p-{number}")
    assert (fan_out(ledger), fan_out(ledger), fan_out(ledger, "other")) == (3, 0, 3)
    act(ledger, "p-9")
    assert (fan_out(ledger), fan_out(ledger, "other")) == (1, 1)
    with ledger.read() as connection:
        rows = connection.execute(select(deliveries.c.endpoint, deliveries.c.action_id, deliveries.c.delivery_id)).all()
    assert sorted(row[:2] for row in rows) == sorted(
        (name, number) for name in (END, "other") for number in range(1, 5)
    )
    assert len({row.delivery_id for row in rows}) == 8


def test_an_empty_ledger_has_nothing_to_send(ledger: Ledger) -> None:
    assert fan_out(ledger) == 0
    assert take(ledger) == []
    assert outbox_queue.counts(ledger) == {}
    assert outbox_queue.dead_letters(ledger) == []
    assert outbox_queue.settle(ledger, []) == 0


def test_many_actions_are_fanned_out_in_parts(ledger: Ledger) -> None:
    for number in range(5):
        act(ledger, f"p-{number}")
    assert [outbox_queue.fan_out(ledger, END, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert ids(take(ledger)) == [1, 2, 3, 4, 5]


def test_actions_up_to_a_number_are_left_out_if_so_configured(ledger: Ledger) -> None:
    for number in range(4):
        act(ledger, f"p-{number}")
    assert outbox_queue.fan_out(ledger, END, after_action=2) == 2
    assert outbox_queue.fan_out(ledger, END, after_action=2) == 0
    assert outbox_queue.fan_out(ledger, END, after_action=99) == 0
    assert ids(take(ledger)) == [3, 4]


def test_what_is_sent_says_what_was_done_and_to_whom(ledger: Ledger) -> None:
    record(ledger, an_entry("p-1", "first", author="u-7", region="DE"))
    record(ledger, an_entry("p-1", "second", minutes=1, author="u-7", region="AT"))
    act(ledger, "p-1", "remove", actor="review", labels=("hate", "abuse"), when=at(2.5), content_version=2)
    act(ledger, "p-unknown", "hold", actor="fuse", labels=())
    fan_out(ledger)
    first, second = take(ledger)
    assert json.loads(first.body) == {
        "delivery_id": first.delivery_id,
        "action_id": 1,
        "post_id": "p-1",
        "content_version": 2,
        "action": "remove",
        "actor": "review",
        "labels": ["hate", "abuse"],
        "acted_at": "2020-01-01T00:02:30.000000Z",
        "author_id": "u-7",
        "community": "gardening",
        "region": "AT",
    }
    assert (first.endpoint, first.post_id, first.attempts) == (END, "p-1", 0)
    unknown = json.loads(second.body)
    assert (unknown["author_id"], unknown["community"], unknown["region"]) == (None, None, None)
    assert b"second" not in first.body


def test_what_is_taken_is_nobody_else_s_until_the_lease_ends(ledger: Ledger, neighbour: Ledger) -> None:
    act(ledger)
    fan_out(ledger)
    (mine,) = take(ledger)
    assert take(neighbour) == []
    with ledger.write() as connection:  # let its time pass
        connection.execute(update(deliveries).values(next_at=mine.lease - HOLD))
    (again,) = take(neighbour)
    assert (again.delivery_id, again.body, again.attempts) == (mine.delivery_id, mine.body, 0)
    assert again.lease > mine.lease


def test_a_later_action_of_a_post_waits_for_the_earlier_one(ledger: Ledger) -> None:
    for post_id, action in (("p-1", "remove"), ("p-2", "remove"), ("p-1", "restore"), ("p-1", "remove")):
        act(ledger, post_id, action)
    fan_out(ledger)
    first, other = take(ledger)
    assert ids([first, other]) == [1, 2]
    assert take(ledger) == []
    assert outbox_queue.settle(ledger, [lost(first, again_in=60)]) == 1
    assert take(ledger) == []  # it waits for its retry, and the later ones with it
    assert outbox_queue.settle(ledger, [AttemptResult(first)]) == 1
    (third,) = take(ledger)
    assert third.action_id == 3
    outbox_queue.settle(ledger, [lost(third, again_in=None)])
    assert ids(take(ledger)) == [4]  # the one before is dead


def test_an_endpoint_waits_for_no_other(ledger: Ledger) -> None:
    act(ledger, "p-1", "remove")
    act(ledger, "p-1", "restore")
    fan_out(ledger)
    fan_out(ledger, "other")
    (mine,) = take(ledger)
    (theirs,) = take(ledger, endpoint="other")
    outbox_queue.settle(ledger, [AttemptResult(theirs)])
    assert ids(take(ledger, endpoint="other")) == [2]
    assert mine.action_id == 1
    assert take(ledger) == []


def test_no_more_than_asked_for_is_taken_and_the_longest_due_first(ledger: Ledger) -> None:
    for number in range(4):
        act(ledger, f"p-{number}")
    fan_out(ledger)
    (first,) = take(ledger, 1)
    outbox_queue.settle(ledger, [lost(first)])
    assert ids(take(ledger, 2)) == [2, 3]
    assert ids(take(ledger, 9)) == [4, 1]


def test_a_failure_counts_and_is_told(ledger: Ledger) -> None:
    act(ledger)
    fan_out(ledger)
    for attempts in range(3):
        (delivery,) = take(ledger)
        assert delivery.attempts == attempts
        assert outbox_queue.settle(ledger, [lost(delivery)]) == 1
    (last,) = take(ledger)
    outbox_queue.settle(ledger, [AttemptResult(last, "x" * 5000 + "\0", None)])
    (letter,) = outbox_queue.dead_letters(ledger)
    assert (letter.delivery_id, letter.endpoint, letter.action_id, letter.post_id) == (last.delivery_id, END, 1, "p-1")
    assert (letter.attempts, letter.last_error) == (4, "x" * outbox_queue.ERROR_LENGTH)
    assert take(ledger) == []
    assert fan_out(ledger) == 0  # dead is not forgotten: it is not fanned out anew


def test_who_lost_the_lease_cannot_record_a_failure_but_an_arrival(ledger: Ledger) -> None:
    act(ledger)
    fan_out(ledger)
    (late,) = take(ledger, hold=timedelta(0))
    (holder,) = take(ledger)
    assert outbox_queue.settle(ledger, [lost(late, again_in=None)]) == 0
    assert outbox_queue.dead_letters(ledger) == []
    assert outbox_queue.settle(ledger, [AttemptResult(late)]) == 1  # it did arrive
    assert outbox_queue.settle(ledger, [lost(holder, again_in=None)]) == 0
    assert outbox_queue.settle(ledger, [AttemptResult(holder)]) == 0
    assert outbox_queue.counts(ledger)[END].delivered == 1


def test_counts_say_how_an_endpoint_stands(ledger: Ledger) -> None:
    for number in range(4):
        act(ledger, f"p-{number}", when=at(number))
    fan_out(ledger)
    fan_out(ledger, "other")
    first, second, *_ = take(ledger)
    outbox_queue.settle(ledger, [AttemptResult(first), lost(second, again_in=None)])
    found = outbox_queue.counts(ledger)
    assert (found[END].pending, found[END].delivered, found[END].dead, found[END].oldest) == (2, 1, 1, at(2))
    assert (found["other"].pending, found["other"].oldest) == (4, at(0))
    for delivery in take(ledger, endpoint="other"):
        outbox_queue.settle(ledger, [AttemptResult(delivery)])
    assert outbox_queue.counts(ledger)["other"].oldest is None


def test_a_dead_letter_can_be_sent_again(ledger: Ledger) -> None:
    act(ledger, "p-1", "remove")
    act(ledger, "p-1", "restore")
    fan_out(ledger)
    (first,) = take(ledger)
    outbox_queue.settle(ledger, [lost(first, again_in=None)])
    assert outbox_queue.redrive(ledger, first.delivery_id) == 1
    assert outbox_queue.dead_letters(ledger) == []
    (again,) = take(ledger)
    assert (again.delivery_id, again.attempts, again.body) == (first.delivery_id, 0, first.body)
    assert take(ledger) == []  # the later one waits again


def test_all_dead_letters_can_be_sent_again_and_nothing_else(ledger: Ledger) -> None:
    for number in range(4):
        act(ledger, f"p-{number}")
    fan_out(ledger)
    first, second, third, fourth = take(ledger)
    outbox_queue.settle(ledger, [lost(first, again_in=None), lost(second, again_in=None), AttemptResult(third)])
    assert outbox_queue.redrive(ledger) == 2
    assert outbox_queue.redrive(ledger) == 0
    assert ids(take(ledger)) == [1, 2]
    assert fourth.action_id == 4


def test_only_what_is_dead_is_redriven(ledger: Ledger) -> None:
    act(ledger)
    fan_out(ledger)
    (delivery,) = take(ledger)
    with pytest.raises(ConflictError, match=r"is pending; only a dead one is redriven"):
        outbox_queue.redrive(ledger, delivery.delivery_id)
    outbox_queue.settle(ledger, [AttemptResult(delivery)])
    with pytest.raises(ConflictError, match="is delivered"):
        outbox_queue.redrive(ledger, delivery.delivery_id)
    with pytest.raises(NotFoundError, match="'nothing' is not recorded"):
        outbox_queue.redrive(ledger, "nothing")


def test_the_list_of_dead_letters_is_bounded_and_the_oldest_action_comes_first(ledger: Ledger) -> None:
    for number in range(3):
        act(ledger, f"p-{number}")
    fan_out(ledger)
    outbox_queue.settle(ledger, [lost(delivery, again_in=None) for delivery in reversed(take(ledger))])
    assert [letter.action_id for letter in outbox_queue.dead_letters(ledger, limit=2)] == [1, 2]


def test_senders_at_the_same_time_fan_out_once_and_share_what_is_due(ledger: Ledger, neighbour: Ledger) -> None:
    for number in range(60):
        act(ledger, f"p-{number % 20}")
    seen: Counter[int] = Counter()

    def work(index: int) -> list[int]:
        mine = (ledger, neighbour)[index % 2]
        done: list[int] = []
        while True:
            outbox_queue.fan_out(mine, END, limit=7)
            taken = take(mine, 3)
            done += ids(taken)
            outbox_queue.settle(mine, [AttemptResult(delivery) for delivery in taken])
            if not taken and outbox_queue.counts(mine)[END].pending == 0 and not outbox_queue.fan_out(mine, END):
                return done

    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(work, range(4)):
            seen.update(done)
    assert seen == Counter(range(1, 61))
