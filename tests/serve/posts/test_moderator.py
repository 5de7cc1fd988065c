"""A post's way without HTTP, on a real ledger, with the shipped topology, policy and model card."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import OperationalError

from moderation.errors import ConflictError, ModelError
from moderation.models.card import Card
from moderation.models.operating import OperatingCurve
from moderation.policy import threshold_of
from moderation.posts import PostIn, TextFeature
from moderation.preprocess.features import Features
from moderation.preprocess.links import Blocklist, FoundLink, find_links
from moderation.settings import DEPLOYMENTS
from moderation.storage.features import AUTHOR_FEATURES, COMMUNITY_FEATURES, FeatureStore, open_features
from moderation.storage.ledger import Entry, Ledger
from moderation.storage.people_tables import actions, exemptions, removal_counts, reviews
from moderation.storage.people_tables import fuses as fuse_rows
from moderation.storage.tables import decisions, metadata, posts, same_version, scorings
from moderation.topology import Topology
from serve.errors import ClientShareError, DeadlineError, QueueFullError
from serve.experiments.split import Arm, Split, arm_of
from serve.fuse import fuses
from serve.posts.answers import GroupScores, Score
from serve.posts.moderator import Answer, Moderator
from tests.rooms import TOPOLOGY, VARIANT, a_post, run, shipped_card

CARD = shipped_card()
Call = tuple[str, Arm, list[str]]
Known = list[Features]
Result = TypeVar("Result")


def scoring(
    calls: list[Call] | None = None, *, abuse: float = 0.01, hate: float = 0.01, versions: tuple[int, int] = (1, 2)
) -> Score:
    """A model that gives every text the same scores and notes what it was asked."""

    async def score(variant: str, arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        if calls is not None:
            calls.append((variant, arm, list(texts)))
        await asyncio.sleep(0.001)
        version = versions[0] if arm == "champion" else versions[1]
        return GroupScores(version, [{"abuse": abuse, "hate": hate} for _ in texts], [0.25] * len(texts))

    return score


def failing(error: BaseException) -> Score:
    async def score(_variant: str, _arm: Arm, _texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        raise error

    return score


def shipped() -> Topology:
    return Topology.load(TOPOLOGY)


def topology_in(folder: Path, **changes: Any) -> Topology:
    """The shipped topology with changes, as an operator would write it."""
    raw = yaml.safe_load(TOPOLOGY.read_text(encoding="utf-8"))
    raw |= {"policy": str(DEPLOYMENTS / raw["policy"]), "blocklist": str(DEPLOYMENTS / raw["blocklist"])}
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump(raw | changes), encoding="utf-8")
    return Topology.load(path)


def policy_in(folder: Path, **changes: str) -> str:
    """The shipped policy with changes to both labels' rules."""
    raw = yaml.safe_load((DEPLOYMENTS / "policies/precision-first.yaml").read_text(encoding="utf-8"))
    for rule in raw["labels"].values():
        rule.update(changes)
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return str(path)


def moderator(
    ledger: Ledger,
    score: Score,
    *,
    topology: Topology | None = None,
    card: Callable[[str, int], Card] = lambda _variant, _version: CARD,
    known: FeatureStore | None = None,
    recorded: Callable[[Sequence[Entry]], None] | None = None,
) -> Moderator:
    return Moderator(topology or shipped(), ledger, score, card, known, recorded)


def decide(moderator: Moderator, post: PostIn, post_id: str = "p-1") -> dict[str, Any]:
    decision: dict[str, Any] = json.loads(run(moderator.moderate(post_id, post)).body)
    return decision


def rows(ledger: Ledger) -> list[Any]:
    """The decisions, with what each asked variant said: a row for each."""
    same = same_version(scorings, decisions)
    said = [column.label(f"scored_{column.name}") for column in scorings.c]
    with ledger.read() as connection:
        query = select(decisions, *said).outerjoin(scorings, same).order_by(decisions.c.decision_id)
        return list(connection.execute(query))


async def all_of(moderator: Moderator, items: Sequence[tuple[str, PostIn]]) -> list[Answer | BaseException]:
    return await asyncio.gather(*(moderator.moderate(*item) for item in items), return_exceptions=True)


def bodies(answers: Sequence[Answer | BaseException]) -> list[dict[str, Any]]:
    found = []
    for answer in answers:
        assert isinstance(answer, Answer), answer
        found.append(json.loads(answer.body))
    return found


def test_a_decision_says_what_made_it_and_is_recorded_with_its_features(ledger: Ledger) -> None:
    calls: list[Call] = []
    before = datetime.now(UTC)
    decision = decide(moderator(ledger, scoring(calls, abuse=0.03, hate=0.02)), a_post("the tomatoes are ripe today"))
    assert calls == [(VARIANT, "champion", ["the tomatoes are ripe today"])]
    assert (decision["decision"], decision["mode"], decision["degraded"]) == ("allow", "reactive", False)
    assert decision["models"] == {"text": "text-multi@1"}
    assert decision["policy_version"] == shipped().policy.version
    threshold = threshold_of(CARD.curve("abuse", "en"), "precision>=0.8", 0.05)
    assert decision["labels"]["abuse"] == {
        "status": "scored",
        "score": 0.03,
        "threshold": threshold,
        "remove_threshold": threshold,
        "flagged": False,
        "input_types": ["text"],
        "objective": "precision>=0.8",
        "reason": None,
        "language": "en",
        "in_training": True,
        "held_back": None,
        "partly_read": False,
        "parts": [],
    }
    assert decision["labels"]["violence"]["reason"] == "no_model"
    assert decision["experiments"] == {}
    assert decision["latency_ms"] > 0
    assert datetime.fromisoformat(decision["decided_at"]) >= before
    [row] = rows(ledger)
    assert (row.scored_variant, row.scored_model_version, row.scored_arm) == (VARIANT, 1, None)
    assert json.loads(row.body) == decision
    features = row.features | row.scored_features
    assert (features["score_abuse"], features["score_hate"], features["unseen_word_share"]) == (0.03, 0.02, 0.25)
    assert (features["words"], features["characters"], features["language"]) == (5.0, 27.0, "en")


def test_a_high_score_removes_the_post_as_the_policy_says(ledger: Ledger) -> None:
    decision = decide(moderator(ledger, scoring(abuse=0.9999)), a_post())
    assert decision["labels"]["abuse"]["flagged"] is True
    assert decision["decision"] == "remove"
    assert decision["review"] == {"queued": False, "deadline": None, "reasons": []}


PREVIEWED = a_post("you idiot, see https://files.malware.example/setup.exe")
TIMES_AND_NAMES = {"post_id", "decided_at", "latency_ms"}


def test_a_preview_is_the_decision_that_the_post_would_get(ledger: Ledger) -> None:
    one = moderator(ledger, scoring(abuse=0.9999))
    previewed = json.loads(run(one.preview(PREVIEWED)))
    decided = decide(one, PREVIEWED)
    assert (previewed["post_id"], previewed["decision"], previewed["content_version"]) == ("preview", "remove", 1)
    assert previewed["links"]
    assert previewed["models"] == {"text": "text-multi@1"}
    for decision in (previewed, decided):
        for name in TIMES_AND_NAMES:
            decision.pop(name)
        if decision["review"]["deadline"]:
            decision["review"].pop("deadline")
    assert previewed == decided


def test_a_preview_leaves_nothing_anywhere(ledger: Ledger, tmp_path: Path) -> None:
    known = open_features(f"sqlite:///{tmp_path / 'features.db'}")
    told: list[Entry] = []
    one = moderator(ledger, scoring(abuse=0.9999), known=known, recorded=told.extend)
    for said in ("you idiot", "you idiot", "harmless"):
        run(one.preview(a_post(said)))
    with ledger.read() as connection:
        left = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
    assert set(left.values()) == {0}, left
    assert told == []
    [author], [community] = known.read(["u-1"], ["gardening"], [datetime.now(UTC)])
    assert {value for name, value in (author | community).items() if "posts" in name} <= {0.0, None}


def test_previews_that_break_are_answered_alone_and_are_bounded(ledger: Ledger, tmp_path: Path) -> None:
    limits = {"max_waiting_posts": 2, "group_size": 1, "client_share": 1.0}
    one = moderator(ledger, scoring(), topology=topology_in(tmp_path, gateway=limits))

    async def many() -> list[str | BaseException]:
        return await asyncio.gather(*(one.preview(a_post(str(n))) for n in range(5)), return_exceptions=True)

    found = run(many())
    refused = [item for item in found if isinstance(item, BaseException)]
    assert 0 < len(refused) < 5
    assert all(isinstance(error, QueueFullError) for error in refused)
    failed = json.loads(run(moderator(ledger, failing(ModelError("gone"))).preview(a_post())))
    assert failed["degraded"] is True


def test_a_region_has_thresholds_of_its_own(ledger: Ledger) -> None:
    germany = decide(moderator(ledger, scoring()), a_post(region="DE"), "de")["labels"]["abuse"]
    elsewhere = decide(moderator(ledger, scoring()), a_post(region="FR"), "fr")["labels"]["abuse"]
    assert (germany["objective"], elsewhere["objective"]) == ("precision>=0.7", "precision>=0.8")
    assert germany["threshold"] < elsewhere["threshold"]


def test_what_is_known_of_the_author_is_no_content_and_a_repeat_is_known_without_it(ledger: Ledger) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))
    first = decide(asked, a_post(author={"age_days": 1}))
    assert decide(asked, a_post(author={"age_days": 2})) == first
    assert len(calls) == 1


@pytest.mark.parametrize("created", ["2026-11-24T00:00:00Z", "2026-12-01T00:00:00Z", "2020-01-01T00:00:00+02:00"])
def test_the_same_content_is_answered_from_the_ledger_without_a_second_score(ledger: Ledger, created: str) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))

    async def work() -> tuple[Answer, Answer]:
        return await asked.moderate("p-1", a_post()), await asked.moderate("p-1", a_post(created_at=created))

    first, second = run(work())
    assert (first.replayed, second.replayed) == (False, True)
    assert second.body == first.body
    assert len(calls) == 1
    assert len(rows(ledger)) == 1


def test_another_moderator_on_the_same_ledger_answers_what_the_first_decided(ledger: Ledger) -> None:
    first = run(moderator(ledger, scoring(abuse=0.1)).moderate("p-1", a_post()))
    second = run(moderator(ledger, failing(RuntimeError("must not be asked"))).moderate("p-1", a_post()))
    assert second == Answer(first.body, replayed=True)


@pytest.mark.parametrize("changes", [{"text": "other"}, {"author_id": "u-2"}, {"community": "c"}, {"region": "FR"}])
def test_changed_content_is_judged_anew_as_the_next_version(ledger: Ledger, changes: dict[str, Any]) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))
    first = decide(asked, a_post())
    second = decide(asked, a_post(minute=1, **changes))
    assert (first["content_version"], second["content_version"]) == (1, 2)
    assert len(calls) == 2


def test_concurrent_puts_of_one_post_are_scored_once_and_one_is_told_that_it_was_the_first(ledger: Ledger) -> None:
    calls: list[Call] = []
    answers = run(all_of(moderator(ledger, scoring(calls)), [("p-1", a_post())] * 20))
    assert [texts for _, _, texts in calls] == [["the tomatoes are ripe"]]
    assert len({json.dumps(body) for body in bodies(answers)}) == 1
    assert [answer.replayed for answer in answers if isinstance(answer, Answer)] == [False] + [True] * 19
    assert len(rows(ledger)) == 1


def test_two_services_that_race_record_one_decision_and_answer_the_same(ledger: Ledger) -> None:
    # Two gateways know nothing of each other's posts in flight; the ledger settles it.
    one, other = moderator(ledger, scoring(abuse=0.1)), moderator(ledger, scoring(abuse=0.2))

    async def work() -> list[Answer]:
        return list(await asyncio.gather(one.moderate("p-1", a_post()), other.moderate("p-1", a_post())))

    answers = run(work())
    assert answers[0].body == answers[1].body
    assert sorted(answer.replayed for answer in answers) == [False, True]
    assert len(rows(ledger)) == 1


def test_a_caller_that_leaves_does_not_take_the_answer_from_others_of_the_same_post(ledger: Ledger) -> None:
    asked = moderator(ledger, scoring())

    async def work() -> list[Answer]:
        tasks = [asyncio.create_task(asked.moderate("p-1", a_post())) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks[1:])
        assert tasks[0].cancelled()
        return answers

    first, second = run(work())
    assert first.body == second.body
    assert len(rows(ledger)) == 1


class Gate:
    """A model that answers when it is let, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.texts: list[str] = []

    async def score(self, _variant: str, _arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        self.texts += texts
        self.asked.set()
        await self.open.wait()
        return GroupScores(1, [{"abuse": 0.01, "hate": 0.01} for _ in texts], [0.25] * len(texts))


def one_at_a_time(folder: Path) -> Topology:
    return topology_in(folder, gateway={"group_size": 1, "max_waiting_posts": 8})


async def later(*work: Coroutine[Any, Any, Result]) -> list[asyncio.Task[Result]]:
    """Tasks that have begun, and wait for something now."""
    tasks = [asyncio.create_task(item) for item in work]
    for _ in range(6):
        await asyncio.sleep(0)
    return tasks


def test_what_nobody_waits_for_is_dropped_before_a_model_is_asked(ledger: Ledger, tmp_path: Path) -> None:
    async def work() -> list[str]:
        gate = Gate()
        asked = moderator(ledger, gate.score, topology=one_at_a_time(tmp_path))
        busy = await later(
            *(asked.moderate(f"busy-{number}", a_post(f"busy {number}", language="en")) for number in range(2))
        )
        await gate.asked.wait()
        leaving = await later(
            *(asked.moderate(f"p-{number}", a_post(f"gone {number}", language="en")) for number in range(8))
        )
        assert asked.full
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        assert not asked.full  # at once: they hold up nobody
        [stays] = await later(asked.moderate("stays", a_post("here", language="en")))
        gate.open.set()
        await asyncio.gather(*busy, stays)
        assert asked._in_flight == {}
        return gate.texts

    assert sorted(run(work())) == ["busy 0", "busy 1", "here"]
    assert {json.loads(row.body)["post_id"] for row in rows(ledger)} == {"busy-0", "busy-1", "stays"}


def test_a_post_that_one_of_its_callers_still_waits_for_is_judged(ledger: Ledger, tmp_path: Path) -> None:
    async def work() -> tuple[Answer, list[str]]:
        gate = Gate()
        asked = moderator(ledger, gate.score, topology=one_at_a_time(tmp_path))
        busy = await later(
            *(asked.moderate(f"busy-{number}", a_post(f"busy {number}", language="en")) for number in range(2))
        )
        await gate.asked.wait()
        post = a_post("a", language="en")
        leaves, stays = await later(asked.moderate("p-1", post), asked.moderate("p-1", post))
        leaves.cancel()
        await asyncio.wait([leaves])
        gate.open.set()
        await asyncio.gather(*busy)
        return await stays, gate.texts

    answer, texts = run(work())
    assert answer.replayed
    assert texts.count("a") == 1


def test_content_that_follows_what_was_dropped_follows_what_was_before_that(ledger: Ledger, tmp_path: Path) -> None:
    async def work() -> list[Answer]:
        gate = Gate()
        asked = moderator(ledger, gate.score, topology=one_at_a_time(tmp_path))
        [first] = await later(asked.moderate("p-1", a_post("first", minute=1)))
        await gate.asked.wait()
        [second] = await later(asked.moderate("p-1", a_post("second", minute=2)))
        second.cancel()
        await asyncio.wait([second])
        # As sent again while its first sending is on its way: known, and not judged twice.
        again, third = await later(
            asked.moderate("p-1", a_post("first", minute=1)), asked.moderate("p-1", a_post("third", minute=3))
        )
        [fourth] = await later(asked.moderate("p-1", a_post("fourth", minute=4)))
        third.cancel()
        await asyncio.wait([third])
        gate.open.set()
        found = list(await asyncio.gather(first, again, fourth))
        assert asked._in_flight == {}
        return found

    found = run(work())
    assert [body["content_version"] for body in bodies(found)] == [1, 1, 2]
    assert [answer.replayed for answer in found] == [False, True, False]


def test_a_caller_that_leaves_costs_other_posts_of_its_group_nothing_and_its_own_is_recorded(ledger: Ledger) -> None:
    async def work() -> tuple[Answer, Answer]:
        gate = Gate()
        asked = moderator(ledger, gate.score)
        leaver = asyncio.create_task(asked.moderate("leaves", a_post("gone")))
        stays = asyncio.create_task(asked.moderate("stays", a_post("here", language="en")))
        await gate.asked.wait()
        leaver.cancel()
        gate.open.set()
        answer = await stays
        return answer, await asked.moderate("leaves", a_post("gone"))

    stayed, again = run(work())
    assert (stayed.replayed, again.replayed) == (False, True)
    assert {json.loads(row.body)["post_id"] for row in rows(ledger)} == {"leaves", "stays"}


def test_older_content_is_refused_without_a_score_and_the_newer_one_stays(ledger: Ledger) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))
    newest = run(asked.moderate("p-1", a_post("newer", minute=5, language="en")))
    with pytest.raises(ConflictError, match=r"created at 2026-11-24T00:05:00\+00:00, later than") as refused:
        run(asked.moderate("p-1", a_post("older", minute=4)))
    assert "2026-11-24T00:04:00+00:00" in str(refused.value)
    assert [texts for _, _, texts in calls] == [["newer"]]
    assert ledger.newest(["p-1"])["p-1"].body == newest.body
    assert len(ledger.history("p-1")) == 1


def test_two_contents_of_a_post_in_one_group_are_settled_by_their_time(ledger: Ledger) -> None:
    in_order = [("p-1", a_post("first", minute=1)), ("p-1", a_post("second", minute=2))]
    assert [body["content_version"] for body in bodies(run(all_of(moderator(ledger, scoring()), in_order)))] == [1, 2]

    reversed_order = [("p-2", a_post("second", minute=2)), ("p-2", a_post("first", minute=1))]
    newer, older = run(all_of(moderator(ledger, scoring()), reversed_order))
    assert isinstance(newer, Answer)
    assert isinstance(older, ConflictError)
    assert len(ledger.history("p-2")) == 1


def test_what_is_too_long_to_be_read_whole_is_told(ledger: Ledger) -> None:
    async def score(_variant: str, _arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        long = frozenset(place for place, text in enumerate(texts) if len(text) > 10)
        return GroupScores(1, [{"abuse": 0.1, "hate": 0.1}] * len(texts), [0.0] * len(texts), long)

    asked = moderator(ledger, score)
    sent = [("p-1", a_post("short")), ("p-2", a_post("longer than ten"))]
    found = bodies(run(all_of(asked, sent)))
    assert [body["labels"]["abuse"]["partly_read"] for body in found] == [False, True]
    texts = [
        TextFeature(id="a", text="short", language="en"),
        TextFeature(id="b", text="longer than ten", language="en"),
    ]
    assert [result.partly_read for result in run(asked.judge.texts.score("text", texts))] == [False, True]


def test_content_that_came_again_keeps_out_what_is_older_than_that(ledger: Ledger) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))
    first = decide(asked, a_post("a", minute=1, language="en"))
    assert decide(asked, a_post("a", minute=3, language="en")) == first
    with pytest.raises(ConflictError, match="00:03:00"):
        run(asked.moderate("p-1", a_post("b", minute=2)))
    assert [texts for _, _, texts in calls] == [["a"]]


def test_what_goes_back_to_what_it_was_while_both_are_on_their_way_is_recorded_so(ledger: Ledger) -> None:
    sent = [("p-1", a_post("a", minute=1)), ("p-1", a_post("b", minute=2)), ("p-1", a_post("a", minute=3))]
    assert [body["content_version"] for body in bodies(run(all_of(moderator(ledger, scoring()), sent)))] == [1, 2, 3]


def test_the_same_content_of_a_later_moment_waits_for_the_first_and_is_not_scored_again(ledger: Ledger) -> None:
    calls: list[Call] = []
    sent = [("p-1", a_post("a", minute=minute, language="en")) for minute in (1, 3, 2)]
    answers = run(all_of(moderator(ledger, scoring(calls)), sent))
    assert [body["content_version"] for body in bodies(answers)] == [1, 1, 1]
    assert [answer.replayed for answer in answers if isinstance(answer, Answer)] == [False, True, True]
    assert [texts for _, _, texts in calls] == [["a"]]
    assert ledger.newest(["p-1"])["p-1"].created_at == a_post(minute=3).created_at


def test_contents_of_one_post_are_bounded_as_those_of_many_are(ledger: Ledger, tmp_path: Path) -> None:
    calls: list[Call] = []
    topology = topology_in(tmp_path, gateway={"group_size": 2, "max_waiting_posts": 4})
    items = [("p-1", a_post(letter, language="en")) for letter in "abcdef"]
    answers = run(all_of(moderator(ledger, scoring(calls), topology=topology), items))
    assert [body["content_version"] for body in bodies(answers[:4])] == [1, 2, 3, 4]
    assert [type(answer) for answer in answers[4:]] == [QueueFullError] * 2
    assert [texts for _, _, texts in calls] == [["a", "b"], ["c", "d"]]


def test_contents_of_one_post_are_settled_in_their_order_though_the_first_takes_longer(
    ledger: Ledger, tmp_path: Path
) -> None:
    # Groups of one, two of which are on their way at a time.
    topology = topology_in(tmp_path, gateway={"group_size": 1})
    scored = scoring()

    async def slow_at_first(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        if texts == ["a"]:
            await asyncio.sleep(0.2)
        return await scored(variant, arm, texts, known, deadline)

    sent = [("p-1", a_post("a", minute=1)), ("p-2", a_post("x")), ("p-1", a_post("b", minute=1))]
    answers = run(all_of(moderator(ledger, slow_at_first, topology=topology), sent))
    assert [body["content_version"] for body in bodies(answers)] == [1, 1, 2]
    assert json.loads(ledger.newest(["p-1"])["p-1"].body)["content_version"] == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("out of memory"), TimeoutError(), DeadlineError("late"), ConnectionError("gone")]
)
def test_a_model_that_fails_costs_scores_not_posts(ledger: Ledger, error: Exception) -> None:
    decision = decide(moderator(ledger, failing(error)), a_post())
    assert decision["degraded"] is True
    for label in ("abuse", "hate"):
        found = decision["labels"][label]
        assert (found["status"], found["score"], found["threshold"]) == ("failed", None, None)
        assert found["reason"] == f"{VARIANT}: {type(error).__name__}"
    assert decision["decision"] == "review"
    assert decision["mode"] == "proactive"  # hate is held until a person decides
    assert decision["review"]["reasons"] == ["abuse failed to score", "hate failed to score"]
    assert decision["models"] == {}
    assert decision["language"]["in_training"] is False
    [row] = rows(ledger)
    assert (row.scored_variant, row.scored_model_version) == (VARIANT, None)
    assert row.scored_features == {}
    assert not [name for name in row.features if name.startswith("score_")]


def test_a_score_call_that_is_cancelled_has_failed_and_nobody_waits_for_ever(ledger: Ledger) -> None:
    # What a Ray Serve handle raises when the request that it was made in is cancelled.
    asked = moderator(ledger, failing(asyncio.CancelledError()))

    async def work() -> list[Answer]:
        tasks = [asyncio.create_task(asked.moderate(f"p-{number}", a_post(f"text {number}"))) for number in range(2)]
        _, pending = await asyncio.wait(tasks, timeout=60)
        for task in pending:
            task.cancel()
        assert not pending
        return [task.result() for task in tasks]

    assert [body["labels"]["abuse"]["status"] for body in bodies(run(work()))] == ["failed", "failed"]


def test_a_model_that_answers_for_too_few_texts_has_failed(ledger: Ledger) -> None:
    async def score(_variant: str, _arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        return GroupScores(1, [{"abuse": 0.1, "hate": 0.1}] * (len(texts) - 1), [0.0] * (len(texts) - 1))

    items = [("p-1", a_post("one")), ("p-2", a_post("two"))]
    found = bodies(run(all_of(moderator(ledger, score), items)))
    assert [body["labels"]["abuse"]["status"] for body in found] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("on_failure", "decision", "mode", "queued"),
    [
        ("allow", "allow", "reactive", False),
        ("review", "review", "reactive", True),
        ("hold", "review", "proactive", True),
    ],
)
def test_the_policy_says_what_a_failure_means(
    ledger: Ledger, tmp_path: Path, on_failure: str, decision: str, mode: str, queued: bool
) -> None:
    topology = topology_in(tmp_path, policy=policy_in(tmp_path, on_failure=on_failure))
    found = decide(moderator(ledger, failing(RuntimeError("broken")), topology=topology), a_post())
    assert (found["decision"], found["mode"], found["review"]["queued"]) == (decision, mode, queued)
    assert found["degraded"] is True
    assert found["labels"]["abuse"]["status"] == "failed"


def test_a_version_whose_card_cannot_be_had_has_failed(ledger: Ledger) -> None:
    def card(_variant: str, version: int) -> Card:
        raise ModelError(f"no card of version {version}")

    decision = decide(moderator(ledger, scoring(abuse=0.9999), card=card), a_post())
    assert decision["labels"]["abuse"]["status"] == "failed"
    assert decision["labels"]["abuse"]["reason"] == f"{VARIANT}: ModelError"
    assert (decision["decision"], decision["degraded"], decision["models"]) == ("review", True, {})
    assert rows(ledger)[0].scored_model_version is None


def test_a_label_that_the_model_does_not_give_has_failed_alone(ledger: Ledger) -> None:
    async def score(_variant: str, _arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        return GroupScores(1, [{"abuse": 0.1} for _ in texts], [0.0] * len(texts))

    decision = decide(moderator(ledger, score), a_post())
    assert (decision["labels"]["abuse"]["status"], decision["labels"]["abuse"]["score"]) == ("scored", 0.1)
    assert (decision["labels"]["hate"]["status"], decision["labels"]["hate"]["reason"]) == ("failed", "no such output")
    assert decision["models"] == {"text": "text-multi@1"}
    assert decision["review"]["reasons"] == ["hate failed to score"]


@pytest.mark.parametrize("broken", [1.5, -0.1, float("nan")])
def test_one_broken_post_is_answered_alone_and_its_group_goes_on(ledger: Ledger, broken: float) -> None:
    async def score(_variant: str, _arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        values = [broken if text == "breaks" else 0.1 for text in texts]
        return GroupScores(1, [{"abuse": value, "hate": 0.1} for value in values], [0.0] * len(texts))

    items = [(f"p-{number}", a_post(text)) for number, text in enumerate(["fine", "breaks", "fine too"])]
    answers = run(all_of(moderator(ledger, score), items))
    assert isinstance(answers[1], ValueError)
    assert [body["post_id"] for body in bodies([answers[0], answers[2]])] == ["p-0", "p-2"]
    assert set(ledger.newest(["p-0", "p-1", "p-2"])) == {"p-0", "p-2"}
    assert run(moderator(ledger, scoring()).moderate("p-1", a_post("breaks"))).replayed is False


def test_a_post_whose_links_cannot_be_checked_is_answered_alone_and_its_group_goes_on(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str, listed: Blocklist) -> list[FoundLink]:
        if text == "broken":
            raise ZeroDivisionError
        return find_links(text, listed)

    monkeypatch.setattr("serve.posts.decision.find_links", broken)
    asked = moderator(ledger, scoring())
    answers = run(all_of(asked, [("p-1", a_post("broken")), ("p-2", a_post("fine"))]))
    assert isinstance(answers[0], ZeroDivisionError)
    assert [body["post_id"] for body in bodies(answers[1:])] == ["p-2"]


def test_a_group_is_one_call_and_never_larger_than_its_bound(ledger: Ledger) -> None:
    calls: list[Call] = []
    items = [(f"p-{number}", a_post(f"text {number}", language="en")) for number in range(100)]
    found = bodies(run(all_of(moderator(ledger, scoring(calls)), items)))
    assert [body["post_id"] for body in found] == [post_id for post_id, _ in items]
    assert sorted(len(texts) for _, _, texts in calls) == [36, 64]
    assert len(rows(ledger)) == 100


def test_too_many_waiting_posts_are_told_and_cost_the_others_nothing(ledger: Ledger, tmp_path: Path) -> None:
    topology = topology_in(tmp_path, gateway={"group_size": 2, "max_waiting_posts": 4})
    items = [(f"p-{number}", a_post(f"text {number}")) for number in range(7)]
    answers = run(all_of(moderator(ledger, scoring(), topology=topology), items))
    assert [body["post_id"] for body in bodies(answers[:4])] == ["p-0", "p-1", "p-2", "p-3"]
    assert [type(answer) for answer in answers[4:]] == [QueueFullError] * 3
    assert len(rows(ledger)) == 4


def test_a_client_that_fills_the_queue_leaves_room_for_others(ledger: Ledger, tmp_path: Path) -> None:
    bounds = {"group_size": 2, "max_waiting_posts": 8, "client_share": 0.5}
    asked = moderator(ledger, scoring(), topology=topology_in(tmp_path, gateway=bounds))

    async def work() -> list[Answer | BaseException]:
        senders = ["greedy"] * 6 + ["modest"] * 2 + [None]
        puts = (asked.moderate(f"p-{n}", a_post(f"text {n}"), client=client) for n, client in enumerate(senders))
        return await asyncio.gather(*puts, return_exceptions=True)

    answers = run(work())
    assert [body["post_id"] for body in bodies(answers[:4] + answers[6:])] == [f"p-{n}" for n in (0, 1, 2, 3, 6, 7, 8)]
    assert [type(answer) for answer in answers[4:6]] == [ClientShareError] * 2
    assert [answer.bound for answer in answers[4:6] if isinstance(answer, ClientShareError)] == [4, 4]
    assert len(rows(ledger)) == 7


def test_a_batch_counts_for_its_client(ledger: Ledger, tmp_path: Path) -> None:
    bounds = {"max_waiting_posts": 8, "client_share": 0.5}
    asked = moderator(ledger, scoring(), topology=topology_in(tmp_path, gateway=bounds))

    async def work() -> list[Answer]:
        asked.admit("greedy")
        batch = [
            asyncio.create_task(asked.moderate(f"b-{n}", a_post(f"text {n}"), taken=True, client="greedy"))
            for n in range(5)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ClientShareError, match="5 posts of this client are waiting already, the bound is 4"):
            asked.admit("greedy")
        asked.admit("modest")
        return [*await asyncio.gather(*batch), await asked.moderate("p-1", a_post(), client="greedy")]

    assert [body["post_id"] for body in bodies(run(work()))] == [*(f"b-{n}" for n in range(5)), "p-1"]


def test_posts_of_a_batch_that_was_taken_are_not_refused(ledger: Ledger, tmp_path: Path) -> None:
    asked = moderator(ledger, scoring(), topology=topology_in(tmp_path, gateway={"max_waiting_posts": 2}))

    async def work() -> tuple[list[bool], list[Answer]]:
        full = [asked.full]
        batch = [
            asyncio.create_task(asked.moderate(f"b-{number}", a_post(f"text {number}"), taken=True))
            for number in range(5)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        full.append(asked.full)
        with pytest.raises(QueueFullError, match="2 posts are waiting already"):
            await asked.moderate("p-1", a_post())
        answers = await asyncio.gather(*batch)
        return [*full, asked.full], answers

    full, answers = run(work())
    assert full == [False, True, False]
    assert [body["post_id"] for body in bodies(answers)] == [f"b-{number}" for number in range(5)]


def test_a_ledger_that_fails_is_told_to_every_caller_and_nothing_half_is_recorded(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(text("ALTER TABLE decisions RENAME TO away"))
    asked = moderator(ledger, scoring())
    answers = run(all_of(asked, [("p-1", a_post("one")), ("p-2", a_post("two"))]))
    assert [type(answer) for answer in answers] == [OperationalError] * 2
    with ledger.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO decisions"))
    with ledger.read() as connection:
        assert connection.execute(select(posts)).all() == []
    assert run(asked.moderate("p-1", a_post("one"))).replayed is False


def two_services(folder: Path) -> Topology:
    """The shipped variant for all texts, and one that knows rumours for those in English."""
    raw = yaml.safe_load(TOPOLOGY.read_text(encoding="utf-8"))
    rumours = {"service": "misinformation", "labels": ["misinformation"], "shipped": "none"}
    route = {"service": "misinformation", "regions": ["*"], "languages": ["en"], "variant": "rumours"}
    policy = yaml.safe_load((DEPLOYMENTS / raw["policy"]).read_text(encoding="utf-8"))
    policy["labels"]["misinformation"] = {
        "objective": "recall>=0.5",
        "prevalence": 0.02,
        "action": "review",
        "on_failure": "allow",
    }
    (folder / "two.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    return topology_in(
        folder,
        variants=raw["variants"] | {"rumours": rumours},
        routes=[*raw["routes"], route],
        policy=str(folder / "two.yaml"),
    )


RUMOURS = OperatingCurve((0.5, 0.7), (0.9, 0.6), (0.2, 0.1), 100, 100)


def rumours_card(variant: str, _version: int) -> Card:
    return replace(CARD, curves={"misinformation": {"*": RUMOURS}}) if variant == "rumours" else CARD


def knowing_rumours(calls: list[Call], *, broken: bool = False) -> Score:
    toxicity = scoring(calls)

    async def score(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        if variant != "rumours":
            return await toxicity(variant, arm, texts, known, deadline)
        calls.append((variant, arm, list(texts)))
        if broken:
            raise TimeoutError
        scores = [{"misinformation": 0.8 if "cure" in text else 0.1} for text in texts]
        return GroupScores(5, scores, [0.5] * len(texts))

    return score


def test_every_service_that_a_route_names_is_asked_once_and_its_labels_brought_together(
    ledger: Ledger, tmp_path: Path
) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, knowing_rumours(calls), topology=two_services(tmp_path), card=rumours_card)
    items = [
        ("p-1", a_post("a cure for all", language="en")),
        ("p-2", a_post("ein Mittel, a cure", language="de")),
        ("p-3", a_post("a lovely day", language="en")),
    ]
    found = bodies(run(all_of(asked, items)))
    assert sorted(calls) == [
        ("rumours", "champion", ["a cure for all", "a lovely day"]),
        (VARIANT, "champion", ["a cure for all", "ein Mittel, a cure", "a lovely day"]),
    ]
    assert [body["models"] for body in found] == [
        {"text": f"{VARIANT}@1", "misinformation": "rumours@5"},
        {"text": f"{VARIANT}@1"},
        {"text": f"{VARIANT}@1", "misinformation": "rumours@5"},
    ]
    labels = [body["labels"]["misinformation"] for body in found]
    assert [(label["status"], label["score"], label["flagged"]) for label in labels] == [
        ("scored", 0.8, True),
        ("not_scored", None, False),
        ("scored", 0.1, False),
    ]
    assert [body["decision"] for body in found] == ["review", "allow", "allow"]
    assert found[0]["labels"]["abuse"]["status"] == "scored"
    said = sorted((row.post_id, row.scored_service, row.scored_model_version) for row in rows(ledger))
    assert said == [
        ("p-1", "misinformation", 5),
        ("p-1", "text", 1),
        ("p-2", "text", 1),
        ("p-3", "misinformation", 5),
        ("p-3", "text", 1),
    ]


def test_a_service_that_fails_costs_its_own_labels_alone(ledger: Ledger, tmp_path: Path) -> None:
    asked = moderator(ledger, knowing_rumours([], broken=True), topology=two_services(tmp_path), card=rumours_card)
    decision = decide(asked, a_post("a cure for all", language="en"))
    assert (decision["degraded"], decision["decision"]) == (True, "allow")
    assert decision["labels"]["misinformation"]["status"] == "failed"
    assert decision["labels"]["misinformation"]["reason"] == "rumours: TimeoutError"
    assert (decision["labels"]["abuse"]["status"], decision["labels"]["abuse"]["score"]) == ("scored", 0.01)
    assert decision["models"] == {"text": f"{VARIANT}@1"}


def with_split(asked: Moderator, buckets: int, salt: str = "salt") -> Split:
    split = Split(experiment="try-2", salt=salt, buckets=buckets)
    asked.judge.splits = {VARIANT: split}
    return split


@pytest.mark.parametrize(("buckets", "arm", "version"), [(0, "champion", 1), (10_000, "challenger", 2)])
def test_an_arm_is_asked_and_recorded(ledger: Ledger, buckets: int, arm: Arm, version: int) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))
    with_split(asked, buckets)
    decision = decide(asked, a_post())
    assert [(called, texts) for _, called, texts in calls] == [(arm, ["the tomatoes are ripe"])]
    assert decision["experiments"] == {"text": {"name": "try-2", "arm": arm}}
    assert decision["models"] == {"text": f"{VARIANT}@{version}"}
    [row] = rows(ledger)
    assert (row.scored_experiment, row.scored_arm, row.scored_model_version) == ("try-2", arm, version)


def test_each_service_says_which_arm_of_which_experiment_judged(ledger: Ledger, tmp_path: Path) -> None:
    asked = moderator(ledger, knowing_rumours([]), topology=two_services(tmp_path), card=rumours_card)
    asked.judge.splits = {
        VARIANT: Split(experiment="try-2", salt="a", buckets=10_000),
        "rumours": Split(experiment="[rumours]", salt="b", buckets=0),
    }
    decision = decide(asked, a_post("a cure for all", language="en"))
    assert decision["experiments"] == {
        "text": {"name": "try-2", "arm": "challenger"},
        "misinformation": {"name": "[rumours]", "arm": "champion"},
    }
    said = {row.scored_service: {"name": row.scored_experiment, "arm": row.scored_arm} for row in rows(ledger)}
    assert decision["experiments"] == said
    german = decide(asked, a_post("ein Mittel", language="de"), "p-2")
    assert german["experiments"] == {"text": {"name": "try-2", "arm": "challenger"}}


def test_an_author_stays_in_one_arm_and_a_mixed_group_makes_one_call_an_arm(ledger: Ledger) -> None:
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls))
    split = with_split(asked, 5000)
    items = [(f"p-{n}", a_post(f"text {n}", author_id=f"author-{n % 20}", language="en")) for n in range(60)]
    found = bodies(run(all_of(asked, items)))
    expected = [arm_of(split, post.author_id) for _, post in items]
    assert {"champion", "challenger"} == set(expected)
    assert [body["experiments"]["text"]["arm"] for body in found] == expected
    version = {"champion": 1, "challenger": 2}
    assert [body["models"]["text"] for body in found] == [f"{VARIANT}@{version[arm]}" for arm in expected]
    asked_of = {arm: texts for _, arm, texts in calls}
    assert len(calls) == 2
    assert asked_of["challenger"] == [
        post.text for (_, post), arm in zip(items, expected, strict=True) if arm == "challenger"
    ]


def test_a_challenger_that_fails_costs_its_own_arm_alone(ledger: Ledger) -> None:
    good = scoring()

    async def score(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        if arm == "challenger":
            raise RuntimeError("the challenger crashed")
        return await good(variant, arm, texts, known, deadline)

    asked = moderator(ledger, score)
    split = with_split(asked, 5000)
    items = [(f"p-{n}", a_post(f"text {n}", author_id=f"author-{n}")) for n in range(20)]
    for (_, post), body in zip(items, bodies(run(all_of(asked, items))), strict=True):
        assert body["degraded"] is (arm_of(split, post.author_id) == "challenger")
        assert body["experiments"]["text"]["arm"] == arm_of(split, post.author_id)


def test_without_an_experiment_everybody_is_in_the_champion_s_arm_again(ledger: Ledger) -> None:
    asked = moderator(ledger, scoring())
    with_split(asked, 10_000)
    assert decide(asked, a_post(), "p-1")["models"] == {"text": f"{VARIANT}@2"}
    asked.judge.splits = {}
    decision = decide(asked, a_post(), "p-2")
    assert (decision["models"], decision["experiments"]) == ({"text": f"{VARIANT}@1"}, {})


@pytest.mark.parametrize(
    ("words", "told", "code", "certain", "in_training"),
    [
        ("the tomatoes in my garden are finally ripe", None, "en", False, True),
        ("die Tomaten in meinem Garten sind endlich reif geworden", None, "de", False, True),
        ("Bu sabah bahçede domatesler sonunda kızardı, herkese teşekkürler", None, "tr", False, False),
        ("the tomatoes in my garden are finally ripe", "de", "de", True, True),
        ("the tomatoes in my garden are finally ripe", "sw", "sw", True, False),
        ("12345 !!! 🍅", None, "und", False, False),
    ],
)
def test_a_language_is_taken_as_told_and_else_detected(
    ledger: Ledger, words: str, told: str | None, code: str, certain: bool, in_training: bool
) -> None:
    language = decide(moderator(ledger, scoring()), a_post(words, language=told))["language"]
    assert (language["code"], language["in_training"]) == (code, in_training)
    assert (language["confidence"] == 1.0) is certain


def saying(abuse: Callable[[str, str], float], hate: float = 0.01, seen: list[tuple[str, str]] | None = None) -> Score:
    """A model that says of a text in a language what it is told to, and notes both."""

    async def score(_variant: str, _arm: Arm, texts: list[str], known: Known, _deadline: float) -> GroupScores:
        asked = [(text, str(features["language"])) for text, features in zip(texts, known, strict=True)]
        if seen is not None:
            seen.extend(asked)
        return GroupScores(1, [{"abuse": abuse(*each), "hate": hate} for each in asked], [0.0] * len(texts))

    return score


def by_language(**scores: float) -> Callable[[str, str], float]:
    return lambda _text, language: scores.get(language, 0.02)


def test_a_text_of_an_unsure_language_is_judged_in_each_that_is_likely(ledger: Ledger) -> None:
    seen: list[tuple[str, str]] = []
    asked = moderator(ledger, saying(by_language(und=0.3, en=0.9999), seen=seen))
    decision = decide(asked, a_post("you idiot", region="DE"))
    assert seen == [("you idiot", code) for code in ("und", "es", "en", "hr", "de")]
    assert decision["decision"] == "remove"
    language = decision["language"]
    assert (language["code"], language["likely"], language["in_training"]) == ("und", ["es", "en", "hr", "de"], False)
    abuse = decision["labels"]["abuse"]
    assert (abuse["score"], abuse["language"], abuse["in_training"]) == (0.9999, "en", True)
    assert [(part["language"], part["flagged"]) for part in abuse["parts"]] == [
        (code, code == "en") for code in ("und", "es", "en", "hr", "de")
    ]
    [row] = rows(ledger)  # one language is logged, and the score in it
    assert (row.features["language"], row.scored_features["score_abuse"]) == ("und", 0.3)
    assert decision["models"] == {"text": f"{VARIANT}@1"}


def test_each_language_that_is_likely_is_routed_by_itself(ledger: Ledger, tmp_path: Path) -> None:
    routes = [{"service": "text", "regions": ["*"], "languages": ["en"], "variant": VARIANT}]
    seen: list[tuple[str, str]] = []
    score = saying(by_language(en=0.9999), seen=seen)
    decision = decide(moderator(ledger, score, topology=topology_in(tmp_path, routes=routes)), a_post("you idiot"))
    assert seen == [("you idiot", "en")]
    assert decision["decision"] == "remove"
    [row] = rows(ledger)
    assert row.scored_features["score_abuse"] == 0.9999


def test_a_language_that_is_told_or_sure_is_the_only_one(ledger: Ledger) -> None:
    seen: list[tuple[str, str]] = []
    asked = moderator(ledger, saying(by_language(), seen=seen))
    decide(asked, a_post("you idiot", language="es"))
    decide(asked, a_post("the tomatoes in my garden are finally ripe"), "p-2")
    assert [code for _, code in seen] == ["es", "en"]


def test_a_quotation_is_read_in_the_language_of_each_of_its_parts(ledger: Ledger) -> None:
    seen: list[tuple[str, str]] = []
    asked = moderator(ledger, saying(by_language(), seen=seen))
    german = "Heute ist ein wirklich schöner Tag im Garten, findet ihr nicht auch?"
    text = f"> what a lovely day it is in the garden today, and how the birds sing\n\n{german}"
    decide(asked, a_post(text))
    assert [code for read, code in seen if read == german] == ["de"]
    assert len(seen) == 1 + sum(read == text for read, _ in seen)


def test_a_route_that_records_nothing_tells_the_surest_of_the_likely_languages(ledger: Ledger) -> None:
    asked = moderator(ledger, saying(by_language(und=0.3, en=0.95, es=0.4)))
    features = [TextFeature(id="a", text="you idiot"), TextFeature(id="b", text="you idiot", language="es")]
    unsure, told = run(asked.judge.texts.score("text", features))
    assert ({item.label: item.confidence for item in unsure.labels}["abuse"], unsure.language) == (0.95, "und")
    assert ({item.label: item.confidence for item in told.labels}["abuse"], told.language) == (0.4, "es")


QUOTING = "> you are a stupid idiot\n\nPlease do not talk to people like that, it helps nobody here."


def test_a_quotation_and_a_rebuke_are_not_removed_for_what_is_quoted(ledger: Ledger) -> None:
    seen: list[tuple[str, str]] = []
    insulting = saying(lambda text, _: 0.9999 if "idiot" in text else 0.02, seen=seen)
    asked = moderator(ledger, insulting)
    decision = decide(asked, a_post(QUOTING, language="en"))
    assert seen == [(QUOTING, "en"), (QUOTING.split("\n\n")[1], "en")]
    assert (decision["decision"], decision["mode"]) == ("review", "reactive")
    assert decision["review"]["reasons"] == ["abuse is flagged in a text that quotes"]
    abuse = decision["labels"]["abuse"]
    assert (abuse["flagged"], abuse["held_back"], abuse["remove_threshold"]) == (True, "quotation", None)
    assert [(part["own_words"], part["score"]) for part in abuse["parts"]] == [(False, 0.9999), (True, 0.02)]
    [row] = rows(ledger)  # what is logged is said of the post as it was written
    assert row.scored_features["score_abuse"] == 0.9999

    # Nothing but quotation: a person looks at it. An insult of one's own beside it is removed as ever.
    assert decide(asked, a_post("> you are a stupid idiot\n> and ugly", language="en"), "p-2")["decision"] == "review"
    assert decide(asked, a_post("> hello\n\nyou are a stupid idiot", language="en"), "p-3")["decision"] == "remove"
    assert decide(asked, a_post("you are a stupid idiot", language="en"), "p-4")["decision"] == "remove"


@pytest.mark.parametrize(
    ("language", "decision", "mode", "in_training", "held_back"),
    [
        ("en", "review", "proactive", True, None),
        ("pt", "review", "reactive", True, "unproven"),
        ("ru", "allow", "reactive", False, "untrained"),
        ("de", "allow", "reactive", False, "untrained"),
        ("es", "allow", "reactive", False, "untrained"),
    ],
)
def test_hate_hides_posts_only_where_rows_show_that_it_works(
    ledger: Ledger, language: str, decision: str, mode: str, in_training: bool, held_back: str | None
) -> None:
    found = decide(moderator(ledger, scoring(hate=0.9999)), a_post("whatever this says", language=language))
    assert (found["decision"], found["mode"]) == (decision, mode)
    hate, abuse = found["labels"]["hate"], found["labels"]["abuse"]
    assert (hate["language"], hate["in_training"], hate["held_back"]) == (language, in_training, held_back)
    assert abuse["in_training"] is found["language"]["in_training"] is (language != "es")


@pytest.mark.parametrize(("language", "decision"), [("en", "remove"), ("pt", "remove"), ("es", "review")])
def test_abuse_is_removed_where_rows_show_that_it_works_and_else_reviewed(
    ledger: Ledger, language: str, decision: str
) -> None:
    found = decide(moderator(ledger, scoring(abuse=0.9999)), a_post("whatever this says", language=language))
    assert found["decision"] == decision


def test_a_post_that_no_route_fits_is_scored_by_nobody_and_not_degraded(ledger: Ledger, tmp_path: Path) -> None:
    routes = [{"service": "text", "regions": ["US"], "languages": ["en"], "variant": VARIANT}]
    topology = topology_in(tmp_path, routes=routes)
    calls: list[Call] = []
    asked = moderator(ledger, scoring(calls, abuse=0.9999), topology=topology)
    with_split(asked, 10_000)
    for language, region in (("tr", "US"), ("en", "GB")):
        decision = decide(asked, a_post(language=language, region=region), f"p-{language}")
        assert decision["labels"]["abuse"] == {
            "status": "not_scored",
            "score": None,
            "threshold": None,
            "remove_threshold": None,
            "flagged": False,
            "input_types": [],
            "objective": None,
            "reason": "no_model",
            "language": None,
            "in_training": None,
            "held_back": None,
            "partly_read": False,
            "parts": [],
        }
        assert (decision["decision"], decision["degraded"], decision["models"]) == ("allow", False, {})
        assert decision["experiments"] == {}
    assert calls == []
    assert [(row.scored_variant, row.scored_model_version) for row in rows(ledger)] == [(None, None)] * 2
    assert decide(asked, a_post(language="en"), "p-us")["decision"] == "remove"


@pytest.mark.parametrize("host", ["malware.example", "MALWARE.example", "a.b.malware.example"])
def test_a_blocked_link_sends_the_post_to_review_within_a_day(ledger: Ledger, host: str) -> None:
    decision = decide(moderator(ledger, scoring()), a_post(f"see https://{host}/x and https://example.org/"))
    assert decision["decision"] == "review"
    assert [(link["domain"], link["verdict"]) for link in decision["links"]] == [
        (host.lower(), "blocked"),
        ("example.org", "unlisted"),
    ]
    assert decision["links"][0]["reasons"] == ["malware.example is on the blocklist"]
    assert decision["review"]["reasons"] == [f"link to {host.lower()} is blocked"]
    waits = datetime.fromisoformat(decision["review"]["deadline"]) - datetime.fromisoformat(decision["decided_at"])
    assert waits == timedelta(hours=24)


@pytest.mark.parametrize("host", ["notmalware.example", "malware.example.org", "example"])
def test_a_link_that_only_resembles_a_blocked_one_is_let_through(ledger: Ledger, host: str) -> None:
    decision = decide(moderator(ledger, scoring()), a_post(f"see https://{host}/x"))
    assert decision["decision"] == "allow"
    assert [link["verdict"] for link in decision["links"]] == ([] if host == "example" else ["unlisted"])


def test_a_model_is_told_the_deadline_of_the_topology(ledger: Ledger, tmp_path: Path) -> None:
    told: list[float] = []

    async def score(_variant: str, _arm: Arm, texts: list[str], _known: Known, deadline: float) -> GroupScores:
        told.extend((deadline, time.time()))
        return GroupScores(1, [{"abuse": 0.1, "hate": 0.1}] * len(texts), [0.0] * len(texts))

    topology = topology_in(tmp_path, gateway={"deadline_ms": 1500})
    before = time.time()
    decide(moderator(ledger, score, topology=topology), a_post())
    deadline, asked_at = told
    assert before + 1.5 <= deadline <= asked_at + 1.5


@pytest.fixture
def features(tmp_path: Path) -> Iterator[FeatureStore]:
    """What is known of authors and communities: nothing yet."""
    store = open_features(f"sqlite:///{tmp_path / 'features.db'}")
    yield store
    store.close()


async def settled(asked: Moderator, post_id: str, post: PostIn) -> dict[str, Any]:
    """Decide, and wait until the post is counted too."""
    decision: dict[str, Any] = json.loads((await asked.moderate(post_id, post)).body)
    await asyncio.gather(*asked._beside)
    return decision


def noting(told: list[Features]) -> Score:
    good = scoring()

    async def score(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        told.extend(known)
        return await good(variant, arm, texts, known, deadline)

    return score


def test_a_model_is_told_what_is_known_of_the_author_and_that_is_logged(ledger: Ledger, features: FeatureStore) -> None:
    told: list[Features] = []
    asked = moderator(ledger, noting(told), known=features)
    at = datetime.now(UTC)
    for number in range(3):
        run(settled(asked, f"p-{number}", a_post(f"text {number}", created_at=at, language="en")))
    other = a_post("another", author_id="u-2", community="elsewhere", created_at=at, language="en")
    run(settled(asked, "p-other", other))
    names = set(AUTHOR_FEATURES) | set(COMMUNITY_FEATURES)
    assert [set(known) >= names for known in told] == [True] * 4
    counts = [name for name in AUTHOR_FEATURES if told[0][name] == 0 and told[1][name] == 1 and told[2][name] == 2]
    assert counts, told
    assert {told[3][name] for name in counts} == {0}
    for row, known in zip(rows(ledger), told, strict=True):
        assert {name: row.features[name] for name in known} == known


def test_what_is_known_is_as_of_each_post_s_own_time_and_never_of_the_future(
    ledger: Ledger, features: FeatureStore
) -> None:
    told: list[Features] = []
    asked = moderator(ledger, noting(told), known=features)
    at = datetime.now(UTC) - timedelta(days=3)
    run(settled(asked, "p-1", a_post("first", created_at=at)))
    told.clear()
    items = [
        ("p-2", a_post("second", created_at=at + timedelta(minutes=1))),
        ("p-3", a_post("third", author_id="u-2", created_at="9998-01-01T00:00:00Z")),
        ("p-4", a_post("fourth", created_at="9998-01-01T00:00:00Z")),
    ]
    bodies(run(all_of(asked, items)))
    assert [known["author_posts_hour"] for known in told] == [1, 0, 0]
    assert told[0]["author_age_days"] < 1
    assert 3 <= told[2]["author_age_days"] < 4


def test_a_repeated_post_is_counted_once(ledger: Ledger, features: FeatureStore) -> None:
    told: list[Features] = []
    asked = moderator(ledger, noting(told), known=features)
    at = datetime.now(UTC)
    for _ in range(3):
        run(settled(asked, "p-1", a_post(created_at=at)))
    run(settled(asked, "p-2", a_post("another", created_at=at)))
    assert max(told[1][name] for name in AUTHOR_FEATURES) == 1


def test_where_nothing_can_be_known_nothing_is_logged_and_the_post_is_judged(
    ledger: Ledger, features: FeatureStore, tmp_path: Path
) -> None:
    told: list[Features] = []
    asked = moderator(ledger, noting(told), known=features)
    features.close()
    (tmp_path / "features.db").write_bytes(b"no database " * 100)
    decision = run(settled(asked, "p-1", a_post()))
    assert (decision["degraded"], decision["labels"]["abuse"]["status"]) == (False, "scored")
    assert not set(told[0]) & (set(AUTHOR_FEATURES) | set(COMMUNITY_FEATURES))  # not known is not zero
    assert not set(rows(ledger)[0].features) & set(AUTHOR_FEATURES)


def test_texts_are_scored_by_champions_in_order_and_nothing_is_recorded(ledger: Ledger, tmp_path: Path) -> None:
    routes = [{"service": "text", "regions": ["*"], "languages": ["en", "de"], "variant": VARIANT}]
    calls: list[Call] = []

    async def score(variant: str, arm: Arm, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        calls.append((variant, arm, list(texts)))
        return GroupScores(7, [{"abuse": len(words) / 100, "hate": 0.5} for words in texts], [0.0] * len(texts))

    asked = moderator(ledger, score, topology=topology_in(tmp_path, routes=routes))
    with_split(asked, 10_000)
    features = [
        TextFeature(id="a", text="x", language="en"),
        TextFeature(id="b", text="xx", language="tr"),
        TextFeature(id="c", text="the tomatoes in my garden are ripe"),
        TextFeature(id="a", text="xxxx", language="de"),
    ]
    results = [result.model_dump() for result in run(asked.judge.texts.score("text", features))]
    assert calls == [(VARIANT, "champion", ["x", "the tomatoes in my garden are ripe", "xxxx"])]
    assert [(result["id"], result["language"], result["model"]) for result in results] == [
        ("a", "en", "text-multi@7"),
        ("b", "tr", "none"),
        ("c", "en", "text-multi@7"),
        ("a", "de", "text-multi@7"),
    ]
    assert results[1]["labels"] == []
    assert results[3]["labels"] == [{"label": "abuse", "confidence": 0.04}, {"label": "hate", "confidence": 0.5}]
    assert rows(ledger) == []


def test_a_long_list_of_texts_is_scored_a_group_at_a_time(ledger: Ledger, tmp_path: Path) -> None:
    calls: list[int] = []
    under_way: list[int] = []
    refused: list[bool] = []

    async def score(_variant: str, _arm: Arm, texts: list[str], _known: Known, deadline: float) -> GroupScores:
        assert deadline > time.time()
        under_way.append(len(texts))
        assert len(under_way) == 1
        while not refused:
            await asyncio.sleep(0.001)
        calls.append(under_way.pop())
        return GroupScores(7, [{"abuse": len(words) / 1000, "hate": 0.5} for words in texts], [0.0] * len(texts))

    topology = topology_in(tmp_path, gateway={"group_size": 64, "max_waiting_posts": 100})
    asked = moderator(ledger, score, topology=topology)
    features = [TextFeature(id=str(n), text="x" * n, language="en") for n in range(200)]

    async def two_lists() -> list[Any]:
        first = asyncio.create_task(asked.judge.texts.score("text", features))
        while not under_way:
            await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await asked.judge.texts.score("text", features)
        refused.append(True)
        return await first

    assert [result.labels[0].confidence for result in run(two_lists())] == [n / 1000 for n in range(200)]
    assert calls == [64, 64, 64, 8]
    assert len(run(asked.judge.texts.score("text", features[:3]))) == 3


def test_texts_alone_are_scored_in_the_context_of_nobody_s_request(ledger: Ledger) -> None:
    # Ray Serve cancels the calls that are made in the context of a request with that request.
    request: ContextVar[str] = ContextVar("request", default="nobody's")
    seen: list[str] = []
    scored = scoring()

    async def noting_whose(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        seen.append(request.get())
        return await scored(variant, arm, texts, known, deadline)

    asked = moderator(ledger, noting_whose)

    async def ask(whose: str) -> None:
        request.set(whose)
        await asked.judge.texts.score("text", [TextFeature(id="a", text="x", language="en")])

    run(ask("first"))
    run(ask("second"))
    assert seen == ["nobody's", "nobody's"]


def test_texts_get_no_answer_from_a_model_that_fails(ledger: Ledger) -> None:
    asked = moderator(ledger, failing(TimeoutError("5 s")))
    with pytest.raises(TimeoutError, match="5 s"):
        run(asked.judge.texts.score("text", [TextFeature(id="a", text="x", language="en")]))


def opened_once_it_is_read(pipe: Path) -> int:
    """The end of a pipe that is written to; before anybody reads it, it cannot be opened without waiting for ever."""
    give_up = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > give_up:
                raise
        time.sleep(0.01)


def test_a_list_that_takes_long_to_read_holds_up_no_post_and_holds_once_it_is_read(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("malware.example\n", encoding="utf-8")
    topology = replace(shipped(), blocklist=Blocklist.load(path, check_every=0.01))
    asked = moderator(ledger, scoring(), topology=topology)

    def verdict(post_id: str) -> str:
        decision = decide(asked, a_post("see https://files.phish.example/x"), post_id)
        return str(decision["links"][0]["verdict"])

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    topology.blocklist.watch()
    assert verdict("p-1") == "unlisted"
    os.link(pipe, tmp_path / "new")
    (tmp_path / "new").rename(path)  # whoever opens it to read waits until somebody writes
    writing = opened_once_it_is_read(pipe)
    try:
        assert verdict("p-2") == "unlisted"
    finally:
        (tmp_path / "new").write_text("phish.example\n", encoding="utf-8")
        (tmp_path / "new").rename(path)
        os.write(writing, b"slow.example\n")
        os.close(writing)
    give_up = time.monotonic() + 60
    while not topology.blocklist.matches("phish.example") and time.monotonic() < give_up:
        time.sleep(0.01)
    assert verdict("p-3") == "blocked"
    topology.blocklist.unwatch()


def test_who_asks_is_told_of_what_is_new_and_of_nothing_twice(ledger: Ledger) -> None:
    told: list[str] = []
    judge = moderator(
        ledger,
        scoring([], abuse=0.03, hate=0.02),
        recorded=lambda entries: told.extend(entry.decision.post_id for entry in entries),
    )
    run(all_of(judge, [("p-1", a_post()), ("p-2", a_post())]))
    run(all_of(judge, [("p-2", a_post()), ("p-3", a_post()), ("p-1", a_post("older", minute=-5))]))
    assert sorted(told) == ["p-1", "p-2", "p-3"]


def test_who_fails_to_hear_of_a_decision_takes_no_answer_away(ledger: Ledger) -> None:
    def deaf(_entries: Sequence[Entry]) -> None:
        raise RuntimeError("no counter")

    decision = decide(moderator(ledger, scoring([], abuse=0.03, hate=0.02), recorded=deaf), a_post())
    assert decision["decision"] == "allow"
    assert len(rows(ledger)) == 1


# People's side.


def people(ledger: Ledger, table: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(select(table)))


def test_a_post_that_the_policy_queues_waits_for_a_person(ledger: Ledger, tmp_path: Path) -> None:
    topology = topology_in(tmp_path, policy=policy_in(tmp_path, action="review"))
    decision = decide(moderator(ledger, scoring(abuse=0.9999), topology=topology), a_post())
    assert decision["review"]["queued"] is True
    (row,) = people(ledger, reviews)
    assert (row.kind, row.labels, row.sampling_probability) == ("flagged", ["abuse"], None)
    assert row.deadline == datetime.fromisoformat(decision["review"]["deadline"])


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (1.0, 1)])
def test_a_share_of_what_is_allowed_is_drawn_for_review(
    ledger: Ledger, tmp_path: Path, share: float, drawn: int
) -> None:
    topology = topology_in(tmp_path, review={"sampled_allowed": share, "sampled_uncertain": share})
    decision = decide(moderator(ledger, scoring(), topology=topology), a_post())
    assert (decision["decision"], decision["review"]["queued"]) == ("allow", False)
    assert [(row.kind, row.sampling_probability) for row in people(ledger, reviews)] == [("sampled", 1.0)] * drawn


def test_what_was_restored_on_appeal_is_left_alone_wherever_it_is_posted(ledger: Ledger) -> None:
    post = a_post("a line of a play")
    with ledger.write() as connection:
        values = {"content_hash": post.content_hash(), "appeal_id": 1, "created_at": datetime.now(UTC)}
        connection.execute(insert(exemptions).values(**values))
    asked = moderator(ledger, scoring(abuse=0.9999))
    decision = decide(asked, post)
    assert (decision["decision"], decision["exempt"], decision["labels"]["abuse"]["flagged"]) == ("allow", True, True)
    assert decide(asked, a_post("another line"), "p-2")["decision"] == "remove"
    assert people(ledger, removal_counts)[-1].count >= 1
    removals = [row for row in people(ledger, removal_counts) if row.label == "abuse"]
    assert sum(row.count for row in removals) == 1  # what is exempt would not have been removed


def test_a_blown_fuse_holds_what_would_be_removed_until_it_is_reset(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.write() as connection:
        values = {"label": "abuse", "region": "US", "evidence": {"from": "2026-11-24T00:00:00+00:00"}}
        connection.execute(insert(fuse_rows).values(**values, tripped_at=datetime.now(UTC)))
    topology = topology_in(tmp_path, fuse={"check_s": 0.1})
    asked = moderator(ledger, scoring(abuse=0.9999), topology=topology)
    held = decide(asked, a_post())
    assert (held["decision"], held["mode"]) == ("review", "proactive")
    assert [(row.action, row.actor) for row in people(ledger, actions)] == [("hold", "fuse")]
    assert decide(asked, a_post(region="FR"), "p-fr")["decision"] == "remove"
    fuses.reset(ledger, 1, "alice")

    async def after_a_look() -> str:
        await asyncio.sleep(0.15)
        await asked.moderate("p-2", a_post("second"))  # makes it look again
        await asyncio.gather(*asked._beside)
        return str(json.loads((await asked.moderate("p-3", a_post("third"))).body)["decision"])

    assert run(after_a_look()) == "remove"


def test_a_fuse_that_cannot_be_looked_at_costs_no_post(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = moderator(ledger, scoring(), topology=topology_in(tmp_path, fuse={"check_s": 0.1}))

    def broken(*_: object) -> set[tuple[str, str]]:
        raise OperationalError("SELECT", {}, Exception("disk"))

    monkeypatch.setattr(fuses, "check", broken)
    assert decide(asked, a_post())["decision"] == "allow"
