"""Which bytes go, when, and that none goes that a post was recorded with meanwhile."""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from moderation.errors import ConflictError, MediaUnavailableError, NotFoundError
from moderation.media import KeepRules
from moderation.storage.ledger import Ledger, now
from moderation.storage.media_rows import MediaScore, keep_scores, known_scores
from moderation.storage.media_store import ASIDE, PASSING, Held, MediaStore, name_of
from moderation.storage.media_tables import media
from moderation.storage.people_tables import reviews
from serve.media import collect as media_collect
from serve.media.collect import ASIDE_FOR, LOCK, Collected, collect
from tests.moderation.storage.acts import a_review, act
from tests.moderation.storage.media import age, with_held
from tests.moderation.storage.rows import record
from tests.moderation.waiting import LONG_S

RULES = KeepRules(days=180, unused_hours=24)
A_DAY = timedelta(days=1)
AN_HOUR = timedelta(hours=1)
LATER = 200 * A_DAY


def post(ledger: Ledger, store: MediaStore, data: bytes = b"a picture", post_id: str = "p-1") -> Held:
    """A request: its bytes are kept, then its decision is recorded."""
    held = store.keep_bytes(data)
    record(ledger, with_held(post_id, held, used_at=now()))
    return held


def removed_at(ledger: Ledger, held: Held) -> datetime | None:
    with ledger.read() as connection:
        found: datetime | None = connection.execute(
            select(media.c.removed_at).where(media.c.sha256 == held.sha256)
        ).scalar_one()
    return found


def let_aside_grow_old(store: MediaStore) -> None:
    for stored in list(store.place.listing(ASIDE)):
        age(store, stored.name, ASIDE_FOR + timedelta(minutes=5))


def run(ledger: Ledger, store: MediaStore, at: datetime) -> Collected:
    """Both steps: what is aside after the first has been there for an hour by the second."""
    first = collect(ledger, store, RULES, at)
    let_aside_grow_old(store)
    second = collect(ledger, store, RULES, now())
    return Collected(second.removed, second.bytes, first.aside, second.restored, first.leftovers + second.leftovers)


def in_time(store: MediaStore, held: Held) -> None:
    with store.open(held.sha256) as path:
        assert path.stat().st_size == held.size


def moved_while_looked_at(store: MediaStore, held: Held) -> bool:
    """In a folder a file that was opened by its name may have another one a moment later; then look again."""
    try:
        in_time(store, held)
    except FileNotFoundError:
        return True
    return False


def test_what_is_used_and_new_stays(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    held = post(ledger, store)
    assert run(ledger, store, begun + 179 * A_DAY) == Collected()
    in_time(store, held)


def test_what_was_not_used_for_days_goes_in_two_steps(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    held = post(ledger, store)
    keep_scores(ledger, [MediaScore((held.sha256, "image", "image-nsfw", 1), "{}", begun)])
    at = begun + LATER
    assert collect(ledger, store, RULES, at) == Collected(aside=1)
    assert removed_at(ledger, held) == at
    in_time(store, held)  # an hour more
    assert collect(ledger, store, RULES, now()) == Collected()
    let_aside_grow_old(store)
    assert collect(ledger, store, RULES, now()) == Collected(removed=1, bytes=9)
    assert not store.has(held.sha256)
    with pytest.raises(NotFoundError), store.open(held.sha256):
        pass
    assert known_scores(ledger, [(held.sha256, "image", "image-nsfw", 1)]) == {}
    assert removed_at(ledger, held) == at


def test_a_later_post_prolongs(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    held = post(ledger, store)
    record(ledger, with_held("p-2", held, used_at=begun + 100 * A_DAY))
    assert run(ledger, store, begun + LATER) == Collected()
    assert run(ledger, store, begun + 281 * A_DAY).removed == 1


def test_what_no_post_was_recorded_with_goes_sooner(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    held = post(ledger, store)
    unused = store.keep_bytes(b"the request broke off")
    assert run(ledger, store, begun + 23 * AN_HOUR) == Collected()
    assert run(ledger, store, begun + 25 * AN_HOUR) == Collected(removed=1, bytes=21, aside=1)
    assert (store.has(unused.sha256), store.has(held.sha256)) == (False, True)


def test_what_a_refused_post_put_aside_goes_after_an_hour_unless_another_is_recorded_with_it(
    ledger: Ledger, store: MediaStore, begun: datetime
) -> None:
    post(ledger, store)
    refused, raced = store.keep_bytes(b"refused"), store.keep_bytes(b"refused once, and taken at the same time")
    for held in (refused, raced):
        store.put_aside(held.sha256)
    record(ledger, with_held("p-2", raced, used_at=now()))
    assert collect(ledger, store, RULES, begun) == Collected()
    let_aside_grow_old(store)
    assert collect(ledger, store, RULES, begun) == Collected(removed=1, bytes=refused.size, restored=1)
    assert (store.has(refused.sha256), store.place.has(name_of(raced.sha256))) == (False, True)


def test_what_was_touched_lately_stays(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    post(ledger, store)
    with ledger.write() as connection:
        connection.execute(update(media).values(last_used_at=begun - LATER))
    assert run(ledger, store, begun + AN_HOUR) == Collected()


@pytest.mark.parametrize("waits", ["review", "appeal", "held"])
def test_a_post_that_waits_for_a_person_keeps_its_media(
    ledger: Ledger, store: MediaStore, begun: datetime, waits: str
) -> None:
    held = post(ledger, store)
    if waits == "held":
        act(ledger, action="hold")
    else:
        a_review(ledger, kind="flagged" if waits == "review" else "appeal", by=None)
    assert run(ledger, store, begun + LATER) == Collected()
    if waits == "held":
        act(ledger, action="allow", actor="review")
    else:
        with ledger.write() as connection:
            connection.execute(update(reviews).values(status="decided"))
    assert run(ledger, store, begun + LATER).removed == 1
    assert not store.has(held.sha256)


def test_one_that_waits_is_enough(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    held = post(ledger, store)
    post(ledger, store, post_id="p-2")
    act(ledger, "p-2", "hold")
    assert run(ledger, store, begun + LATER) == Collected()
    in_time(store, held)


def test_who_begins_to_wait_within_the_hour_gets_the_bytes_back(
    ledger: Ledger, store: MediaStore, begun: datetime
) -> None:
    held = post(ledger, store)
    assert collect(ledger, store, RULES, begun + LATER).aside == 1
    a_review(ledger, kind="appeal", by=None)
    let_aside_grow_old(store)
    assert collect(ledger, store, RULES, now()) == Collected(restored=1)
    assert removed_at(ledger, held) is None
    assert store.place.has(name_of(held.sha256))


@pytest.mark.parametrize("known", [True, False], ids=["of a post", "of none"])
def test_a_repost_between_the_look_and_the_move_keeps_its_bytes(
    ledger: Ledger, store: MediaStore, begun: datetime, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    post(ledger, store, b"something else", "p-0")
    held = post(ledger, store) if known else store.keep_bytes(b"a picture")
    age(store, name_of(held.sha256), LATER)
    real = store.place.move

    def late(name: str, to: str) -> bool:
        if name == name_of(held.sha256):
            assert post(ledger, store, post_id="p-2") == held  # it found the bytes, and touched them
        return real(name, to)

    monkeypatch.setattr(store.place, "move", late)
    if known:
        with ledger.write() as connection:
            connection.execute(update(media).where(media.c.sha256 == held.sha256).values(last_used_at=begun - LATER))
    assert collect(ledger, store, RULES, begun).aside == 1
    in_time(store, held)
    monkeypatch.undo()
    let_aside_grow_old(store)
    assert collect(ledger, store, RULES, now()) == Collected(restored=1)
    in_time(store, held)
    assert removed_at(ledger, held) is None


def test_a_repost_after_the_move_writes_the_bytes_anew(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    held = post(ledger, store)
    collect(ledger, store, RULES, begun + LATER)
    post(ledger, store, post_id="p-2")
    assert store.place.has(name_of(held.sha256))
    let_aside_grow_old(store)
    collect(ledger, store, RULES, now())
    in_time(store, held)
    assert list(store.place.listing(ASIDE)) == []


def test_a_collection_that_is_stopped_between_row_and_bytes_is_gone_on_with(
    ledger: Ledger, store: MediaStore, begun: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = post(ledger, store)

    def fail(*_: Any) -> bool:
        raise OSError("the disk is gone")

    for method in ("move", "delete"):
        monkeypatch.setattr(store.place, method, fail)
        with pytest.raises(MediaUnavailableError, match="the disk is gone"):
            collect(ledger, store, RULES, begun + LATER)
        in_time(store, held)
        monkeypatch.undo()
        if method == "move":
            assert collect(ledger, store, RULES, begun + LATER) == Collected(aside=1)
            let_aside_grow_old(store)
    assert collect(ledger, store, RULES, now()).removed == 1


def test_leftovers_of_killed_requests_go_after_an_hour(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    store.place.put(f"{PASSING}/{'0' * 32}", b"lent")
    assert collect(ledger, store, RULES, begun + timedelta(minutes=59)) == Collected()
    assert collect(ledger, store, RULES, begun + timedelta(minutes=62)) == Collected(leftovers=1)
    assert list(store.place.listing(PASSING)) == []


def test_a_ledger_that_knows_no_medium_is_most_likely_the_wrong_one(
    ledger: Ledger, store: MediaStore, begun: datetime
) -> None:
    held = store.keep_bytes(b"a picture")
    assert run(ledger, store, begun + LATER) == Collected()
    in_time(store, held)


def test_what_is_no_medium_is_left_alone(ledger: Ledger, store: MediaStore, begun: datetime) -> None:
    post(ledger, store)
    for name in ("ab/README", f"ab/{'f' * 63}", "notes"):
        store.place.put(name, b"")
    assert run(ledger, store, begun + LATER).removed == 1
    assert store.place.has("ab/README")


def test_only_one_collects_at_a_time(ledger: Ledger, neighbour: Ledger, store: MediaStore, begun: datetime) -> None:
    with neighbour.lock(LOCK), pytest.raises(ConflictError, match="lock 'media-collect' is held by"):
        collect(ledger, store, RULES, begun)
    assert collect(ledger, store, RULES, begun) == Collected()


def test_more_than_a_page(ledger: Ledger, store: MediaStore, begun: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_collect, "PAGE", 2)
    # The first byte of a SHA-256 is its folder: enough that some folder has more than two.
    names = [f"ab{number:062x}" for number in range(5)]
    for name in names:
        store.place.put(name_of(name), b"x")
    with ledger.write() as connection:
        use = {"kind": "image", "first_used_at": begun, "last_used_at": begun}
        connection.execute(insert(media), [{"sha256": name} | use for name in names])
    assert run(ledger, store, begun + LATER) == Collected(removed=5, bytes=5, aside=5)


@pytest.mark.slow
def test_a_collector_that_never_rests_takes_nothing_from_those_who_post(
    ledger: Ledger, neighbour: Ledger, store: MediaStore, media_url: str, hasty: float
) -> None:
    pictures = [os.urandom(100) for _ in range(3)]
    rules = KeepRules(days=1e-7, unused_hours=1e-6)
    ended = threading.Event()
    done: list[Collected] = []

    def collecting() -> None:
        mine = MediaStore(media_url)
        while not ended.is_set():
            done.append(collect(neighbour, mine, rules, now()))

    def enough(seen: int) -> bool:
        return seen > 5 and any(each.aside for each in done)

    def posting(index: int) -> int:
        chance, seen = random.Random(index), 0
        started = time.monotonic()
        number = 0
        while (lasted := time.monotonic() - started) < 8 or (not enough(seen) and lasted < LONG_S):
            number += 1
            begin = time.monotonic()
            held = post(ledger, store, chance.choice(pictures), f"p-{index}-{number}")
            with suppress(NotFoundError):
                while moved_while_looked_at(store, held):
                    pass
                seen += 1
                continue
            # S3's times are whole seconds; beyond what is promised nothing is.
            assert time.monotonic() - begin > hasty - 1, "bytes were gone that a post was recorded with"
        return seen

    with ThreadPoolExecutor(3) as pool:
        collector: Any = pool.submit(collecting)
        try:
            seen = sum(pool.map(posting, range(2)))
        finally:
            ended.set()  # or who posted in vain would wait for the collector for ever
        collector.result(LONG_S)
    assert seen > 10
    assert sum(each.aside for each in done) > 0
