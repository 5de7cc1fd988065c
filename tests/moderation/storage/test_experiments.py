"""Experiments in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Connection

from moderation.errors import ConflictError, NotFoundError
from moderation.storage import experiments
from moderation.storage.experiments import Experiment, JudgedPost
from moderation.storage.ledger import Ledger
from moderation.storage.tables import experiments as table
from tests.moderation.storage.rows import a_label, an_entry, record, say


def begin(ledger: Ledger, name: str = "e-1", **changes: Any) -> Experiment:
    fields: dict[str, Any] = {"variant": "text-multi", "champion_version": 1, "challenger_version": 2, "share": 0.1}
    return experiments.create(ledger, name, **(fields | changes))


def history(ledger: Ledger, name: str = "e-1") -> list[int]:
    with ledger.read() as connection:
        steps = connection.execute(select(table.c.history).where(table.c.name == name)).scalar_one()
    assert all(datetime.fromisoformat(step["at"]).tzinfo == UTC for step in steps)
    return [step["buckets"] for step in steps]


def test_an_experiment_is_begun_as_it_was_ordered(ledger: Ledger) -> None:
    made = begin(ledger, share=0.1234)
    assert (made.name, made.variant, made.status) == ("e-1", "text-multi", "running")
    assert (made.champion_version, made.challenger_version) == (1, 2)
    assert (made.buckets, made.share) == (1234, 0.1234)
    assert made.stopped_at is None
    assert made.created_at.tzinfo is UTC
    assert experiments.get(ledger, "e-1") == made
    assert experiments.running(ledger, "text-multi") == made


def test_experiments_split_independently(ledger: Ledger) -> None:
    first, second = begin(ledger), begin(ledger, "e-2", variant="other")
    assert first.salt.startswith("e-1:")
    assert first.salt.split(":")[1] != second.salt.split(":")[1]


def test_a_variant_has_one_running_experiment(ledger: Ledger) -> None:
    begin(ledger)
    with pytest.raises(ConflictError, match="variant 'text-multi' has a running experiment already: 'e-1'"):
        begin(ledger, "e-2")
    assert begin(ledger, "e-3", variant="other").name == "e-3"
    experiments.stop(ledger, "e-1")
    assert begin(ledger, "e-2").name == "e-2"


def test_of_many_who_begin_at_once_one_does(ledger: Ledger, neighbour: Ledger) -> None:
    def attempt(index: int) -> bool:
        try:
            begin((ledger, neighbour)[index % 2], f"e-{index}")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, range(8))).count(True) == 1


def test_a_name_is_taken_for_good(ledger: Ledger) -> None:
    begin(ledger)
    experiments.stop(ledger, "e-1")
    with pytest.raises(ConflictError, match="an experiment named 'e-1' is recorded already; choose another name"):
        begin(ledger)


def test_a_ramp_gives_more_and_remembers_each_step(ledger: Ledger) -> None:
    made = begin(ledger)
    assert experiments.ramp(ledger, "e-1", 0.25).share == 0.25
    assert experiments.ramp(ledger, "e-1", 0.25).share == 0.25
    assert experiments.ramp(ledger, "e-1", 1.0).buckets == 10_000
    assert experiments.get(ledger, "e-1").salt == made.salt
    assert history(ledger)[0] == 1000
    assert history(ledger)[-1] == 10_000
    assert history(ledger) == sorted(history(ledger))


def test_a_ramp_never_takes_units_back(ledger: Ledger) -> None:
    begin(ledger, share=0.5)
    with pytest.raises(ConflictError, match=r"share 0\.2 is below the 0\.5 of experiment 'e-1'"):
        experiments.ramp(ledger, "e-1", 0.2)
    assert experiments.get(ledger, "e-1").share == 0.5
    assert history(ledger) == [5000]


def overtaken(ledger: Ledger, by: Callable[[], object]) -> list[Callable[[], object]]:
    """Do something just before the next transaction that writes begins, as another process might; empty: it was."""
    waiting = [by]

    @event.listens_for(ledger.engine, "before_cursor_execute")
    def _meanwhile(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if waiting and statement == "BEGIN IMMEDIATE":
            waiting.pop()()

    return waiting


def test_a_ramp_that_another_one_overtakes_takes_no_units_back(ledger: Ledger, neighbour: Ledger) -> None:
    begin(ledger)
    waiting = overtaken(ledger, lambda: experiments.ramp(neighbour, "e-1", 0.5))
    with pytest.raises(ConflictError):
        experiments.ramp(ledger, "e-1", 0.2)
    assert not waiting
    assert experiments.get(ledger, "e-1").share == 0.5


def test_a_ramp_that_a_stop_overtakes_changes_nothing(ledger: Ledger, neighbour: Ledger) -> None:
    begin(ledger)
    waiting = overtaken(ledger, lambda: experiments.stop(neighbour, "e-1"))
    with pytest.raises(ConflictError, match="is stopped"):
        experiments.ramp(ledger, "e-1", 0.2)
    assert not waiting
    assert experiments.get(ledger, "e-1").share == 0.1


def test_a_stopped_experiment_stays_as_it_is(ledger: Ledger) -> None:
    begin(ledger)
    stopped = experiments.stop(ledger, "e-1")
    assert stopped.status == "stopped"
    assert stopped.stopped_at is not None
    assert stopped.stopped_at >= stopped.created_at
    assert experiments.stop(ledger, "e-1") == stopped
    assert experiments.running(ledger, "text-multi") is None
    with pytest.raises(ConflictError, match="experiment 'e-1' is stopped"):
        experiments.ramp(ledger, "e-1", 0.9)
    assert experiments.get(ledger, "e-1") == stopped


def test_an_unknown_experiment_is_told(ledger: Ledger) -> None:
    for attempt in (experiments.get, experiments.stop):
        with pytest.raises(NotFoundError, match="there is no experiment named 'e-9'"):
            attempt(ledger, "e-9")
    with pytest.raises(NotFoundError, match="e-9"):
        experiments.ramp(ledger, "e-9", 0.5)


@pytest.mark.parametrize(("share", "buckets"), [(0, 0), (0.00005, 0), (0.0001, 1), (0.3, 3000), (1, 10_000)])
def test_a_share_is_a_number_of_buckets(share: float, buckets: int) -> None:
    assert experiments.buckets_of(share) == buckets


@pytest.mark.parametrize("share", [-0.01, 1.01, 50, float("nan")])
def test_a_share_out_of_bounds_is_told(ledger: Ledger, share: float) -> None:
    with pytest.raises(ValueError, match=r"share is .*; it must lie in \[0, 1\]"):
        begin(ledger, share=share)
    with pytest.raises(NotFoundError):
        experiments.get(ledger, "e-1")


def test_the_latest_experiment_on_a_version_is_found_running_or_not(ledger: Ledger) -> None:
    assert experiments.latest(ledger, "text-multi", 2) is None
    begin(ledger)
    experiments.stop(ledger, "e-1")
    begin(ledger, "e-2")
    experiments.stop(ledger, "e-2")
    begin(ledger, "e-3", challenger_version=3)
    latest = experiments.latest(ledger, "text-multi", 2)
    assert latest is not None
    assert (latest.name, latest.status) == ("e-2", "stopped")
    assert experiments.latest(ledger, "other", 2) is None


def test_judged_posts_are_those_of_the_experiment_in_order(ledger: Ledger) -> None:
    record(ledger, an_entry("p-3", author="u-3", experiment="e-1", flagged={"abuse": True, "hate": False}))
    record(ledger, an_entry("p-1", author="u-1", experiment="e-1", arm="challenger", model_version=2))
    record(ledger, an_entry("p-2", author="u-2", experiment="e-2"))
    record(ledger, an_entry("p-4", author="u-4"))
    assert experiments.judged_posts(ledger, "e-1") == [
        JudgedPost("champion", 1, "u-3", {"abuse": True, "hate": False}, {}, None),
        JudgedPost("challenger", 2, "u-1", {"abuse": False}, {}, None),
    ]
    assert experiments.judged_posts(ledger, "e-9") == []


def test_a_label_that_failed_to_score_is_absent_and_not_false(ledger: Ledger) -> None:
    record(ledger, an_entry(experiment="e-1", flagged={"abuse": None, "hate": True}))
    (judged,) = experiments.judged_posts(ledger, "e-1")
    assert judged.flagged == {"hate": True}


def test_the_newest_word_on_each_label_counts(ledger: Ledger) -> None:
    record(ledger, an_entry(experiment="e-1"))
    say(
        ledger,
        a_label("l-1", minutes=30, labels={"abuse": True, "hate": False}),
        a_label("l-2", minutes=50, labels={"abuse": False}),
        a_label("l-3", minutes=40, labels={"abuse": True, "violence": True}),
    )
    (judged,) = experiments.judged_posts(ledger, "e-1")
    assert judged.labels == {"abuse": False, "hate": False, "violence": True}


def test_of_two_words_of_the_same_moment_the_later_line_counts(ledger: Ledger) -> None:
    record(ledger, an_entry(experiment="e-1"))
    say(ledger, a_label("l-1", labels={"abuse": True}), a_label("l-2", labels={"abuse": False}))
    (judged,) = experiments.judged_posts(ledger, "e-1")
    assert judged.labels == {"abuse": False}


def test_a_post_drawn_at_random_once_stays_drawn(ledger: Ledger) -> None:
    record(ledger, an_entry("p-1", experiment="e-1"))
    record(ledger, an_entry("p-2", experiment="e-1"))
    say(
        ledger,
        a_label("l-1", "p-1", sampling_probability=0.25),
        a_label("l-2", "p-1", source="report"),
        a_label("l-3", "p-2", source="report"),
    )
    judged = experiments.judged_posts(ledger, "e-1")
    assert [post.sampling_probability for post in judged] == [0.25, None]


def test_a_label_counts_for_the_content_that_it_was_said_of(ledger: Ledger) -> None:
    record(ledger, an_entry(text="a", experiment="e-1"))
    record(ledger, an_entry(text="b", minutes=1, experiment="e-1"))
    say(ledger, a_label("l-1", content_version=1))
    assert [post.labels for post in experiments.judged_posts(ledger, "e-1")] == [{"abuse": True}, {}]
