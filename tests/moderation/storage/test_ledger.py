"""The ledger, on real SQLite: the one truth."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError, StatementError

from moderation.errors import ConflictError, LedgerError, NotFoundError
from moderation.posts import Decision
from moderation.storage import labelling
from moderation.storage.ledger import Ledger, Recorded, conflict_with, found
from moderation.storage.tables import decisions, labels, locks, posts, scorings
from tests.moderation.storage.rows import BEGIN, a_label, an_entry, at, record, say, versions_of
from tests.moderation.waiting import LONG_S


def counts(ledger: Ledger) -> tuple[int, int, int]:
    with ledger.read() as connection:
        posts_, decisions_, labels_ = (
            int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            for table in (posts, decisions, labels)
        )
    return posts_, decisions_, labels_


def test_a_decision_is_recorded_with_its_reply(ledger: Ledger) -> None:
    entry = an_entry()
    recorded = record(ledger, entry)
    assert (recorded.content_version, recorded.fresh) == (1, True)
    assert (recorded.content_hash, recorded.created_at) == (entry.content_hash, BEGIN)
    assert Decision.model_validate_json(recorded.body) == entry.decision
    again = ledger.newest(["p-1"])["p-1"]
    assert again == Recorded(recorded.body, entry.content_hash, BEGIN, 1, fresh=False)
    assert found(ledger.newest(["p-1"]), "p-1") == again


def test_what_was_never_recorded_is_not_there(ledger: Ledger) -> None:
    assert ledger.newest([]) == {}
    assert ledger.newest(["p-1"]) == {}
    assert ledger.history("p-1") == []
    with pytest.raises(NotFoundError, match="post 'p-1' is not recorded"):
        found(ledger.newest(["p-1"]), "p-1")


def test_the_same_content_is_replayed_and_not_recorded_again(ledger: Ledger) -> None:
    first = record(ledger, an_entry())
    for minutes, noted in ((-5, 0), (0, 0), (5, 5)):
        replayed = record(ledger, an_entry(minutes=minutes))
        assert replayed == Recorded(first.body, first.content_hash, at(noted), 1, fresh=False)
    assert counts(ledger) == (1, 1, 0)


def test_nothing_older_follows_content_that_came_again(ledger: Ledger, neighbour: Ledger) -> None:
    first = an_entry(text="a")
    record(ledger, first)
    for minutes in (5, 3):  # the later one stays
        noted = ledger.note_again({"p-1": (first.content_hash, at(minutes))})
        assert (noted["p-1"].content_version, noted["p-1"].created_at, noted["p-1"].fresh) == (1, at(5), False)
    (conflict,) = neighbour.record([an_entry(text="b", minutes=4)])
    assert isinstance(conflict, ConflictError)
    assert "created at 2020-01-01T00:05:00+00:00, later than" in str(conflict)
    assert record(neighbour, an_entry(text="b", minutes=6)).content_version == 2


def test_content_that_is_no_longer_the_newest_does_not_come_again(ledger: Ledger) -> None:
    old = an_entry(text="a")
    record(ledger, old)
    newest = record(ledger, an_entry(text="b", minutes=1))
    assert ledger.note_again({"p-1": (old.content_hash, at(9))}) == {"p-1": replace(newest, fresh=False)}
    assert ledger.note_again({"p-2": (old.content_hash, at(9))}) == {}
    assert [recorded.created_at for recorded in ledger.history("p-1")] == [at(0), at(1)]


def test_other_content_becomes_the_next_version_and_the_history_stays(ledger: Ledger) -> None:
    first = record(ledger, an_entry(text="a"))
    second = record(ledger, an_entry(text="b", minutes=1))
    back = record(ledger, an_entry(text="a", minutes=2))
    assert [recorded.content_version for recorded in (first, second, back)] == [1, 2, 3]
    assert [json.loads(recorded.body)["content_version"] for recorded in ledger.history("p-1")] == [1, 2, 3]
    assert [recorded.created_at for recorded in ledger.history("p-1")] == [at(0), at(1), at(2)]
    assert ledger.newest(["p-1"])["p-1"].content_version == 3


def test_other_content_of_the_same_moment_is_newer(ledger: Ledger) -> None:
    record(ledger, an_entry(text="a"))
    assert record(ledger, an_entry(text="b")).content_version == 2


def test_older_content_is_a_conflict_that_says_both_times(ledger: Ledger) -> None:
    newest = record(ledger, an_entry(text="b", minutes=1))
    (conflict,) = ledger.record([an_entry(text="a", minutes=0)])
    assert isinstance(conflict, ConflictError)
    assert "post 'p-1' has content created at 2020-01-01T00:01:00+00:00" in str(conflict)
    assert "2020-01-01T00:00:00+00:00" in str(conflict)
    assert versions_of(ledger, "p-1") == [1]
    assert ledger.newest(["p-1"])["p-1"].body == newest.body


def test_a_conflict_is_known_before_anything_is_scored(ledger: Ledger) -> None:
    newest = record(ledger, an_entry(text="b", minutes=1))
    same, older, newer = an_entry(text="b", minutes=0), an_entry(text="a", minutes=0), an_entry(text="a", minutes=2)
    assert conflict_with(newest, "p-1", same.post.created_at, same.content_hash) is None
    assert isinstance(conflict_with(newest, "p-1", older.post.created_at, older.content_hash), ConflictError)
    assert conflict_with(newest, "p-1", newer.post.created_at, newer.content_hash) is None


def test_one_batch_may_hold_a_post_more_than_once(ledger: Ledger) -> None:
    results = ledger.record(
        [
            an_entry("p-1", "a"),
            an_entry("p-2", "x"),
            an_entry("p-1", "a", minutes=1),
            an_entry("p-1", "b", minutes=2),
            an_entry("p-1", "c", minutes=1),
            an_entry("p-1", "b"),
        ]
    )
    first, other, repeated, edited, outdated, repeated_edit = results
    assert isinstance(outdated, ConflictError)
    shown = [
        (result.content_version, result.fresh)
        for result in (first, other, repeated, edited, repeated_edit)
        if isinstance(result, Recorded)
    ]
    assert shown == [(1, True), (1, True), (1, False), (2, True), (2, False)]
    assert counts(ledger) == (3, 3, 0)
    assert versions_of(ledger, "p-1") == [1, 2]
    assert [recorded.created_at for recorded in ledger.history("p-1")] == [at(1), at(2)]


def test_a_conflict_does_not_hold_up_its_mates(ledger: Ledger) -> None:
    record(ledger, an_entry("p-1", "b", minutes=1))
    results = ledger.record([an_entry("p-0"), an_entry("p-1", "a"), an_entry("p-2")])
    assert [type(result) for result in results] == [Recorded, ConflictError, Recorded]
    assert set(ledger.newest(["p-0", "p-1", "p-2"])) == {"p-0", "p-1", "p-2"}


def test_an_empty_batch_records_nothing(ledger: Ledger) -> None:
    assert ledger.record([]) == []
    assert counts(ledger) == (0, 0, 0)


def test_a_batch_is_recorded_whole_or_not_at_all(ledger: Ledger) -> None:
    def record_and_fail() -> None:
        with ledger.write() as connection:
            row: dict[str, Any] = {column.name: "x" for column in posts.columns}
            row |= {
                "content_version": 1,
                "created_at": BEGIN,
                "received_at": BEGIN,
                "author": {},
                "came_again_at": None,
            }
            connection.execute(insert(posts), [row])
            raise RuntimeError("the machine stops here")

    with pytest.raises(RuntimeError, match="the machine stops here"):
        record_and_fail()
    assert counts(ledger) == (0, 0, 0)


def test_what_was_recorded_outlives_the_process(ledger: Ledger, neighbour: Ledger, url: str) -> None:
    body = record(ledger, an_entry(text="Ж 🍅 \u0000")).body
    ledger.close()
    assert neighbour.newest(["p-1"])["p-1"].body == body
    reopened = Ledger(url)
    assert reopened.newest(["p-1"])["p-1"].body == body
    reopened.close()


def test_features_and_the_arm_lie_beside_the_decision(ledger: Ledger) -> None:
    record(ledger, an_entry(experiment="e-1", arm="challenger", model_version=2))
    record(ledger, an_entry("p-2", variant=None, model_version=None))
    with ledger.read() as connection:
        features = connection.execute(select(decisions.c.features).order_by(decisions.c.decision_id)).scalars().all()
        rows = connection.execute(select(scorings)).all()
    assert features == [{"characters": 21.0, "language": "en"}] * 2
    assert [tuple(row) for row in rows] == [
        ("p-1", 1, "text", "text-multi", 2, "e-1", "challenger", {"score_abuse": 0.1})
    ]


def test_times_are_kept_in_utc_and_need_a_zone(ledger: Ledger) -> None:
    eastward = datetime(2020, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with ledger.write() as connection:
        connection.execute(insert(locks).values(name="a", holder="h", expires_at=eastward))
    with ledger.read() as connection:
        kept = connection.execute(select(locks.c.expires_at)).scalar_one()
    assert kept == BEGIN
    assert kept.tzinfo is UTC
    with pytest.raises(StatementError, match="has no time zone"), ledger.write() as connection:
        connection.execute(insert(locks).values(name="b", holder="h", expires_at=datetime(2020, 1, 1)))


def test_a_reader_sees_one_state_while_others_write(ledger: Ledger, neighbour: Ledger) -> None:
    record(ledger, an_entry("p-1"))
    with ledger.read() as connection:
        before = connection.execute(select(func.count()).select_from(posts)).scalar_one()
        record(neighbour, an_entry("p-2"))
        after = connection.execute(select(func.count()).select_from(posts)).scalar_one()
    assert (before, after) == (1, 1)
    assert set(ledger.newest(["p-1", "p-2"])) == {"p-1", "p-2"}


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    place = tmp_path / "file" / "ledger.db"
    with pytest.raises(LedgerError, match=f"no ledger at sqlite:///{place}: .*Error: .*"):
        Ledger(f"sqlite:///{place}")


def test_one_post_put_by_many_threads_at_once_is_recorded_once(ledger: Ledger, neighbour: Ledger) -> None:
    barrier = threading.Barrier(12)

    def put(index: int) -> Recorded:
        barrier.wait()
        return record((ledger, neighbour)[index % 2], an_entry(minutes=index))

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(put, range(12)))
    assert [result.fresh for result in results].count(True) == 1
    assert len({result.body for result in results}) == 1
    assert counts(ledger) == (1, 1, 0)


def test_edits_from_many_threads_get_versions_without_a_gap(ledger: Ledger, neighbour: Ledger) -> None:
    def put(index: int) -> Recorded:
        return record((ledger, neighbour)[index % 2], an_entry(text=f"edit {index}"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(put, range(40)))
    assert sorted(result.content_version for result in results) == list(range(1, 41))
    assert versions_of(ledger, "p-1") == list(range(1, 41))


def test_the_newest_content_wins_in_whatever_order_it_comes(ledger: Ledger, neighbour: Ledger) -> None:
    entries = [an_entry(text=f"edit {minutes}", minutes=minutes) for minutes in range(30)]
    random.Random(7).shuffle(entries)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda entry: (ledger, neighbour)[len(entry.post.text) % 2].record([entry]), entries))
    history = ledger.history("p-1")
    times = [recorded.created_at for recorded in history]
    assert times == sorted(times)
    assert history[-1].created_at == at(29)


# Labels.


def test_labels_are_taken_once(ledger: Ledger) -> None:
    record(ledger, an_entry())
    first = say(ledger, a_label())
    again = say(ledger, a_label())
    assert (first.accepted, first.duplicates, first.errors) == (1, 0, [])
    assert (again.accepted, again.duplicates, again.errors) == (0, 1, [])
    assert counts(ledger) == (1, 1, 1)


def test_the_same_id_with_another_content_is_an_error(ledger: Ledger) -> None:
    record(ledger, an_entry())
    say(ledger, a_label())
    out = say(ledger, a_label(labels={"abuse": False}))
    assert (out.accepted, out.duplicates) == (0, 0)
    assert [(error.line, error.detail) for error in out.errors] == [
        (1, "id 'l-1' is recorded already, with another content")
    ]


def test_one_request_may_hold_a_label_twice(ledger: Ledger) -> None:
    record(ledger, an_entry())
    out = say(ledger, a_label(), a_label(), a_label(labels={"hate": True}))
    assert (out.accepted, out.duplicates, [error.line for error in out.errors]) == (1, 1, [3])


def test_the_order_of_a_label_s_fields_makes_no_other_content(ledger: Ledger) -> None:
    record(ledger, an_entry())
    say(ledger, a_label(labels={"abuse": True, "hate": False}))
    out = say(ledger, a_label(labels={"hate": False, "abuse": True}))
    assert (out.accepted, out.duplicates, out.errors) == (0, 1, [])


def test_a_bad_line_does_not_hold_up_the_others_and_keeps_its_number(ledger: Ledger) -> None:
    record(ledger, an_entry())
    lines = {3: a_label("l-1"), 7: a_label("l-2", "p-9"), 9: a_label("l-3", content_version=2), 12: a_label("l-4")}
    out = labelling.add(ledger, lines)
    assert out.accepted == 2
    assert [(error.line, error.detail) for error in out.errors] == [
        (7, "post_id 'p-9' is unknown"),
        (9, "post_id 'p-1' is unknown in version 2"),
    ]


def test_a_label_without_a_version_is_of_the_newest_and_others_of_their_own(ledger: Ledger) -> None:
    record(ledger, an_entry(text="a"))
    record(ledger, an_entry(text="b", minutes=1))
    say(ledger, a_label("l-1"), a_label("l-2", content_version=1), a_label("l-3", content_version=2))
    with ledger.read() as connection:
        found_ = connection.execute(select(labels.c.id, labels.c.content_version).order_by(labels.c.id)).all()
    assert [tuple(row) for row in found_] == [("l-1", 2), ("l-2", 1), ("l-3", 2)]


def test_thousands_of_labels_are_taken_at_once_and_again(ledger: Ledger) -> None:
    ledger.record([an_entry(f"p-{index}") for index in range(1201)])
    lines = [a_label(f"l-{index}", f"p-{index}") for index in range(1201)]
    assert say(ledger, *lines).accepted == 1201
    assert say(ledger, *lines).duplicates == 1201
    assert counts(ledger)[2] == 1201


def test_no_lines_are_no_labels(ledger: Ledger) -> None:
    out = labelling.add(ledger, {})
    assert (out.accepted, out.duplicates, out.errors) == (0, 0, [])


def test_it_is_known_under_which_ids_labels_stand(ledger: Ledger) -> None:
    record(ledger, an_entry())
    assert not labelling.has(ledger, "l-1")
    say(ledger, a_label("l-1"), a_label("l-2", "p-9"))
    assert (labelling.has(ledger, "l-1"), labelling.has(ledger, "l-2")) == (True, False)


def test_a_label_sent_by_many_threads_is_taken_once(ledger: Ledger, neighbour: Ledger) -> None:
    record(ledger, an_entry())
    with ThreadPoolExecutor(8) as pool:
        outs = list(pool.map(lambda index: say((ledger, neighbour)[index % 2], a_label()), range(16)))
    assert sum(out.accepted for out in outs) == 1
    assert sum(out.duplicates for out in outs) == 15


# Locks.


def test_a_lock_keeps_others_out_and_says_who_holds_it(ledger: Ledger, neighbour: Ledger) -> None:
    with (
        ledger.lock("champion:text-multi"),
        pytest.raises(ConflictError, match=r"lock 'champion:text-multi' is held by .+:\d+:[0-9a-f]{8} until 20\d\d-"),
        neighbour.lock("champion:text-multi"),
    ):
        pytest.fail("two hold it")


def test_a_lock_is_not_held_twice_by_one_process_either(ledger: Ledger) -> None:
    with ledger.lock("a"), pytest.raises(ConflictError), ledger.lock("a"):
        pytest.fail("two hold it")


def test_locks_of_other_names_are_free(ledger: Ledger, neighbour: Ledger) -> None:
    with ledger.lock("a"), neighbour.lock("b"), ledger.read() as connection:
        assert set(connection.execute(select(locks.c.name)).scalars()) == {"a", "b"}


def test_a_lock_is_free_again_after_the_work_and_after_its_failure(ledger: Ledger, neighbour: Ledger) -> None:
    with ledger.lock("a"):
        pass
    with pytest.raises(RuntimeError, match="the work failed"), neighbour.lock("a"):
        raise RuntimeError("the work failed")
    with ledger.lock("a"):
        pass
    with ledger.read() as connection:
        assert connection.execute(select(locks)).all() == []


def test_a_holder_that_died_is_overtaken_after_its_time(ledger: Ledger, neighbour: Ledger) -> None:
    dead = ledger.lock("a", hold=timedelta(0))
    dead.__enter__()
    with neighbour.lock("a"):
        dead.__exit__(None, None, None)  # the dead one wakes up: it must not set free what another holds
        with pytest.raises(ConflictError), ledger.lock("a"):
            pytest.fail("two hold it")


def test_a_lock_is_waited_for(ledger: Ledger, neighbour: Ledger) -> None:
    order: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with neighbour.lock("a"):
            held.set()
            time.sleep(0.1)
            order.append("first")

    worker = threading.Thread(target=hold)
    worker.start()
    assert held.wait(LONG_S)
    with ledger.lock("a", wait=timedelta(seconds=LONG_S)):
        order.append("second")
    worker.join()
    assert order == ["first", "second"]


def test_waiting_ends(ledger: Ledger, neighbour: Ledger) -> None:
    begin = time.monotonic()
    with ledger.lock("a"), pytest.raises(ConflictError), neighbour.lock("a", wait=timedelta(milliseconds=300)):
        pytest.fail("two hold it")
    assert 0.3 <= time.monotonic() - begin < LONG_S


def test_of_many_who_want_a_lock_one_at_a_time_has_it(ledger: Ledger, neighbour: Ledger) -> None:
    inside, most = 0, 0

    def work(index: int) -> None:
        nonlocal inside, most
        with (ledger, neighbour)[index % 2].lock("a", wait=timedelta(seconds=LONG_S)):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == 1


def test_a_name_is_taken_once_in_the_table_itself(ledger: Ledger) -> None:
    row = {"name": "a", "holder": "h", "expires_at": BEGIN}
    with ledger.write() as connection:
        connection.execute(insert(locks).values(row))
    with pytest.raises(IntegrityError), ledger.write() as connection:
        connection.execute(insert(locks).values(row))
