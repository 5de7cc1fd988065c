"""What was judged while a model was away is judged again when it is back: when it is sent again, and without a word."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from moderation.media import MediaRef
from moderation.posts import PostIn
from moderation.storage.features import open_features, rebuild
from moderation.storage.ledger import Ledger, now
from moderation.storage.people_tables import actions
from moderation.storage.people_tables import reviews as review_rows
from moderation.topology import Topology
from serve.experiments.split import Arm
from serve.posts.answers import GroupFound, GroupScores
from serve.posts.moderator import Answer, Moderator
from serve.posts.rejudging import LOCK, Rejudging
from serve.review import appeals, reports
from serve.review import queue as review_queue
from serve.review.models import AppealIn, LeaseIn, ReportIn, VerdictIn
from tests.rooms import a_post, run
from tests.serve.media.test_media_posts import World, an_image
from tests.serve.media.test_media_posts import a_post as media_post
from tests.serve.posts.test_moderator import CARD, Known, policy_in, topology_in

HARMFUL = "you worthless idiot"
CHANCE = random.Random(0)
SOON = 1e-9
"""Seconds after which a model that failed may be asked again: at once, and the sweeps are the tests' own."""


@dataclass
class Outage:
    """A moderator whose model a test takes away and brings back."""

    ledger: Ledger
    topology: Topology
    away: bool = True
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.moderator = Moderator(self.topology, self.ledger, self._score, lambda _variant, _version: CARD)
        self.rejudging = Rejudging(self.ledger, self.moderator, self.topology.rejudge)

    async def _score(self, _variant: str, _arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        self.asked += texts
        if self.away or "poison" in texts:
            raise ConnectionError("gone")
        scores = [{"abuse": 0.9999 if text == HARMFUL else 0.01, "hate": 0.01} for text in texts]
        return GroupScores(1, scores, [0.0] * len(texts))

    def put(self, post: PostIn, post_id: str = "p-1") -> Answer:
        return run(self.moderator.moderate(post_id, post))

    def sweep(self) -> int:
        return run(self.rejudging.sweep())

    def newest(self, post_id: str = "p-1") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ledger.newest([post_id])[post_id].body)
        return found

    def acted(self, post_id: str = "p-1") -> list[tuple[str, str]]:
        query = select(actions.c.action, actions.c.actor).where(actions.c.post_id == post_id)
        with self.ledger.read() as connection:
            return [tuple(row) for row in connection.execute(query.order_by(actions.c.action_id))]

    def asked_of_people(self) -> list[tuple[int, str, str]]:
        query = select(review_rows.c.content_version, review_rows.c.kind, review_rows.c.status)
        with self.ledger.read() as connection:
            return [tuple(row) for row in connection.execute(query.order_by(review_rows.c.review_id))]

    def lease(self, reviewer: str = "mod-1") -> list[int]:
        wanted = LeaseIn(reviewer_id=reviewer)
        policy, rules = self.topology.policy, self.topology.review
        got = review_queue.lease(self.ledger, wanted, policy=policy, rules=rules, chance=CHANCE)
        return [one.review_id for one in got]

    def decide(self, review_id: int, said: Any, reviewer: str = "mod-1") -> None:
        labels = {"abuse": True} if said == "remove" else {}
        verdict = VerdictIn(reviewer_id=reviewer, verdict=said, labels=labels)
        review_queue.decide(self.ledger, review_id, verdict, rules=self.topology.review, chance=CHANCE)


QUIET = {"second_share": 0, "golden_share": 0, "sampled_allowed": 0, "sampled_uncertain": 0, "sampled_removed": 0}


@pytest.fixture
def make(ledger: Ledger, tmp_path: Path) -> Callable[..., Outage]:
    def made(on_failure: str | None = None, **rejudge: Any) -> Outage:
        policy = {} if on_failure is None else {"policy": policy_in(tmp_path, on_failure=on_failure)}
        changes = {"review": QUIET, "rejudge": {"every_s": SOON} | rejudge} | policy
        return Outage(ledger, topology_in(tmp_path, **changes))

    return made


@pytest.fixture
def outage(make: Callable[..., Outage]) -> Outage:
    return make()


def test_what_is_sent_again_is_judged_again_once_the_model_is_back(outage: Outage) -> None:
    first = json.loads(outage.put(a_post(HARMFUL)).body)
    assert (first["degraded"], first["decision"], first["rejudges"]) == (True, "review", None)
    outage.away = False
    again = outage.put(a_post(HARMFUL))
    body = json.loads(again.body)
    assert not again.replayed
    assert (body["content_version"], body["degraded"], body["decision"], body["rejudges"]) == (2, False, "remove", 1)
    assert outage.put(a_post(HARMFUL)) == Answer(again.body, replayed=True)
    history = [json.loads(recorded.body) for recorded in outage.ledger.history("p-1")]
    assert [(one["content_version"], one["degraded"]) for one in history] == [(1, True), (2, False)]


def test_nobody_needs_to_send_it_again(outage: Outage) -> None:
    outage.put(a_post(HARMFUL), "bad")
    outage.put(a_post("fine"), "good")
    assert outage.acted("good") == [("hold", "model")]
    assert outage.sweep() == 0  # it is still away
    assert len(outage.ledger.history("bad")) == 1
    outage.away = False
    assert outage.sweep() == 2
    assert (outage.newest("bad")["decision"], outage.newest("good")["decision"]) == ("remove", "allow")
    assert outage.acted("bad") == [("hold", "model"), ("remove", "model")]
    assert outage.acted("good") == [("hold", "model"), ("allow", "model")]
    # What was queued because nothing was known is not asked any more.
    assert outage.asked_of_people() == [(1, "flagged", "dropped"), (1, "flagged", "dropped")]
    asked = len(outage.asked)
    assert outage.sweep() == 0
    assert len(outage.asked) == asked


def test_what_a_model_is_still_away_for_costs_each_resend_nothing_until_it_may_be_back(
    make: Callable[..., Outage],
) -> None:
    outage = make(every_s=3600)
    first = outage.put(a_post())
    asked = len(outage.asked)
    outage.away = False
    assert outage.put(a_post()) == Answer(first.body, replayed=True)
    assert len(outage.asked) == asked
    outage.put(a_post("other"), "p-2")  # another post finds that it is back
    assert not outage.put(a_post()).replayed


def test_an_operator_may_leave_them_as_they_were(make: Callable[..., Outage]) -> None:
    outage = make(every_s=0)
    first = outage.put(a_post())
    asked = len(outage.asked)
    outage.away = False
    assert outage.put(a_post()) == Answer(first.body, replayed=True)
    run(outage.rejudging.run())  # it does not even begin
    assert len(outage.asked) == asked


@pytest.mark.parametrize("said", ["allow", "remove"])
def test_what_a_person_said_meanwhile_stands(outage: Outage, said: str) -> None:
    outage.put(a_post(HARMFUL))
    outage.decide(outage.lease()[0], said)
    outage.away = False
    asked = len(outage.asked)
    assert outage.sweep() == 0
    assert outage.put(a_post(HARMFUL)).replayed
    assert outage.newest()["decision"] == said
    assert len(outage.ledger.history("p-1")) == 1
    assert len(outage.asked) == asked  # no model is even asked


def test_what_a_person_holds_is_left_to_them(outage: Outage) -> None:
    outage.put(a_post(HARMFUL))
    [number] = outage.lease()
    outage.away = False
    assert outage.sweep() == 0
    outage.decide(number, "allow")
    assert outage.newest()["decision"] == "allow"


def test_what_people_reported_stays_before_them(make: Callable[..., Outage]) -> None:
    outage = make(on_failure="allow")
    outage.put(a_post("fine"))
    for number in range(3):
        body = ReportIn(reporter_id=f"r-{number}", reason="rude")
        reports.add(outage.ledger, "p-1", body, policy=outage.topology.policy, rules=outage.topology.review)
    outage.away = False
    assert outage.sweep() == 0
    assert outage.asked_of_people() == [(1, "reported", "open")]


def test_what_was_restored_on_appeal_is_not_touched(outage: Outage) -> None:
    outage.away = False
    outage.put(a_post(HARMFUL))
    appeal = AppealIn(author_id="u-1", reason="a joke among friends")
    appeals.add(outage.ledger, "p-1", appeal, policy=outage.topology.policy, rules=outage.topology.review)
    outage.decide(outage.lease()[0], "allow")
    outage.away = True
    outage.put(a_post(HARMFUL), "p-2")  # the same content elsewhere is exempt too
    assert outage.newest("p-2")["decision"] == "allow"
    outage.away = False
    assert outage.sweep() == 0
    assert outage.put(a_post(HARMFUL), "p-2").replayed


def test_newer_content_is_not_replaced_by_what_was_before_it(outage: Outage) -> None:
    outage.put(a_post(HARMFUL))
    outage.away = False
    outage.put(a_post("fine"))
    assert outage.sweep() == 0
    assert [json.loads(one.body)["decision"] for one in outage.ledger.history("p-1")] == ["review", "allow"]


def test_newer_content_that_comes_while_it_is_judged_again_stands(outage: Outage) -> None:
    outage.put(a_post(HARMFUL))
    outage.away = False
    score = outage.moderator.judge._score

    async def overtaken(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        outage.moderator.judge._score = score
        await outage.moderator.moderate("p-1", a_post("fine"))
        return await score(variant, arm, texts, known, deadline)

    outage.moderator.judge._score = overtaken
    assert outage.sweep() == 0
    assert outage.newest()["decision"] == "allow"
    assert len(outage.ledger.history("p-1")) == 2


def test_nothing_older_follows_what_was_judged_again(outage: Outage) -> None:
    outage.put(a_post("a"))
    outage.put(a_post("a", minute=9))
    outage.away = False
    assert outage.sweep() == 1
    assert outage.ledger.newest(["p-1"])["p-1"].created_at == a_post(minute=9).created_at


def test_one_that_fails_each_time_holds_up_no_others(make: Callable[..., Outage]) -> None:
    outage = make(group_size=1)
    for post_id, text in (("p-1", "poison"), ("p-2", "a"), ("p-3", "b")):
        outage.put(a_post(text), post_id)
    outage.away = False
    assert [outage.sweep() for _ in range(3)] == [0, 2, 0]
    assert outage.newest("p-1")["degraded"]
    assert not outage.newest("p-3")["degraded"]


def test_what_was_decided_too_long_ago_is_only_judged_when_it_is_sent(make: Callable[..., Outage]) -> None:
    outage = make(within_h=1e-9)
    outage.put(a_post())
    outage.away = False
    assert outage.sweep() == 0
    assert not outage.put(a_post()).replayed


def test_a_text_to_learn_from_is_not_judged_again(outage: Outage) -> None:
    run(outage.moderator.moderate("p-1", a_post(HARMFUL), acts=False))
    outage.away = False
    assert outage.sweep() == 0
    assert outage.acted() == []


def test_one_replica_at_a_time(outage: Outage) -> None:
    outage.put(a_post())
    outage.away = False
    with outage.ledger.lock(LOCK):
        assert outage.sweep() == 0
    assert outage.sweep() == 1


def test_an_author_is_counted_once_live_and_rebuilt(outage: Outage, tmp_path: Path) -> None:
    store = open_features(f"sqlite:///{tmp_path / 'features.db'}")
    outage.moderator = Moderator(outage.topology, outage.ledger, outage._score, lambda _variant, _version: CARD, store)
    outage.rejudging = Rejudging(outage.ledger, outage.moderator, outage.topology.rejudge)
    at = now()

    async def work() -> None:
        await outage.moderator.moderate("p-1", a_post(created_at=at))
        outage.away = False
        assert await outage.rejudging.sweep() == 1
        await asyncio.gather(*outage.moderator._beside)  # what is counted, after the reply

    def counted() -> list[float | bool | str | None]:
        [author], _ = store.read(["u-1"], ["gardening"], [now()])
        return [value for name, value in author.items() if name.startswith("author_posts")]

    run(work())
    assert counted() == [1.0, 1.0, 1.0]
    rebuild(store, outage.ledger, now())
    assert counted() == [1.0, 1.0, 1.0]


def test_posts_with_media_are_judged_again_with_them(ledger: Ledger, tmp_path: Path) -> None:
    world = World(ledger, tmp_path)
    rules = world.moderator._topology.rejudge.model_copy(update={"every_s": SOON})
    world.moderator._topology = topology = replace(world.moderator._topology, rejudge=rules)
    look = world.moderator.judge._score_media
    assert look is not None

    async def away(_variant: str, _arm: Arm, _media: list[MediaRef], _deadline: float) -> GroupFound:
        raise ConnectionError("gone")

    world.moderator.judge._score_media = away
    assert world.decide(media_post("a", an_image()))["degraded"] is True
    world.moderator.judge._score_media = look
    assert run(Rejudging(ledger, world.moderator, topology.rejudge).sweep()) == 1
    newest = json.loads(ledger.newest(["p-1"])["p-1"].body)
    assert (newest["degraded"], newest["media"][0]["status"], newest["rejudges"]) == (False, "scored", 1)
