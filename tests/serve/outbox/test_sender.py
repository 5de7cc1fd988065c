"""The sender of webhooks, against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from moderation.errors import ConfigError
from moderation.sections import Webhook
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import deliveries
from serve.outbox import queue as outbox_queue
from serve.outbox import sender as sender_module
from serve.outbox.sender import Sender, secrets_of, wait_after
from tests.killing import killed
from tests.moderation.storage.acts import act
from tests.rooms import run
from tests.serve.outbox.receiver import (
    SECRET,
    Answer,
    Arrival,
    Receiver,
    hang_up,
    receiver,
    say_nothing_for,
    say_nothing_until,
)

END = "platform"


@pytest.fixture
def here() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def a_webhook(here: Receiver, **changes: Any) -> Webhook:
    usual = {"name": END, "url": here.url + "hook", "secret_env": "HOOK_SECRET", "timeout_s": 60}
    return Webhook.model_validate(usual | {"first_retry_s": 0.02, "max_retry_s": 0.05, "max_attempts": 3} | changes)


def a_sender(ledger: Ledger, *webhooks: Webhook) -> Sender:
    return Sender(ledger, webhooks, dict.fromkeys((webhook.name for webhook in webhooks), SECRET), seed=1)


def send(ledger: Ledger, *webhooks: Webhook) -> dict[str, int]:
    return run(a_sender(ledger, *webhooks).send_due())


def drain(ledger: Ledger, webhook: Webhook, *, within_s: float = 300) -> None:
    """Send until nothing is pending."""
    give_up = time.monotonic() + within_s
    while True:
        send(ledger, webhook)
        found = outbox_queue.counts(ledger).get(webhook.name)
        if found is not None and found.pending == 0:
            return
        assert time.monotonic() < give_up, f"still pending: {found}"
        time.sleep(0.02)


def test_an_action_arrives_signed_and_says_what_was_done(ledger: Ledger, here: Receiver) -> None:
    act(ledger, "p-1", "remove", labels=("hate",))
    before = int(time.time())
    assert send(ledger, a_webhook(here)) == {END: 1}
    after = int(time.time())
    (arrival,) = here.arrivals
    assert arrival.signed
    assert arrival.path == "/hook"
    assert arrival.headers["Content-Type"] == "application/json"
    assert arrival.headers["Seawall-Delivery"] == arrival.said["delivery_id"]
    assert before <= int(arrival.headers["Seawall-Timestamp"]) <= after
    assert (arrival.said["post_id"], arrival.said["action"], arrival.said["labels"]) == ("p-1", "remove", ["hate"])
    assert outbox_queue.counts(ledger)[END].delivered == 1
    assert send(ledger, a_webhook(here)) == {END: 0}


def test_nothing_to_send_is_nothing_sent(ledger: Ledger, here: Receiver) -> None:
    assert send(ledger, a_webhook(here)) == {END: 0}
    assert here.arrivals == []


def test_a_failure_is_tried_again_with_the_same_delivery_and_body(ledger: Ledger, here: Receiver) -> None:
    answers = iter([500, 429, 200])
    here.answer = lambda _arrival: next(answers)
    act(ledger)
    drain(ledger, a_webhook(here))
    assert len(here.arrivals) == 3
    assert len({arrival.body for arrival in here.arrivals}) == 1
    assert len({arrival.headers["Seawall-Delivery"] for arrival in here.arrivals}) == 1
    assert all(arrival.signed for arrival in here.arrivals)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (500, "answered 500"),
        (404, "answered 404"),
        (302, "answered 302; redirects are not followed"),
        (307, "answered 307; redirects are not followed"),
        (hang_up, "RemoteProtocolError: "),
        (say_nothing_for(10), "no answer within 0.5 s"),
    ],
)
def test_after_the_last_attempt_it_is_dead_and_says_why(
    ledger: Ledger, here: Receiver, answer: Answer, error: str
) -> None:
    here.answer = lambda _arrival: answer
    act(ledger)
    drain(ledger, a_webhook(here, timeout_s=0.5 if "within" in error else 60))
    (letter,) = outbox_queue.dead_letters(ledger)
    assert letter.attempts == 3
    assert letter.last_error is not None
    assert letter.last_error.startswith(error)
    assert {arrival.path for arrival in here.arrivals} == {"/hook"}


def test_an_endpoint_that_is_not_there_is_a_failure(ledger: Ledger) -> None:
    with receiver() as gone:
        webhook = a_webhook(gone, max_attempts=1)
    act(ledger)
    assert send(ledger, webhook) == {END: 1}
    (letter,) = outbox_queue.dead_letters(ledger)
    assert (letter.last_error or "").startswith("ConnectError")


def test_a_redriven_dead_letter_arrives(ledger: Ledger, here: Receiver) -> None:
    here.answer = lambda _arrival: 500
    act(ledger)
    webhook = a_webhook(here, max_attempts=1)
    send(ledger, webhook)
    here.answer = lambda _arrival: 200
    assert send(ledger, webhook) == {END: 0}
    assert outbox_queue.redrive(ledger) == 1
    assert send(ledger, webhook) == {END: 1}
    assert outbox_queue.counts(ledger)[END].delivered == 1


def test_a_post_s_actions_arrive_in_order_also_when_one_fails_at_first(ledger: Ledger, here: Receiver) -> None:
    failed: set[int] = set()

    def answer(arrival: Arrival) -> int:
        number = arrival.said["action_id"]
        if number % 3 == 0 and number not in failed:
            failed.add(number)
            return 503
        return 200

    here.answer = answer
    for number in range(30):
        act(ledger, f"p-{number % 4}", "remove" if number % 8 < 4 else "restore")
    drain(ledger, a_webhook(here))
    assert sorted(set(here.actions())) == list(range(1, 31))
    assert in_order(here)
    assert len(here.arrivals) == 40


def in_order(here: Receiver) -> bool:
    """Whether each post's actions arrived first in the order in which they were done."""
    first: dict[str, list[int]] = defaultdict(list)
    for arrival in here.arrivals:
        number = arrival.said["action_id"]
        if number not in first[arrival.said["post_id"]]:
            first[arrival.said["post_id"]].append(number)
    return all(numbers == sorted(numbers) for numbers in first.values())


def test_no_more_requests_than_configured_are_under_way(ledger: Ledger, here: Receiver) -> None:
    full = threading.Event()

    def slowly(_arrival: Arrival) -> int:
        if here.under_way == 3:
            full.set()
        full.wait(60)  # fewer are not enough
        time.sleep(0.03)  # a fourth would come meanwhile
        return 200

    here.answer = slowly
    for number in range(20):
        act(ledger, f"p-{number}")
    send(ledger, a_webhook(here, concurrency=3))
    assert len(here.arrivals) == 20
    assert here.most_under_way == 3


def test_what_is_due_does_not_wait_for_a_slow_request(ledger: Ledger, here: Receiver) -> None:
    other_came = threading.Event()
    held = say_nothing_until(other_came)
    here.answer = lambda arrival: held if arrival.said["post_id"] == "p-slow" else 200
    act(ledger, "p-slow")

    async def work() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(a_sender(ledger, a_webhook(here, timeout_s=300)).run(stop))
        while not here.arrivals:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(act, ledger, "p-2")
        while 2 not in here.actions():
            await asyncio.sleep(0.01)
        assert here.actions() == [1, 2]  # the slow one is under way yet, for the first time
        stop.set()
        other_came.set()
        await running

    try:
        run(work())
    finally:
        other_came.set()


def test_a_slow_endpoint_holds_up_no_other(ledger: Ledger, here: Receiver) -> None:
    with receiver() as slow:
        others_came = threading.Event()
        slow.answer = lambda _arrival: say_nothing_until(others_came)
        for number in range(5):
            act(ledger, f"p-{number}")
        endpoints = a_webhook(slow, name="slow", timeout_s=300, concurrency=1, max_attempts=1), a_webhook(here)
        sending = threading.Thread(target=send, args=(ledger, *endpoints), daemon=True)
        sending.start()
        try:
            give_up = time.monotonic() + 60
            while len(here.arrivals) < 5 or not slow.arrivals:
                assert time.monotonic() < give_up
                time.sleep(0.01)
            assert len(slow.arrivals) == 1
        finally:
            others_came.set()
            sending.join()


def test_a_long_reply_is_not_read_to_its_end(ledger: Ledger, here: Receiver) -> None:
    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    here.answer = lambda _arrival: endless
    act(ledger)
    assert send(ledger, a_webhook(here)) == {END: 1}
    assert outbox_queue.counts(ledger)[END].delivered == 1


def test_what_the_environment_says_of_proxies_is_not_heeded(
    ledger: Ledger, here: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    act(ledger)
    send(ledger, a_webhook(here))
    assert len(here.arrivals) == 1


def test_what_is_another_s_by_now_is_not_sent(ledger: Ledger, here: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "LEASE_TIMEOUTS", 0.9)  # as if it had been stopped between taking and sending
    monkeypatch.setattr(sender_module, "LEDGER_S", 0.0)
    act(ledger)

    async def once() -> None:
        sender = a_sender(ledger, a_webhook(here, timeout_s=0.4))
        async with sender._client() as client:
            (delivery,) = sender._next(a_webhook(here, timeout_s=0.4), 1)
            assert await sender._attempt(client, a_webhook(here, timeout_s=0.4), delivery) is None

    run(once())
    assert here.arrivals == []


def test_a_ledger_that_is_slower_than_the_timeout_stops_no_delivery(
    ledger: Ledger, here: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    act(ledger)
    webhook = a_webhook(here)
    monkeypatch.setattr(sender_module, "now", lambda: now() + timedelta(seconds=webhook.timeout_s + 5))
    assert send(ledger, webhook) == {END: 1}
    assert here.actions() == [1]


def test_a_sender_that_is_told_to_stop_ends_what_is_under_way(ledger: Ledger, here: Receiver) -> None:
    told = threading.Event()

    def slowly(_arrival: Arrival) -> int:
        told.wait(60)
        return 200

    here.answer = slowly
    for number in range(3):
        act(ledger, f"p-{number}")

    async def work() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(a_sender(ledger, a_webhook(here, concurrency=1)).run(stop))
        while not here.arrivals:
            await asyncio.sleep(0.01)
        stop.set()
        told.set()
        await running

    run(work())
    found = outbox_queue.counts(ledger)[END]
    assert (found.delivered, found.pending) == (1, 2)


def test_a_sender_survives_a_ledger_that_fails(
    ledger: Ledger, here: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, failures = outbox_queue.take, iter([OSError("the disk is gone")])

    def take(*arguments: Any, **options: Any) -> Any:
        for failure in failures:
            raise failure
        return real(*arguments, **options)

    monkeypatch.setattr(outbox_queue, "take", take)
    act(ledger)

    async def work() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(a_sender(ledger, a_webhook(here)).run(stop))
        while not here.arrivals:
            await asyncio.sleep(0.01)
        stop.set()
        await running

    run(work())
    assert "the outbox of platform failed" in caplog.text


def test_two_senders_share_the_work_and_send_nothing_twice(ledger: Ledger, here: Receiver) -> None:
    for number in range(60):
        act(ledger, f"p-{number % 9}")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: drain(ledger, a_webhook(here)), range(3)))
    assert sorted(here.actions()) == list(range(1, 61))
    assert in_order(here)


def test_the_wait_doubles_up_to_the_bound_and_is_never_the_same(here: Receiver) -> None:
    webhook = a_webhook(here, first_retry_s=10, max_retry_s=100, max_attempts=1000)
    chance = random.Random(1)
    for attempts, most in ((1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (999, 100)):
        waits = {wait_after(webhook, attempts, chance) for _ in range(200)}
        seconds = [wait.total_seconds() for wait in waits if wait is not None]
        assert len(seconds) > 150
        assert most / 2 <= min(seconds) < most * 0.55
        assert most * 0.95 < max(seconds) <= most
    assert wait_after(webhook, 1000, chance) is None


@pytest.mark.parametrize("secret", [None, "", "fifteen letters"])
def test_a_secret_that_is_missing_or_short_is_told_without_saying_it(here: Receiver, secret: str | None) -> None:
    environment = {} if secret is None else {"HOOK_SECRET": secret}
    with pytest.raises(
        ConfigError, match=r"webhooks.platform.secret_env: the environment's HOOK_SECRET has \d+"
    ) as told:
        secrets_of([a_webhook(here)], environment)
    assert not secret or secret not in str(told.value)


def test_secrets_are_read_from_the_environment(here: Receiver) -> None:
    assert secrets_of([a_webhook(here)], {"HOOK_SECRET": SECRET}) == {END: SECRET}
    assert secrets_of([], {}) == {}


def misbehaving(seed: int) -> Any:
    chance = random.Random(seed)
    lock = threading.Lock()

    def answer(_arrival: Arrival) -> Answer:
        with lock:
            drawn = chance.random()
        if drawn < 0.1:
            return 500
        if drawn < 0.15:
            return hang_up
        if drawn < 0.17:
            return say_nothing_for(1.5)
        time.sleep(drawn * 0.03)
        return 200

    return answer


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_sender_that_is_killed_again_and_again_loses_nothing_and_keeps_the_order(
    database: str, request: pytest.FixtureRequest, here: Receiver
) -> None:
    if database == "sqlite":
        ledger = request.getfixturevalue("ledger")
        url = str(ledger.engine.url)
    else:
        url = request.getfixturevalue("postgres_ledger")
        ledger = Ledger(url)
    here.answer = misbehaving(7)
    webhook = a_webhook(here, timeout_s=1, max_attempts=1000, max_retry_s=0.2)
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        chance = random.Random(3)
        while not stop.is_set():
            written.append(act(ledger, f"p-{chance.randrange(25)}"))
            time.sleep(0.02)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for longer in range(8):  # where the machine is slow they live longer: else none had sent anything
            most = 0.8 * 2**longer
            done = killed("send", url, webhook.model_dump_json(), SECRET, seed=5, kills=25, least=0.0, most=most)
            assert done["killed"] == 25
            if len(set(here.actions())) > 50:
                break
    finally:
        stop.set()
        writing.join()
    assert len(set(here.actions())) > 50, "they were all killed before they had sent anything"
    drain(ledger, webhook, within_s=900)
    assert sorted(set(here.actions())) == written == list(range(1, len(written) + 1))
    assert in_order(here)
    assert all(arrival.signed for arrival in here.arrivals)
    assert len({arrival.said["delivery_id"] for arrival in here.arrivals}) == len(written)
    found = outbox_queue.counts(ledger)[END]
    assert (found.delivered, found.dead, found.pending) == (len(written), 0, 0)
    assert len(here.arrivals) < 10 * len(written)  # a kill costs some, and so does a slow machine
    if database == "postgresql":
        ledger.close()


def test_what_a_killed_sender_held_is_sent_when_its_lease_ends(ledger: Ledger, here: Receiver) -> None:
    act(ledger)
    outbox_queue.fan_out(ledger, END)
    outbox_queue.take(ledger, END, limit=1, hold=timedelta(minutes=5))  # and then it was killed
    assert send(ledger, a_webhook(here)) == {END: 0}
    with ledger.write() as connection:
        row = connection.execute(deliveries.select()).one()
        connection.execute(update(deliveries).values(next_at=row.next_at - timedelta(minutes=6)))
    assert send(ledger, a_webhook(here)) == {END: 1}
    assert json.loads(here.arrivals[0].body)["action_id"] == 1
