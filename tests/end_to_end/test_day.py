"""A day of 20,000 posts, replayed fast over HTTP: people report, review, appeal; what serves them is killed, often.

At the end nothing is lost and nothing is there twice, nobody judged an appeal against their own removal, and the
estimated prevalence is about the truth. That its interval covers as often as it says is measured by
`tests/benchmarks/prevalence.py`, on a thousand days.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from moderation.estimate import Reviewers, corrected
from moderation.metrics import Interval
from moderation.storage.lake import Lake
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions, appeals, events, reviews
from moderation.storage.tables import decisions, labels, posts, scorings
from moderation.topology import Topology
from serve.metrics.online import measure
from serve.metrics.queries import Window
from simulate.service import PATIENT_S, Service, light_topology, running_service
from simulate.traffic import SimulatedPost, TrafficConfig, day_of_traffic
from tests.killing import killed
from tests.serve.outbox.receiver import SECRET, Receiver, receiver

pytestmark = pytest.mark.slow

POSTS = 20_000
TRAFFIC = TrafficConfig(posts_per_day=POSTS, authors=4000, abuse_share=0.03, slang_share=0.0)
ERRING = Reviewers(sensitivity=0.92, specificity=0.985)
REVIEWERS = [f"mod-{number}" for number in range(6)]
REVIEW = {
    "sampled_allowed": 0.02,
    "sampled_uncertain": 0.2,
    "sampled_removed": 0.2,
    "golden_share": 0.0,
    "second_share": 0.05,
    "lease_s": 30,
}
GATEWAY_KILLS, SENDER_REPLICA_KILLS, SENDER_KILLS, EXPORTER_KILLS = 6, 4, 20, 24


@dataclass
class Day:
    """What happened, as those outside know it."""

    service: Service
    topology: Path
    here: Receiver
    began: datetime
    posts: dict[str, SimulatedPost]
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    appealed: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """A request that is sent again until it is answered, as a platform does while a gateway starts anew."""
        give_up = time.monotonic() + PATIENT_S
        while True:
            try:
                url = self.service.url + path
                response = httpx.request(method, url, timeout=120, trust_env=False, **request)
                # What is no JSON is no answer of Seawall's, but of a proxy before it.
                if response.status_code < 500 and "json" in response.headers.get("content-type", ""):
                    return response
            except httpx.TransportError:
                pass
            assert time.monotonic() < give_up, f"{method} {path} is not answered"
            time.sleep(0.2)


def ndjson(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    body = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    return {"content": body, "headers": {"Content-Type": "application/x-ndjson"}}


def put(day: Day, batch: Sequence[SimulatedPost]) -> None:
    """Put posts until each has a decision, and tell how often the public saw those that are shown."""
    waiting = {post.post_id: post for post in batch}
    while waiting:
        lines = [
            {
                "post_id": post.post_id,
                "author_id": post.author_id,
                "community": post.community,
                "region": post.region,
                "created_at": post.created_at.isoformat(),
                "text": post.text,
            }
            for post in waiting.values()
        ]
        answers = day.ask("POST", "/v1/posts:batch", **ndjson(lines)).text.splitlines()
        for answer in map(json.loads, answers):
            if answer["status"] == 200:
                day.decisions[answer["post_id"]] = answer["decision"]
                del waiting[answer["post_id"]]
    seen = [post for post in batch if day.decisions[post.post_id]["decision"] != "remove"]
    chance = random.Random(batch[0].post_id)
    happened = [
        {
            "id": f"seen-{post.post_id}",
            "post_id": post.post_id,
            "kind": "impression",
            "count": int(chance.lognormvariate(3, 1)) + 1,
            "happened_at": now().isoformat(),
        }
        for post in seen
    ]
    day.events |= {event["id"] for event in happened}
    for _ in range(2):  # a platform that is not sure sends again
        out = day.ask("POST", "/v1/events", **ndjson(happened)).json()
        assert out["errors"] == []
    for post in seen:
        if post.harmful and chance.random() < 0.3:
            for reporter in range(3):
                body = {"reporter_id": f"r-{chance.randrange(500)}-{reporter}", "reason": "rude", "label": "abuse"}
                assert day.ask("POST", f"/v1/posts/{post.post_id}/reports", json=body).status_code in (200, 201)


def review(day: Day, reviewer: str, ended: threading.Event) -> None:
    """Judge whatever waits, erring at the known rates, until the day has ended and nothing waits."""
    while True:
        over = ended.is_set()
        found = day.ask("POST", "/v1/reviews:lease", json={"reviewer_id": reviewer, "limit": 20}).json()["reviews"]
        for item in found:
            harmful = item["post_id"] in day.posts and day.posts[item["post_id"]].harmful
            right = ERRING.sensitivity if harmful else ERRING.specificity
            chance = random.Random(f"{reviewer}/{item['post_id']}").random()
            removes = harmful if chance < right else not harmful
            verdict = {"reviewer_id": reviewer, "verdict": "remove" if removes else "allow"}
            verdict |= {"labels": {"abuse": removes}}
            response = day.ask("PUT", f"/v1/reviews/{item['review_id']}", json=verdict)
            assert response.status_code in (200, 409), response.text  # 409: the lease was lost meanwhile
        if over and not found:
            return
        if not found:
            time.sleep(0.3)


def appeal(day: Day) -> None:
    """Authors of removed posts that are harmless object, and one in five of the others."""
    with ledger_of(day) as ledger, ledger.read() as connection:
        gone = set(connection.execute(select(actions.c.post_id).where(actions.c.action == "remove")).scalars())
        back = set(connection.execute(select(actions.c.post_id).where(actions.c.action == "restore")).scalars())
    for post_id in sorted((gone - back) & day.posts.keys()):
        post = day.posts[post_id]
        if not post.harmful or random.Random(post_id).random() < 0.2:
            body = {"author_id": post.author_id, "reason": "it was a joke"}
            response = day.ask("POST", f"/v1/posts/{post_id}/appeals", json=body)
            assert response.status_code in (200, 201, 409), response.text  # 409: restored meanwhile
            if response.status_code != 409:
                day.appealed.add(post_id)


@contextmanager
def ledger_of(day: Day) -> Iterator[Ledger]:
    """The day's ledger, seen from another process than its writers."""
    ledger = Ledger(f"sqlite:///{day.service.home / 'ledger.db'}")
    try:
        yield ledger
    finally:
        ledger.close()


def kill_replicas(day: Day, application: str, kills: int, ended: threading.Event) -> None:
    """Kill a deployment's replica so often, at random points; Serve starts another each time.

    On a slow machine each would be killed before it has served anybody: so none is before something came of it, while
    there is anything to put.
    """
    chance = random.Random(application)
    came: Sized = day.decisions if application == "gateway" else day.here.arrivals
    before, served = 0, 0
    while day.kills[application] < kills:
        time.sleep(chance.uniform(0.5, 4))
        if len(came) == served and len(day.decisions) < len(day.posts):
            continue
        try:
            pid = day.service.replica(application, application)
        except (LookupError, httpx.TransportError, KeyError):
            continue
        if pid != before:
            os.kill(pid, signal.SIGKILL)
            before, served = pid, len(came)
            day.kills[application] += 1
        assert not ended.is_set(), f"only {day.kills[application]} of {kills} kills of {application} within the day"


def kill_workers(day: Day) -> None:
    """Kill exporters and senders in processes of their own, beside the service's."""
    ledger = f"sqlite:///{day.service.home / 'ledger.db'}"
    webhook = Topology.load(day.topology).webhooks[0].model_dump_json()
    done = killed("send", ledger, webhook, SECRET, seed=5, kills=SENDER_KILLS, least=0.05, most=0.5)
    day.kills["sender"] += done["killed"]
    lake = str(day.service.home / "lake")
    done = killed("export_lake", ledger, lake, seed=7, kills=EXPORTER_KILLS, least=0.05, most=0.5)
    day.kills["exporter"] += done["killed"]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("day")
    with receiver() as here, pytest.MonkeyPatch.context() as patched:
        webhook = {"name": "platform", "url": here.url, "secret_env": "HOOK_SECRET", "timeout_s": 2}
        topology = light_topology(folder, webhooks=[webhook], review=REVIEW)
        patched.setenv("HOOK_SECRET", SECRET)
        with running_service(folder / "home", topology=topology, quiet=True) as service:
            traffic = {post.post_id: post for post in day_of_traffic(TRAFFIC, 1)}
            made = Day(service, topology, here, now(), traffic)
            replay(made)
            yield made


def replay(day: Day) -> None:
    """All of it at once: traffic, reviewers, kills; then appeals, and what they take."""
    everyone = list(day.posts.values())
    batches = [everyone[begin : begin + 250] for begin in range(0, len(everyone), 250)]
    put_all, ended, killers_late = threading.Event(), threading.Event(), threading.Event()
    with ThreadPoolExecutor(12) as pool:
        killers: list[Future[None]] = [
            pool.submit(kill_replicas, day, "gateway", GATEWAY_KILLS, killers_late),
            pool.submit(kill_replicas, day, "outbox", SENDER_REPLICA_KILLS, killers_late),
            pool.submit(kill_workers, day),
        ]
        reviewers = [pool.submit(review, day, name, ended) for name in REVIEWERS]
        with ThreadPoolExecutor(2) as platform:
            list(platform.map(lambda batch: put(day, batch), batches))
        put_all.set()
        for killer in killers:
            killer.result(timeout=2 * PATIENT_S)
        appeal(day)
        ended.set()
        for reviewer in reviewers:
            reviewer.result(timeout=2 * PATIENT_S)


def counted(ledger: Ledger, table: Any, *where: Any) -> int:
    with ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())


def wait_until(holds: Callable[[], bool], within_s: float) -> bool:
    give_up = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.2)
    return True


def test_enough_was_killed(day: Day) -> None:
    assert day.kills["gateway"] == GATEWAY_KILLS
    assert sum(day.kills.values()) >= 50


def test_every_post_has_one_decision_and_it_is_the_one_that_was_told(day: Day) -> None:
    with ledger_of(day) as ledger:
        assert counted(ledger, posts) == counted(ledger, decisions) == POSTS
        assert counted(ledger, scorings) == POSTS
        with ledger.read() as connection:
            query = select(decisions.c.post_id, decisions.c.decision).where(decisions.c.post_id.like("d01-%"))
            recorded = dict(list(connection.execute(query)))
        assert recorded.keys() == day.posts.keys()
    # A decision that was told again, after a person's, may tell theirs.
    told = {post_id: decision["decision"] for post_id, decision in day.decisions.items()}
    differ = [post_id for post_id in recorded if told[post_id] != recorded[post_id]]
    assert all(day.decisions[post_id]["standing"]["actor"] in ("review", "appeal") for post_id in differ)


def test_every_event_is_there_once(day: Day) -> None:
    with ledger_of(day) as ledger:
        assert counted(ledger, events) == len(day.events) > POSTS * 0.9


def test_nothing_waits_for_people_any_more_and_every_verdict_is_one_label(day: Day) -> None:
    with ledger_of(day) as ledger:
        assert counted(ledger, reviews, reviews.c.status == "open") == 0
        assert counted(ledger, reviews, reviews.c.status == "decided") == counted(ledger, labels) > 500
        assert counted(ledger, appeals, appeals.c.status == "open") == 0
        assert counted(ledger, appeals) == len(day.appealed) > 20


def test_nobody_judged_the_same_content_twice(day: Day) -> None:
    with ledger_of(day) as ledger, ledger.read() as connection:
        rows = connection.execute(
            select(reviews.c.post_id, reviews.c.content_version, reviews.c.decided_by, func.count())
            .where(reviews.c.status == "decided")
            .group_by(reviews.c.post_id, reviews.c.content_version, reviews.c.decided_by)
            .having(func.count() > 1)
        ).all()
        judged_again = connection.execute(
            select(func.count()).select_from(reviews).where(reviews.c.kind.in_(("appeal", "second", "third")))
        ).scalar_one()
    assert rows == []
    assert judged_again > 20


def test_every_action_arrived_in_order_for_each_post(day: Day) -> None:
    with ledger_of(day) as ledger, ledger.read() as connection:
        done = dict(list(connection.execute(select(actions.c.action_id, actions.c.post_id))))
    assert len(done) > 300
    assert wait_until(lambda: set(day.here.actions()) >= set(done), PATIENT_S), len(set(done) - set(day.here.actions()))
    first: dict[str, list[int]] = defaultdict(list)
    for action_id in dict.fromkeys(day.here.actions()):
        first[done[action_id]].append(action_id)
    assert all(arrived == sorted(arrived) for arrived in first.values())
    assert all(arrival.signed for arrival in day.here.arrivals)


def test_the_lake_has_everything_once(day: Day) -> None:
    with ledger_of(day) as ledger:
        lake = Lake(str(day.service.home / "lake"))
        give_up = time.monotonic() + PATIENT_S
        while True:  # an exporter that was killed may hold the lock yet
            lake.export(ledger)
            rows = pq.read_table(lake.files("labels")) if lake.files("labels") else None
            if rows is not None and rows.num_rows >= counted(ledger, labels):
                break
            assert time.monotonic() < give_up
        ids = Counter(rows["label_id"].to_pylist())
        assert len(ids) == counted(ledger, labels)
        assert set(ids.values()) == {1}
        decided = Counter(pq.read_table(lake.files("posts"))["post_id"].to_pylist())
        assert len(decided) == POSTS
        assert set(decided.values()) == {1}


def test_the_estimated_prevalence_is_about_the_truth(day: Day) -> None:
    truth = sum(post.harmful for post in day.posts.values()) / POSTS
    window = Window(day.began - timedelta(minutes=1), datetime.now(UTC) + timedelta(minutes=1))
    with ledger_of(day) as ledger:
        found = measure(ledger, window).total.prevalence
    assert found.of == POSTS
    share = found.share
    assert share.low is not None
    assert share.high is not None
    right = corrected(Interval(share.value, share.low, share.high), ERRING)
    assert right.low is not None
    assert right.high is not None
    # One day of a hundred may lie outside the interval; none lies outside one three times as wide.
    wide = right.high - right.low
    assert right.low - wide <= truth <= right.high + wide
    assert wide < 0.05
