"""Contents of one post that come at once: the order in which they came decides, not what was known before them."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from moderation.errors import ConflictError
from moderation.posts import MediaIn, PostIn
from moderation.preprocess.features import Features
from moderation.storage.ledger import Ledger
from serve.experiments.split import Arm
from serve.posts.answers import GroupScores
from serve.posts.arrivals import Came, settle
from serve.posts.moderator import Answer
from tests.rooms import a_post, run
from tests.serve.media.test_media_posts import World, an_image
from tests.serve.posts.test_moderator import Known, all_of, bodies, moderator, rows, topology_in

HARMFUL = "you worthless idiot"


async def scored_by_word(
    _variant: str, _arm: Arm, texts: list[str], _known: list[Features], _deadline: float
) -> GroupScores:
    scores = [0.9999 if text == HARMFUL else 0.01 for text in texts]
    return GroupScores(1, [{"abuse": score, "hate": 0.01} for score in scores], [0.0] * len(texts))


def newest(ledger: Ledger, post_id: str = "p-1") -> tuple[int, str]:
    decision = json.loads(ledger.newest([post_id])[post_id].body)
    return decision["content_version"], decision["decision"]


def test_removed_content_that_follows_other_content_in_its_group_is_not_settled_by_what_was_before_both(
    ledger: Ledger,
) -> None:
    asked = moderator(ledger, scored_by_word)
    assert bodies(run(all_of(asked, [("p-1", a_post(HARMFUL))])))[0]["decision"] == "remove"
    answers = run(all_of(asked, [("p-1", a_post("harmless")), ("p-1", a_post(HARMFUL))]))
    assert [(body["content_version"], body["decision"]) for body in bodies(answers)] == [(2, "allow"), (3, "remove")]
    assert [answer.replayed for answer in answers if isinstance(answer, Answer)] == [False, False]
    assert newest(ledger) == (3, "remove")


def test_there_and_back_many_times_in_one_group_is_recorded_step_by_step(ledger: Ledger) -> None:
    asked = moderator(ledger, scored_by_word)
    texts = [HARMFUL, "harmless"] * 3
    answers = run(all_of(asked, [("p-1", a_post(text)) for text in texts]))
    assert [body["content_version"] for body in bodies(answers)] == [1, 2, 3, 4, 5, 6]
    assert newest(ledger) == (6, "allow")


def test_content_twice_in_one_group_is_scored_once(ledger: Ledger) -> None:
    calls: list[list[str]] = []

    async def score(variant: str, arm: Arm, texts: list[str], known: Known, deadline: float) -> GroupScores:
        calls.append(list(texts))
        return await scored_by_word(variant, arm, texts, known, deadline)

    run(all_of(moderator(ledger, score), [("p-1", a_post(text, language="en")) for text in ("a", "b", "a")]))
    assert calls == [["a", "b"]]
    assert len(rows(ledger)) == 3


def test_that_content_came_again_is_noted_of_what_is_settled_alone(ledger: Ledger) -> None:
    asked = moderator(ledger, scored_by_word)
    run(all_of(asked, [("p-1", a_post("a"))]))
    # In one group: what comes again last must not keep out what came before it.
    answers = run(all_of(asked, [("p-1", a_post("b", minute=1)), ("p-1", a_post("a", minute=5))]))
    assert [body["content_version"] for body in bodies(answers)] == [2, 3]
    # And of two that came again the later time counts, in whichever order.
    run(all_of(asked, [("p-1", a_post("a", minute=9)), ("p-1", a_post("a", minute=7))]))
    assert ledger.newest(["p-1"])["p-1"].created_at == a_post(minute=9).created_at


def test_what_came_again_after_another_process_recorded_other_content_is_judged(ledger: Ledger) -> None:
    asked, elsewhere = moderator(ledger, scored_by_word), moderator(ledger, scored_by_word)
    run(all_of(asked, [("p-1", a_post(HARMFUL))]))
    note_again = ledger.note_again

    class Overtaken:
        """The ledger, in which another gateway is quicker."""

        newest = staticmethod(ledger.newest)

        @staticmethod
        def note_again(contents: dict[str, tuple[str, datetime]]) -> object:
            run(all_of(elsewhere, [("p-1", a_post("harmless", minute=1))]))
            return note_again(contents)

    post = a_post(HARMFUL, minute=2)
    came = [Came("p-1", post.content_hash(), post.created_at)]
    assert settle(Overtaken(), came) == [None]  # type: ignore[arg-type]
    assert bodies(run(all_of(asked, [("p-1", post)])))[0]["content_version"] == 3


def test_text_that_follows_media_waits_for_it_and_so_the_other_way_round(ledger: Ledger, tmp_path: Path) -> None:
    world = World(ledger, tmp_path)
    gate = asyncio.Event()
    world.gate = gate.wait
    plain, shown = world_post("a"), world_post("a", an_image())

    async def work() -> list[Answer]:
        first = await world.moderator.moderate("p-1", plain)
        tasks = [asyncio.create_task(world.moderator.moderate("p-1", post)) for post in (shown, plain, shown)]
        await asyncio.sleep(0)
        gate.set()
        return [first, *await asyncio.gather(*tasks)]

    answers = run(work())
    assert [body["content_version"] for body in bodies(answers)] == [1, 2, 3, 4]
    assert newest(ledger)[0] == 4


def world_post(text: str, *media: MediaIn, minute: int = 0) -> PostIn:
    return PostIn(
        author_id="u-1",
        community="gardening",
        region="US",
        language="en",
        created_at=datetime(2026, 11, 24, tzinfo=UTC) + timedelta(minutes=minute),
        text=text,
        media=list(media),
    )


def in_turn(posts: Sequence[PostIn]) -> list[tuple[int, bool] | None]:
    """What each content comes to where each waits for the one before: version and whether known, None: older."""
    version, content, created = 0, "", datetime.min.replace(tzinfo=UTC)
    answers: list[tuple[int, bool] | None] = []
    for post in posts:
        if post.content_hash() == content:
            created = max(created, post.created_at)
            answers.append((version, True))
        elif post.created_at < created:
            answers.append(None)
        else:
            version, content, created = version + 1, post.content_hash(), post.created_at
            answers.append((version, False))
    return answers


@pytest.mark.parametrize("seed", range(12))
def test_however_contents_meet_each_is_answered_as_if_it_had_waited_for_those_before_it(
    seed: int, ledger: Ledger, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    world = World(ledger, tmp_path, group_size=chance.choice([1, 2, 8]))

    async def some_turns() -> None:
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)

    world.gate = some_turns
    spread = chance.choice([1, 2, 4])
    sent = [
        world_post(
            chance.choice("abc"), *([an_image()] if chance.random() < 0.3 else []), minute=chance.randrange(spread)
        )
        for _ in range(40)
    ]

    async def work() -> list[Answer | BaseException]:
        tasks = []
        for post in sent:
            tasks.append(asyncio.create_task(world.moderator.moderate("p-1", post)))
            if chance.random() < 0.3:
                await some_turns()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found: list[tuple[int, bool] | None] = []
    for answer in run(work()):
        if isinstance(answer, ConflictError):
            found.append(None)
        else:
            assert isinstance(answer, Answer), answer
            found.append((json.loads(answer.body)["content_version"], answer.replayed))
    assert found == in_turn(sent)


@pytest.mark.parametrize("seed", range(4))
def test_two_gateways_and_one_ledger_record_what_came_last_last(seed: int, ledger: Ledger, tmp_path: Path) -> None:
    chance = random.Random(seed)
    topology = topology_in(tmp_path, gateway={"group_size": 3})
    gateways = [moderator(ledger, scored_by_word, topology=topology) for _ in range(2)]

    async def work() -> None:
        for _ in range(6):
            # At once, in any order; then, after all were answered, the one that must stand.
            await asyncio.gather(
                *(chance.choice(gateways).moderate("p-1", a_post(chance.choice([HARMFUL, "b"]))) for _ in range(6))
            )
            last = chance.choice([HARMFUL, "b"])
            await asyncio.gather(*(chance.choice(gateways).moderate("p-1", a_post(text)) for text in ("c", last)))
            await chance.choice(gateways).moderate("p-1", a_post(last))
            assert newest(ledger)[1] == ("remove" if last == HARMFUL else "allow")

    run(work())
    versions = [json.loads(recorded.body)["content_version"] for recorded in ledger.history("p-1")]
    assert versions == list(range(1, len(versions) + 1))
    contents = [recorded.content_hash for recorded in ledger.history("p-1")]
    assert all(one != other for one, other in itertools.pairwise(contents))
