"""The ledger on a real PostgreSQL: all that is asked of it on SQLite, and what only many writers can bring about."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from moderation.errors import ConfigError, ConflictError
from moderation.storage import dialect, drift, experiments, label_rows, retraining
from moderation.storage.dialect import announce, claim, settled
from moderation.storage.drift import Reference, Window
from moderation.storage.lake import Dataset, Exported, Lake
from moderation.storage.ledger import Ledger, Recorded
from moderation.storage.people_tables import actions
from moderation.storage.tables import decisions, labels, posts
from serve.outbox import queue as outbox_queue
from tests.moderation.storage import (
    test_events,
    test_experiments,
    test_label_rows,
    test_lake,
    test_ledger,
    test_media_rows,
    test_retraining,
)
from tests.moderation.storage.acts import act
from tests.moderation.storage.rows import a_label, an_entry, at, record, say, versions_of
from tests.moderation.storage.writers import add_rows, held_open, in_processes, put_posts
from tests.moderation.waiting import LONG_S, wait_until
from tests.serve.media import test_collect
from tests.serve.metrics import test_queries
from tests.serve.outbox import test_queue
from tests.serve.rollout import test_promotions
from tests.serve.statements import test_rows

pytestmark = pytest.mark.slow

VARIANT = "text-multi"
SQLITE_ONLY = {
    # They wait for SQLite's BEGIN IMMEDIATE; here a claim does it, which is tested below.
    "test_a_ramp_that_another_one_overtakes_takes_no_units_back",
    "test_a_ramp_that_a_stop_overtakes_changes_nothing",
    "test_a_folder_that_cannot_be_written_is_an_error_at_once",
    # PostgreSQL chooses by statistics, and scans few rows.
    "test_every_window_is_found_by_an_index",
}


@pytest.fixture
def url(postgres_ledger: str) -> str:
    """An empty ledger of the test's own."""
    return postgres_ledger


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def every_test_of(module: Any) -> dict[str, Any]:
    """The module's tests, to be run here too, with this module's `url`."""
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_") and callable(test)}
    return {f"{name}__{module.__name__.rpartition('.')[2]}": tests[name] for name in tests if name not in SQLITE_ONLY}


_MODULES = (test_ledger, test_experiments, test_retraining, test_promotions, test_lake, test_events, test_queries)
for _module in (*_MODULES, test_queue, test_rows, test_label_rows, test_media_rows, test_collect):
    globals().update(every_test_of(_module))


# How it is opened.


def test_the_bare_url_and_the_driver_s_own_are_the_same(url: str) -> None:
    ledger = Ledger(url.replace("postgresql://", "postgresql+psycopg://"))
    assert (ledger.engine.dialect.name, ledger.engine.dialect.driver) == ("postgresql", "psycopg")
    record(ledger, an_entry())
    ledger.close()
    again = Ledger(url)
    assert again.engine.dialect.driver == "psycopg"
    assert set(again.newest(["p-1"])) == {"p-1"}
    again.close()


@pytest.mark.parametrize("bad", ["mysql://db/seawall", "postgresql+psycopg2://db/seawall", "not a url"])
def test_what_is_neither_sqlite_nor_postgresql_is_told(bad: str) -> None:
    with pytest.raises(ConfigError, match="SEAWALL_LEDGER_URL: is"):
        Ledger(bad)


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(DBAPIError, match="read-only"), ledger.read() as connection:
        connection.execute(text("DELETE FROM posts"))
    with ledger.write() as connection:  # the same connection, from the pool
        connection.execute(text("DELETE FROM posts"))


def others(ledger: Ledger) -> int:
    """How many connections to the database there are beside the writer's."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    with ledger.write() as connection:
        return int(connection.execute(text(asked)).scalar_one())


def test_a_server_that_closed_its_connections_is_asked_again(ledger: Ledger, neighbour: Ledger) -> None:
    record(ledger, an_entry())
    with neighbour.write() as connection:
        closed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        connection.execute(text(f"{closed} AND datname = current_database()"))
    wait_until(lambda: others(neighbour) == 0)
    assert set(ledger.newest(["p-1"])) == {"p-1"}


# What its columns hold.


def test_texts_and_names_may_hold_any_character(ledger: Ledger) -> None:
    for index, odd in enumerate(["\0" * 128, "a\0b", "\ufdd0", "\ufdd00\ufdd01\0" * 25, "\uffff 🍅", "' % :x {}"]):
        entry = an_entry(f"p-{index}", odd)
        entry = replace(entry, post=entry.post.model_copy(update={"community": odd, "author": {odd: odd}}))
        record(ledger, entry)
        assert say(ledger, a_label(odd, f"p-{index}")).accepted == 1
        assert say(ledger, a_label(odd, f"p-{index}")).duplicates == 1
        here = posts.c.post_id == f"p-{index}"
        with ledger.read() as connection:
            kept = connection.execute(select(posts.c.text, posts.c.community, posts.c.author).where(here)).one()
            assert connection.execute(select(labels.c.id).where(labels.c.post_id == f"p-{index}")).scalar() == odd
        assert tuple(kept) == (odd, odd, {odd: odd})
    assert ledger.newest(["p-\0"]) == {}
    assert ledger.history("\0") == []


def test_a_number_that_is_none_is_null_and_fails_no_group(ledger: Ledger) -> None:
    entry = an_entry("p-1")
    entry.features["characters"] = float("nan")
    author = {"age_days": float("inf"), "karma": 7.0}
    entry = replace(entry, post=entry.post.model_copy(update={"author": author}))
    ledger.record([entry, an_entry("p-2")])
    with ledger.read() as connection:
        features = connection.execute(select(decisions.c.features).order_by(decisions.c.decision_id)).scalars().all()
        kept = connection.execute(select(posts.c.author).where(posts.c.post_id == "p-1")).scalar_one()
    assert [each["characters"] for each in features] == [None, 21.0]
    assert kept == {"age_days": None, "karma": 7.0}


def test_row_numbers_go_beyond_32_bits(ledger: Ledger, lake: Lake) -> None:
    with ledger.write() as connection:
        for sequence in ("decisions_decision_id_seq", "labels_label_seq_seq", "actions_action_id_seq"):
            connection.execute(text(f"ALTER SEQUENCE {sequence} RESTART WITH {2**40}"))
    record(ledger, an_entry())
    say(ledger, a_label())
    act(ledger)
    with ledger.read() as connection:
        for number in (decisions.c.decision_id, labels.c.label_seq, actions.c.action_id):
            assert settled(connection, number) == 2**40
    with held_open(ledger, an_entry("p-2")), ledger.read() as connection:
        assert settled(connection, decisions.c.decision_id) == 2**40


# Several gateways.


def test_processes_that_put_the_same_posts_agree_on_every_version(ledger: Ledger, url: str) -> None:
    seen = in_processes(3, put_posts, url, 40)
    fresh = [(post_id, version) for post_id, _, version, is_fresh in seen if is_fresh]
    assert len(fresh) == len(set(fresh))
    contents = {(post_id, version): content for post_id, content, version, is_fresh in seen if is_fresh}
    for post_id, content, version, _ in seen:
        assert contents[post_id, version] == content
    for number in range(20):
        kept = [recorded.content_hash for recorded in ledger.history(f"p-{number}")]
        assert versions_of(ledger, f"p-{number}") == list(range(1, len(kept) + 1))
        assert kept == [contents[f"p-{number}", version] for version in range(1, len(kept) + 1)]


def meanwhile(work: Callable[[], Any]) -> Future[Any]:
    """Do something in a thread, and be sure that it waits for us."""
    future = _POOL.submit(work)
    with pytest.raises(TimeoutError):
        future.result(0.3)
    return future


_POOL = ThreadPoolExecutor(8)


def test_of_two_that_put_the_same_new_post_the_loser_replays(ledger: Ledger, neighbour: Ledger) -> None:
    with held_open(ledger, an_entry()):
        loser = meanwhile(lambda: record(neighbour, an_entry(minutes=1)))
        record(neighbour, an_entry("p-2"))  # another post waits for nobody
    result = loser.result(LONG_S)
    assert (result.content_version, result.fresh, result.created_at) == (1, False, at(1))
    assert versions_of(ledger, "p-1") == [1]


def test_of_two_that_put_other_content_the_later_one_is_version_2_and_an_older_one_a_conflict(
    ledger: Ledger, neighbour: Ledger
) -> None:
    with held_open(ledger, an_entry(text="a", minutes=1)):
        later = meanwhile(lambda: neighbour.record([an_entry(text="b", minutes=2)]))
        older = meanwhile(lambda: neighbour.record([an_entry(text="c", minutes=0)]))
    ((version_2,), (conflict,)) = later.result(LONG_S), older.result(LONG_S)
    assert isinstance(version_2, Recorded)
    assert (version_2.content_version, version_2.fresh) == (2, True)
    assert isinstance(conflict, ConflictError)
    assert versions_of(ledger, "p-1") == [1, 2]


def test_if_the_first_of_two_is_lost_the_second_is_recorded(ledger: Ledger, neighbour: Ledger) -> None:
    with held_open(ledger, an_entry(), lose=True):
        second = meanwhile(lambda: record(neighbour, an_entry()))
    assert (second.result(LONG_S).content_version, second.result(LONG_S).fresh) == (1, True)


def test_a_label_that_two_send_at_once_is_taken_once(ledger: Ledger, neighbour: Ledger) -> None:
    record(ledger, an_entry())
    with held_open(ledger, a_label("l-1")):
        loser = meanwhile(lambda: say(neighbour, a_label("l-2"), a_label("l-1")))
        assert say(neighbour, a_label("l-3")).accepted == 1
    assert (loser.result(LONG_S).accepted, loser.result(LONG_S).duplicates) == (1, 1)


# Claims.


def test_a_claim_of_many_keeps_away_whoever_claims_one_and_the_other_way_round(
    ledger: Ledger, neighbour: Ledger
) -> None:
    many = [f"p-{number}" for number in range(dialect.CLAIMS + 1)]
    for first, second in ((many, ["p-0"]), (["p-0"], many), (many, ["elsewhere"]), ([], ["p-0"])):
        with ledger.write() as connection:
            claim(connection, "post", first)
            waiting = meanwhile(lambda second=second: claimed(neighbour, "post", second))  # type: ignore[misc]  # untyped
            claimed(neighbour, "label", second)  # of another kind
        waiting.result(LONG_S)


def claimed(ledger: Ledger, kind: str, names: Sequence[str]) -> None:
    with ledger.write() as connection:
        claim(connection, kind, names)


def test_claims_in_any_order_never_wait_for_each_other(ledger: Ledger, neighbour: Ledger) -> None:
    names = [f"p-{number}" for number in range(12)]

    def work(index: int) -> None:
        chance = random.Random(index)
        for _ in range(30):
            with (ledger, neighbour)[index % 2].write() as connection:
                claim(connection, "post", chance.sample(names, 6))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_no_claim_outlives_its_transaction(ledger: Ledger, neighbour: Ledger) -> None:
    with suppress(RuntimeError), ledger.write() as connection:
        claim(connection, "post", ["p-1"])
        raise RuntimeError("it fails")
    claimed(neighbour, "post", ["p-1"])


def test_a_retraining_that_begins_meanwhile_is_refused(ledger: Ledger, neighbour: Ledger) -> None:
    drift.raise_alert(ledger, VARIANT, 1, window_to=at(0), evidence={}, reason="drift")
    with held_open(ledger, lambda: retraining.begin_request(ledger, VARIANT, reason="-")):
        second = meanwhile(lambda: retraining.begin_request(neighbour, VARIANT, reason="-"))
        alert = meanwhile(
            lambda: drift.raise_alert(neighbour, VARIANT, 1, window_to=at(0), evidence={}, reason="drift")
        )
    with pytest.raises(ConflictError, match="is running"):
        second.result(LONG_S)
    assert alert.result(LONG_S) == (None, None)


def test_a_ramp_that_another_overtakes_takes_no_units_back(ledger: Ledger, neighbour: Ledger) -> None:
    experiments.create(ledger, "e-1", variant=VARIANT, champion_version=1, challenger_version=2, share=0.1)
    with held_open(ledger, lambda: experiments.ramp(ledger, "e-1", 0.5)):
        less = meanwhile(lambda: experiments.ramp(neighbour, "e-1", 0.2))
        more = meanwhile(lambda: experiments.ramp(neighbour, "e-1", 0.7))
    with pytest.raises(ConflictError, match="is below"):
        less.result(LONG_S)
    assert more.result(LONG_S).share == 0.7
    with ledger.read() as connection:
        history = connection.execute(text("SELECT history FROM experiments")).scalar_one()
    assert [step["buckets"] for step in history] == [1000, 5000, 7000]


def test_of_two_experiments_that_begin_at_once_one_does(ledger: Ledger, neighbour: Ledger) -> None:
    versions = {"variant": VARIANT, "champion_version": 1, "challenger_version": 2, "share": 0.1}
    with held_open(ledger, lambda: experiments.create(ledger, "e-1", **versions)):  # type: ignore[arg-type]  # mixed
        second = meanwhile(lambda: experiments.create(neighbour, "e-2", **versions))  # type: ignore[arg-type]  # mixed
    with pytest.raises(ConflictError, match="has a running experiment already: 'e-1'"):
        second.result(LONG_S)


def test_a_reference_that_two_set_at_once_is_set(ledger: Ledger, neighbour: Ledger) -> None:
    first, second = Reference(at(0), at(60), 300), Reference(at(60), at(120), 400)
    with held_open(ledger, lambda: drift.put_reference(ledger, VARIANT, 1, first)):
        waiting = meanwhile(lambda: drift.put_reference(neighbour, VARIANT, 1, second))
    waiting.result(LONG_S)
    assert drift.get_reference(ledger, VARIANT, 1) == second


def test_a_window_that_two_checks_put_at_once_is_one(ledger: Ledger, neighbour: Ledger) -> None:
    first, second = (Window(at(0), at(60), rows, False, {}) for rows in (300, 400))
    with held_open(ledger, lambda: drift.put_window(ledger, VARIANT, 1, first)):
        waiting = meanwhile(lambda: drift.put_window(neighbour, VARIANT, 1, second))
    waiting.result(LONG_S)
    assert drift.last_windows(ledger, VARIANT, 1, until=at(60), count=9) == [second]


# The lake.


def exported_ids(lake: Lake, dataset: Dataset) -> list[str]:
    name = "post_id" if dataset == "posts" else "label_id"
    return [row[name] for file in lake.files(dataset) for row in pq.read_table(file).to_pylist()]


def test_a_row_that_is_committed_late_is_not_missed(ledger: Ledger, neighbour: Ledger, lake: Lake) -> None:
    record(neighbour, an_entry("p-1"))
    with held_open(ledger, an_entry("p-2")):
        record(neighbour, an_entry("p-3"))  # commits before, with a larger number
        assert lake.export(neighbour) == Exported(1, 0)
        record(neighbour, an_entry("p-4"))  # nobody was held up by the export
        assert lake.export(neighbour) == Exported(0, 0)
    assert lake.export(neighbour) == Exported(3, 0)
    assert exported_ids(lake, "posts") == ["p-1", "p-2", "p-3", "p-4"]


def test_a_label_that_is_committed_late_is_not_missed(ledger: Ledger, neighbour: Ledger, lake: Lake) -> None:
    record(neighbour, an_entry())
    with held_open(ledger, a_label("l-1")):
        say(neighbour, a_label("l-2"))
        record(neighbour, an_entry("p-2"))
        assert lake.export(neighbour) == Exported(2, 0)
    assert lake.export(neighbour) == Exported(0, 2)
    assert exported_ids(lake, "labels") == ["l-1", "l-2"]


def test_a_row_that_never_comes_is_not_waited_for(ledger: Ledger, neighbour: Ledger, lake: Lake) -> None:
    with held_open(ledger, an_entry("p-1"), lose=True):
        record(neighbour, an_entry("p-2"))
        assert lake.export(neighbour) == Exported(0, 0)
    assert lake.export(neighbour) == Exported(1, 0)
    assert exported_ids(lake, "posts") == ["p-2"]


def test_who_only_announced_itself_holds_up_what_comes_after(ledger: Ledger, neighbour: Ledger) -> None:
    record(neighbour, an_entry("p-1"))
    with ledger.write() as connection:
        announce(connection, decisions.c.decision_id)
        record(neighbour, an_entry("p-2"))
        with neighbour.read() as reading:
            assert settled(reading, decisions.c.decision_id) == 1
            assert settled(reading, labels.c.label_seq) == 0
    with neighbour.read() as reading:
        assert settled(reading, decisions.c.decision_id) == 2


def test_exports_during_heavy_writing_miss_nothing_and_repeat_nothing(
    ledger: Ledger, url: str, lake: Lake, tmp_path: Path
) -> None:
    enough = tmp_path / "enough"
    writing = _POOL.submit(in_processes, 2, add_rows, url, 60, enough)
    parts = 0
    while not writing.done():
        parts += bool(lake.export(ledger).posts)
        if parts > 5:
            enough.touch()
        time.sleep(0.01)
    lake.export(ledger)
    assert parts > 5
    assert sorted(exported_ids(lake, "posts")) == sorted(writing.result())


# The outbox, and labels out.


def test_an_action_that_is_committed_late_is_not_missed_and_holds_up_what_came_after(
    ledger: Ledger, neighbour: Ledger
) -> None:
    act(neighbour, "p-1")
    with held_open(ledger, lambda: act(ledger, "p-2")):
        act(neighbour, "p-3")  # commits before, with a larger number
        with neighbour.read() as connection:
            assert settled(connection, actions.c.action_id) == 1
            assert settled(connection, labels.c.label_seq) == 0  # another table's floor is another one
        assert outbox_queue.fan_out(neighbour, "platform") == 1
        act(neighbour, "p-4")  # nobody was held up
        assert outbox_queue.fan_out(neighbour, "platform") == 0
    assert outbox_queue.fan_out(neighbour, "platform") == 3
    taken = outbox_queue.take(neighbour, "platform", limit=9, hold=timedelta(minutes=1))
    assert [delivery.post_id for delivery in taken] == ["p-1", "p-2", "p-3", "p-4"]


def test_an_action_that_is_lost_is_not_waited_for(ledger: Ledger, neighbour: Ledger) -> None:
    with held_open(ledger, lambda: act(ledger, "p-1"), lose=True):
        act(neighbour, "p-2")
        assert outbox_queue.fan_out(neighbour, "platform") == 0
    assert outbox_queue.fan_out(neighbour, "platform") == 1


def test_of_two_that_fan_out_at_once_one_does(ledger: Ledger, neighbour: Ledger) -> None:
    act(ledger)
    with held_open(ledger, lambda: outbox_queue.fan_out(ledger, "platform")):
        second = meanwhile(lambda: outbox_queue.fan_out(neighbour, "platform"))
        assert outbox_queue.fan_out(neighbour, "other") == 1  # another endpoint waits for nobody
    assert second.result(LONG_S) == 0


def test_of_two_that_take_at_once_each_gets_something_else(ledger: Ledger, neighbour: Ledger) -> None:
    for number in range(4):
        act(ledger, f"p-{number}")
    outbox_queue.fan_out(ledger, "platform")
    minute = timedelta(minutes=1)
    with held_open(ledger, lambda: outbox_queue.take(ledger, "platform", limit=3, hold=minute)):
        second = meanwhile(lambda: outbox_queue.take(neighbour, "platform", limit=3, hold=minute))
    assert [delivery.action_id for delivery in second.result(LONG_S)] == [4]


def test_the_cursor_of_labels_stops_before_one_that_is_committed_late(ledger: Ledger, neighbour: Ledger) -> None:
    record(neighbour, an_entry())
    say(neighbour, a_label("l-1"))
    with held_open(ledger, a_label("l-2")):
        say(neighbour, a_label("l-3"))
        span = label_rows.span(neighbour, after=0, limit=9)
        assert (span.last, len(list(label_rows.exported(neighbour, span)))) == (1, 1)
    span = label_rows.span(neighbour, after=1, limit=9)
    assert (span.last, len(list(label_rows.exported(neighbour, span)))) == (3, 2)
