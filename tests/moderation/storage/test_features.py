"""Online features: one suite for both back ends, on a real SQLite file and a real Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from moderation.errors import ConfigError, ConflictError, FeaturesUnavailableError
from moderation.settings import Settings
from moderation.storage import features_redis, features_sql
from moderation.storage.feature_profiles import SERIES, author_key
from moderation.storage.features import (
    AUTHOR_FEATURES,
    COMMUNITY_FEATURES,
    FeatureStore,
    LabelObserved,
    PostObserved,
    labels_observed,
    open_features,
    posts_observed,
    rebuild,
)
from moderation.storage.features_redis import RedisFeatures
from moderation.storage.features_sql import SqlFeatures
from moderation.storage.ledger import Entry, Ledger
from tests.conftest import RedisServer
from tests.fresh import fresh_ledger
from tests.moderation.storage.rows import a_label, an_entry, at, say
from tests.moderation.waiting import LONG_S

NOON = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is waited for however slow the machine is."""
    monkeypatch.setattr(features_sql, "BUSY_S", LONG_S)
    monkeypatch.setattr(features_redis, "TIMEOUT_S", LONG_S)


@pytest.fixture(params=["sqlite", "redis"])
def features_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'features' / 'features.db'}"
    url = str(request.getfixturevalue("redis_url"))
    with redis.Redis.from_url(url) as server:
        server.flushall()
    return url


@pytest.fixture
def store(features_url: str) -> Iterator[FeatureStore]:
    store = open_features(features_url)
    yield store
    store.close()


@pytest.fixture
def other(features_url: str) -> Iterator[FeatureStore]:
    """Another process's view of the same store."""
    store = open_features(features_url)
    yield store
    store.close()


def a_post(number: int = 0, when: datetime = NOON, author: str = "u-1", **changes: Any) -> PostObserved:
    return replace(PostObserved(f"p-{number}", 1, author, "gardening", when, "allow"), **changes)


def a_verdict(number: int = 0, when: datetime = NOON, **changes: Any) -> LabelObserved:
    return replace(LabelObserved(f"l-{number}", "u-1", "gardening", when, harmful=True, report=False), **changes)


def of_author(store: FeatureStore, when: datetime = NOON, author: str = "u-1") -> dict[str, float]:
    """The author's features that are not 0, without their prefix."""
    ((found,), ()) = store.read([author], [], when)
    assert tuple(found) == AUTHOR_FEATURES
    return {name.removeprefix("author_"): value for name, value in found.items() if value}


def of_community(store: FeatureStore, when: datetime = NOON, name: str = "gardening") -> dict[str, float]:
    ((), (found,)) = store.read([], [name], when)
    assert tuple(found) == COMMUNITY_FEATURES
    return {name.removeprefix("community_"): value for name, value in found.items() if value}


# What is read.


def test_names_of_authors_and_communities_are_apart() -> None:
    assert len({*AUTHOR_FEATURES, *COMMUNITY_FEATURES}) == 2 * len(AUTHOR_FEATURES) == 16
    assert AUTHOR_FEATURES[:4] == ("author_age_days", "author_posts_hour", "author_posts_day", "author_posts_month")


def test_of_whom_nothing_is_known_all_is_zero(store: FeatureStore) -> None:
    assert store.read([], [], NOON) == ([], [])
    authors, communities = store.read(["u-1", "u-2"], ["gardening"], NOON)
    assert authors == [dict.fromkeys(AUTHOR_FEATURES, 0.0)] * 2
    assert communities == [dict.fromkeys(COMMUNITY_FEATURES, 0.0)]
    assert all(type(value) is float for value in authors[0].values())


def test_a_post_counts_for_its_author_and_its_community(store: FeatureStore) -> None:
    assert store.observe([a_post(0), a_post(1, decision="remove"), a_post(2, decision="review")]) == 3
    counted = {"posts_hour": 3, "posts_day": 3, "posts_month": 3, "removed_month": 1, "reviewed_month": 1}
    assert of_author(store) == of_community(store) == counted
    assert of_author(store, author="u-2") == of_community(store, name="elsewhere") == {}


def test_each_may_be_read_as_of_a_time_of_its_own(store: FeatureStore) -> None:
    store.observe([a_post(0)])
    later = NOON + timedelta(days=2)
    authors, communities = store.read(["u-1", "u-1"], ["gardening", "gardening"], [NOON + timedelta(minutes=1), later])
    assert [found["author_posts_hour"] for found in authors] == [1, 0]
    assert [found["community_posts_hour"] for found in communities] == [1, 0]
    with pytest.raises(ValueError, match="shorter"):
        store.read(["u-1", "u-2"], [], [NOON])


def test_labels_are_judgements_or_reports(store: FeatureStore) -> None:
    kinds = [a_verdict(0), a_verdict(1), a_verdict(2, harmful=False), a_verdict(3, harmful=False, report=True)]
    assert store.observe_labels(kinds) == 4
    assert of_author(store) == of_community(store) == {"harmful_month": 2, "reports_month": 1}


def test_a_time_needs_a_zone(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        store.read(["u-1"], [], datetime(2024, 5, 17))
    with pytest.raises(ValueError, match="has no time zone"):
        store.observe([a_post(when=datetime(2024, 5, 17))])


# Time passes.


def test_posts_leave_the_windows_one_after_the_other(store: FeatureStore) -> None:
    store.observe([a_post(decision="remove")])
    for passed, left in (
        (timedelta(0), {"posts_hour", "posts_day", "posts_month", "removed_month"}),
        (HOUR, {"age_days", "posts_hour", "posts_day", "posts_month", "removed_month"}),
        (HOUR + timedelta(minutes=5), {"age_days", "posts_day", "posts_month", "removed_month"}),
        (DAY, {"age_days", "posts_day", "posts_month", "removed_month"}),
        (DAY + HOUR, {"age_days", "posts_month", "removed_month"}),
        (30 * DAY, {"age_days", "posts_month", "removed_month"}),
        (31 * DAY, {"age_days"}),
    ):
        assert set(of_author(store, NOON + passed)) == left, passed
        assert set(of_community(store, NOON + passed)) == left, passed
    assert of_author(store, NOON + 36 * HOUR)["age_days"] == 1.5
    assert of_author(store, NOON - DAY) == {}


def test_counts_are_those_of_the_window_and_at_most_one_bucket_more(store: FeatureStore) -> None:
    chance = random.Random(3)
    times = sorted(NOON - chance.random() ** 3 * 40 * DAY for _ in range(150))
    for begin in range(0, 150, 50):
        store.observe([a_post(number, times[number]) for number in range(begin, begin + 50)])
    # Also as posts see it that arrive some minutes late: what their windows reach is still kept.
    for when in [NOON, *(NOON - chance.random() * timedelta(minutes=10) for _ in range(5)), NOON + 7 * DAY]:
        found = of_author(store, when)
        for name, (width, buckets) in zip(("hour", "day", "month"), SERIES.values(), strict=True):
            window, bucket = timedelta(seconds=width * buckets), timedelta(seconds=width)
            least = sum(when - window < time <= when for time in times)
            most = sum(when - window - bucket < time < when + bucket for time in times)
            assert least <= found.get(f"posts_{name}", 0) <= most, (when, name)


def test_the_order_in_which_posts_are_told_makes_no_difference(store: FeatureStore) -> None:
    events = [
        a_post(number, NOON - number * timedelta(hours=7), author=f"u-{number % 2}", decision=decision)
        for number, decision in enumerate(["allow", "review", "remove", "allow"] * 12)
    ]
    store.observe(events)
    expected = [of_author(store), of_author(store, NOON - 5 * DAY), of_community(store)]
    store.clear()
    random.Random(5).shuffle(events)
    for event in events:
        store.observe([event])
    assert [of_author(store), of_author(store, NOON - 5 * DAY), of_community(store)] == expected


def test_what_is_told_late_counts_where_it_belongs_or_not_at_all(store: FeatureStore) -> None:
    store.observe([a_post(0)])
    store.observe([a_post(1, NOON - 10 * DAY), a_post(2, NOON - 300 * DAY)])
    assert of_author(store) == {"age_days": 300, "posts_hour": 1, "posts_day": 1, "posts_month": 2}


def test_a_clock_that_is_years_ahead_pushes_nothing_out(store: FeatureStore) -> None:
    now = datetime.now(UTC)
    store.observe([a_post(0, now - HOUR / 2)])
    store.observe([a_post(1, datetime(9998, 1, 1, tzinfo=UTC))])
    store.observe([a_post(2, now)])
    found = of_author(store, now + timedelta(seconds=5))
    assert (found["posts_hour"], found["posts_month"]) == (3, 3)


def test_an_author_of_many_years_takes_little_room(store: FeatureStore) -> None:
    times = [NOON + number * timedelta(minutes=97) for number in range(6000)]
    for begin in range(0, 6000, 1000):
        store.observe([a_post(number, times[number], decision="remove") for number in range(begin, begin + 1000)])
    (document,) = store._load([author_key("u-1")])
    assert document is not None
    assert len(document) < 3000
    assert of_author(store, times[-1])["age_days"] == pytest.approx(404, abs=1)


# Once only.


def test_what_is_told_again_counts_once(store: FeatureStore, other: FeatureStore) -> None:
    assert store.observe([a_post(), a_post()]) == 1
    assert other.observe([a_post(), a_post(1)]) == 1
    assert store.observe_labels([a_verdict(), a_verdict()]) == 1
    assert other.observe_labels([a_verdict()]) == 0
    found = of_author(store)
    assert (found["posts_month"], found["harmful_month"]) == (2, 1)
    assert other.observe([a_post(content_version=2)]) == 1  # an edit is judged anew


def test_a_post_and_a_label_of_one_name_are_two_things(store: FeatureStore) -> None:
    assert store.observe([a_post(post_id="x")]) == store.observe_labels([a_verdict(label_id="x")]) == 1


def test_after_the_memory_it_counts_again(features_url: str) -> None:
    store = open_features(features_url, memory=HOUR)
    assert [store.observe([a_post()]) for _ in range(2)] == [1, 0]
    let_pass(store, HOUR / 2)
    assert store.observe([a_post()]) == 0
    let_pass(store, HOUR / 2)
    assert [store.observe([a_post()]) for _ in range(2)] == [1, 0]
    store.close()


def let_pass(store: FeatureStore, passed: timedelta) -> None:
    """Bring the end of what is remembered so much nearer."""
    if isinstance(store, SqlFeatures):
        with store._engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE seen_1 SET keep_until = keep_until - {passed.total_seconds():.0f}")
        return
    assert isinstance(store, RedisFeatures)
    for key in store._redis.keys(f"{features_redis.PREFIX}s:*"):
        store._redis.pexpire(key, store._redis.pttl(key) - passed // timedelta(milliseconds=1))


# Many at once.


def test_a_group_of_64_posts_is_read_and_told_in_one_round_trip(store: FeatureStore) -> None:
    names = [f"u-{number}" for number in range(64)]
    events = [a_post(number, author=names[number], community=f"c-{number % 7}") for number in range(64)]
    store.observe(events[:1])  # also connects, makes the script known
    with Counted(store) as calls:
        assert store.observe(events) == 63
    assert calls() <= 7 if isinstance(store, SqlFeatures) else calls() == 1
    with Counted(store) as calls:
        authors, communities = store.read(names, [event.community for event in events], NOON)
    assert calls() == (2 if isinstance(store, SqlFeatures) else 1)  # SQLite: BEGIN, and one query
    assert [author["author_posts_hour"] for author in authors] == [1] * 64
    assert [found["community_posts_hour"] for found in communities[:7]] == [10, 9, 9, 9, 9, 9, 9]
    assert communities[7:14] == communities[:7]


class Counted:
    """Statements to SQLite, or commands from a client to Redis, inside the block."""

    def __init__(self, store: FeatureStore) -> None:
        self._store, self._calls = store, 0

    def __enter__(self) -> Any:
        from sqlalchemy import event

        if isinstance(self._store, RedisFeatures):
            before = self._commands()
        else:
            assert isinstance(self._store, SqlFeatures)
            event.listen(self._store._engine, "before_cursor_execute", self._count)

        def calls() -> int:
            # The second look at the statistics is a command as well.
            return self._commands() - before - 1 if isinstance(self._store, RedisFeatures) else self._calls

        return calls

    def __exit__(self, *_: object) -> None:
        return None

    def _count(self, *_: Any) -> None:
        self._calls += 1

    def _commands(self) -> int:
        assert isinstance(self._store, RedisFeatures)
        asked = self._store._redis.info("commandstats")
        inside_the_script = ("cmdstat_get", "cmdstat_set")
        return sum(
            int(each["calls"]) for name, each in asked.items() if name not in (*inside_the_script, "cmdstat_hello")
        )


def test_one_author_may_write_a_whole_group(store: FeatureStore) -> None:
    store.observe([a_post(number) for number in range(64)])
    authors, _ = store.read(["u-1"] * 64, [], NOON)
    assert {author["author_posts_hour"] for author in authors} == {64}


def test_thousands_at_once(store: FeatureStore) -> None:
    events = [a_post(number, author=f"u-{number % 700}") for number in range(2100)]
    assert store.observe(events) == 2100
    authors, _ = store.read([f"u-{number}" for number in range(700)], [], NOON)
    assert {author["author_posts_month"] for author in authors} == {3}


def test_threads_and_processes_lose_no_count(store: FeatureStore, other: FeatureStore) -> None:
    def tell(thread: int) -> int:
        return sum(
            (store, other)[thread % 2].observe([a_post(1000 * thread + 2 * number + half) for half in (0, 1)])
            for number in range(20)
        )

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(tell, range(8))) == 320
    assert of_author(store)["posts_month"] == of_community(other)["posts_month"] == 320


def test_threads_that_tell_the_same_count_it_once(store: FeatureStore, other: FeatureStore) -> None:
    events = [a_post(number) for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda index: (store, other)[index % 2].observe(events), range(8)))
    assert sum(told) == of_author(store)["posts_month"] == 32


@pytest.mark.parametrize("odd", ["Ж 🍅", "a:b", "c:", "{seawall}:1:built", "a\0b", "built", "*", '"\\', "x" * 128])
def test_ids_may_be_of_any_characters(store: FeatureStore, odd: str) -> None:
    store.observe([a_post(0, author=odd, community=odd, decision="remove"), a_post(1, author="u", community="c")])
    assert of_author(store, author=odd) == of_community(store, name=odd)
    assert of_author(store, author=odd)["removed_month"] == 1
    assert of_author(store, author="u")["posts_month"] == of_community(store, name="c")["posts_month"] == 1
    assert not store.is_built


# From the ledger.


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = fresh_ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def entries(count: int, first: int = 0) -> list[Entry]:
    """Posts of three days and, the first of them, of months before."""
    made = []
    for number in range(first, first + count):
        minutes = number * 43.0 if number else -200 * 24 * 60
        entry = an_entry(f"p-{number}", f"text {number}", minutes=minutes, author=f"u-{number % 4}")
        entry.decision.decision = ("allow", "review", "remove")[number % 3]  # type: ignore[assignment]  # a tuple's item is a str
        made.append(entry)
    return made


def record_and_tell(ledger: Ledger, store: FeatureStore, group: Sequence[Entry]) -> int:
    return store.observe(posts_observed(group, ledger.record(group)))


def everything(store: FeatureStore) -> list[Any]:
    authors = [f"u-{number}" for number in range(5)]
    return [store.read(authors, ["gardening"], at(minutes)) for minutes in (4300, 4340, 5500, 20_000, 90_000)]


def test_only_what_was_recorded_now_is_to_be_counted(ledger: Ledger) -> None:
    group = entries(3)
    assert [event.post_id for event in posts_observed(group, ledger.record(group))] == ["p-0", "p-1", "p-2"]
    edited = an_entry("p-1", "other", minutes=99, author="u-1")
    older = an_entry("p-2", "older", minutes=-1, author="u-2")
    group = [group[0], edited, older]
    (event,) = posts_observed(group, ledger.record(group))
    assert event == PostObserved("p-1", 2, "u-1", "gardening", at(99), "allow")


def test_labels_are_told_as_the_ledger_has_them(ledger: Ledger) -> None:
    ledger.record(entries(3))
    say(
        ledger,
        a_label("l-1", "p-1", labels={"abuse": True, "hate": False}),
        a_label("l-2", "p-2", labels={"abuse": False}),
        a_label("l-3", "p-1", source="report"),
        a_label("l-4", "p-9"),
    )
    found = labels_observed(ledger, ["l-1", "l-2", "l-3", "l-4"] + [f"x-{number}" for number in range(900)])
    assert sorted(found, key=lambda event: event.label_id) == [
        LabelObserved("l-1", "u-1", "gardening", at(60), harmful=True, report=False),
        LabelObserved("l-2", "u-2", "gardening", at(60), harmful=False, report=False),
        LabelObserved("l-3", "u-1", "gardening", at(60), harmful=False, report=True),
    ]


def test_a_label_that_was_recorded_before_the_memory_is_not_told_again(ledger: Ledger) -> None:
    from sqlalchemy import update

    from moderation.storage.tables import labels

    ledger.record(entries(1))
    say(ledger, a_label("l-1", "p-0"))
    with ledger.write() as connection:
        connection.execute(update(labels).values(received_at=datetime.now(UTC) - DAY))
    assert labels_observed(ledger, ["l-1"]) == []


def test_a_store_is_rebuilt_as_it_was(ledger: Ledger, store: FeatureStore) -> None:
    for begin in range(0, 100, 20):
        record_and_tell(ledger, store, entries(20, begin))
    say(ledger, *(a_label(f"l-{number}", f"p-{number}", minutes=4200) for number in range(40, 100)))
    say(ledger, *(a_label(f"r-{number}", f"p-{number}", minutes=4200, source="report") for number in range(90, 100)))
    store.observe_labels(labels_observed(ledger, [f"l-{number}" for number in range(100)]))
    store.observe_labels(labels_observed(ledger, [f"r-{number}" for number in range(100)]))
    before = everything(store)
    assert before[0][0][1]["author_harmful_month"] == 15
    store.clear()
    assert everything(store) != before
    for _ in range(2):
        assert not store.is_built
        rebuild(store, ledger, at(4300))
        assert everything(store) == before
        assert store.is_built
        store.clear()


def test_what_is_told_again_after_a_rebuild_counts_once(ledger: Ledger, store: FeatureStore) -> None:
    now = datetime.now(UTC)
    group = [replace(entry, decision=entry.decision.model_copy(update={"decided_at": now})) for entry in entries(20, 1)]
    results = ledger.record(group)
    say(ledger, a_label("l-1", "p-3"))
    rebuild(store, ledger, at(900))
    before = everything(store)
    assert store.observe(posts_observed(group, results)) == 0
    assert store.observe_labels(labels_observed(ledger, ["l-1"])) == 0
    assert record_and_tell(ledger, store, entries(1, 21)) == 1
    assert everything(store) != before


def test_a_rebuild_leaves_out_what_no_window_reaches_but_for_the_age(ledger: Ledger, store: FeatureStore) -> None:
    record_and_tell(ledger, store, entries(3))
    rebuild(store, ledger, at(100))
    authors, communities = store.read(["u-0", "u-1"], ["gardening"], at(100))
    assert authors[0]["author_age_days"] == pytest.approx(200 + 100 / 1440)
    assert (authors[0]["author_posts_month"], authors[1]["author_posts_month"]) == (0, 1)
    assert communities[0]["community_posts_month"] == 2


def test_one_process_rebuilds_at_a_time(ledger: Ledger, store: FeatureStore) -> None:
    with ledger.lock("features-rebuild"), pytest.raises(ConflictError):
        rebuild(store, ledger, at(0))
    assert not store.is_built


# What goes wrong.


@pytest.mark.parametrize("bad", ["mysql://db", "postgresql://db/seawall", "features.db", "http://x"])
def test_other_stores_are_told(bad: str) -> None:
    with pytest.raises(ConfigError, match="SEAWALL_FEATURES_URL: is of"):
        open_features(bad)


def every_call(store: FeatureStore) -> None:
    for call in (
        lambda: store.read(["u-1"], [], NOON),
        lambda: store.observe([a_post()]),
        lambda: store.observe_labels([a_verdict()]),
        lambda: store.is_built,
        store.mark_built,
        store.clear,
    ):
        with pytest.raises(FeaturesUnavailableError):
            call()


def test_a_redis_that_goes_away_is_told_and_used_again_when_it_is_back(redis_server: RedisServer) -> None:
    store = open_features(redis_server.url)
    store.observe([a_post()])
    store.mark_built()
    redis_server.stop()
    every_call(store)
    redis_server.start()
    assert not store.is_built  # it kept nothing, and says so
    assert store.observe([a_post()]) == 1
    assert of_author(store)["posts_month"] == 1
    store.close()


def test_a_redis_that_restarts_between_two_calls_is_not_noticed(redis_server: RedisServer) -> None:
    store = open_features(redis_server.url)
    store.observe([a_post()])
    redis_server.stop()
    redis_server.start()
    assert store.observe([a_post()]) == 1
    store.close()


def test_a_redis_that_hangs_is_not_waited_for(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_redis, "TIMEOUT_S", 2.0)
    store = open_features(redis_server.url)
    store.observe([a_post()])
    with redis_server.paused(), pytest.raises(FeaturesUnavailableError, match="TimeoutError"):
        store.read(["u-1"], [], NOON)
    assert of_author(store)["posts_month"] == 1
    store.close()


def test_a_redis_that_is_not_there_yet_is_no_error_before_it_is_needed(tmp_path: Path) -> None:
    store = open_features(f"unix://{tmp_path / 'redis.sock'}")
    every_call(store)
    store.close()


def test_a_file_that_cannot_be_opened_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database" * 1000)
    for path in (tmp_path / "file", tmp_path / "file" / "features.db"):
        with pytest.raises(FeaturesUnavailableError, match="may be deleted"):
            open_features(f"sqlite:///{path}")


def test_a_file_that_breaks_is_told(tmp_path: Path) -> None:
    store = open_features(f"sqlite:///{tmp_path / 'features.db'}")
    assert isinstance(store, SqlFeatures)
    with store._engine.begin() as connection:
        for table in ("documents_1", "seen_1", "facts_1"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    every_call(store)
    store.close()


# Settings.


def test_the_features_lie_in_the_home_folder_unless_they_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEAWALL_FEATURES_URL", raising=False)
    monkeypatch.setenv("SEAWALL_HOME", str(tmp_path))
    settings = Settings.from_environment()
    assert settings.features_url == f"sqlite:///{tmp_path / 'features.db'}"
    assert settings == Settings(tmp_path, settings.ledger_url, settings.mlflow_uri)
    monkeypatch.setenv("SEAWALL_FEATURES_URL", "redis://db/0")
    moved = Settings.from_environment()
    assert moved.features_url == "redis://db/0"
    assert moved.environment()["SEAWALL_FEATURES_URL"] == "redis://db/0"
