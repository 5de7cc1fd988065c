"""Posts with media, without HTTP: what is asked of whom, what each part comes to, and what the decision says of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.media import Failed, Found, MediaKind, MediaRef, MediaRules, Refused, Seen, Words, Written
from moderation.models.card import Card
from moderation.models.operating import OperatingCurve
from moderation.posts import MediaIn, PostIn
from moderation.preprocess.features import Features
from moderation.settings import DEPLOYMENTS
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.errors import QueueFullError, RefusedMediumError
from serve.experiments.split import Arm
from serve.posts.answers import GroupFound, GroupScores
from serve.posts.ensemble import PARTLY_LOOKED_AT, PARTLY_READ, UNREADABLE
from serve.posts.moderator import Moderator
from tests.rooms import run, shipped_card

# At a prevalence of 0.5 precision is 0.9 from 0.5 on, and 0.99 from 0.9 on.
CURVE = OperatingCurve(
    thresholds=(0.5, 0.9), recall=(0.9, 0.5), false_positive_rate=(0.1, 0.005), positives=100, negatives=1000
)
RULE = {"objective": "precision>=0.85", "prevalence": 0.5, "action": "review", "on_failure": "review"}
POLICY = {
    "version": "1",
    "labels": {
        "abuse": RULE,
        "nudity": RULE | {"remove_objective": "precision>=0.97", "on_failure": "hold"},
        "violence": RULE,
    },
}
ROUTES = [
    {"service": "text", "regions": ["*"], "languages": ["*"], "variant": "words"},
    {"service": "image", "regions": ["*"], "languages": ["*"], "variant": "pictures"},
    {"service": "video", "regions": ["*"], "languages": ["*"], "variant": "clips"},
]
VARIANTS = {
    "words": {"service": "text", "labels": ["abuse"], "shipped": "nowhere"},
    "pictures": {"service": "image", "labels": ["nudity", "violence"], "shipped": "nowhere"},
    "clips": {"service": "video", "labels": ["violence"], "shipped": "nowhere"},
}
CLEAN = Found({"nudity": 0.1, "violence": 0.1}, (), None, "png", 8, 8, None, None)


def card_of(variant: str, _version: int) -> Card:
    labels = tuple(VARIANTS[variant]["labels"])
    return replace(shipped_card(), labels=labels, calibration={}, curves={label: {"*": CURVE} for label in labels})


def sha(number: int) -> str:
    return f"{number:064x}"


def an_image(number: int = 1) -> MediaIn:
    return MediaIn(kind="image", sha256=sha(number))


def a_clip(number: int = 7) -> MediaIn:
    return MediaIn(kind="video", sha256=sha(number))


def a_post(text: str, *media: MediaIn, language: str | None = "en", author: str = "u-1") -> PostIn:
    return PostIn(
        author_id=author,
        community="gardening",
        region="US",
        language=language,
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
        text=text,
        media=list(media),
    )


def written(*texts: str, unreadable: int = 0) -> Written:
    box = (0.1, 0.2, 0.9, 0.3)
    return Written(tuple(Words(text, 0.99, box, None) for text in texts), (box,) * unreadable)


class World:
    """A moderator over models that say what a test tells them: a text by its words, a medium by its number."""

    def __init__(self, ledger: Ledger, folder: Path, **media: Any) -> None:
        policy = folder / "policy.yaml"
        policy.write_text(yaml.safe_dump(POLICY), encoding="utf-8")
        path = folder / "topology.yaml"
        raw = {"policy": str(policy), "blocklist": str(DEPLOYMENTS / "blocklist.txt"), "variants": VARIANTS}
        path.write_text(yaml.safe_dump(raw | {"routes": ROUTES, "media": media}), encoding="utf-8")
        self.texts: dict[str, float] = {}
        self.media: dict[str, Found | Refused | Failed | Exception] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.gate: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.moderator = Moderator(Topology.load(path), ledger, self._score, card_of, score_media=self._look)

    async def _score(
        self, variant: str, _arm: Arm, texts: list[str], _known: list[Features], _deadline: float
    ) -> GroupScores:
        self.asked.append((variant, texts))
        return GroupScores(1, [{"abuse": self.texts.get(text, 0.1)} for text in texts], [0.0] * len(texts))

    async def _look(self, variant: str, _arm: Arm, media: list[MediaRef], _deadline: float) -> GroupFound:
        self.asked.append((variant, [ref.name for ref in media]))
        await self.gate()
        found = [self.media.get(ref.name, CLEAN) for ref in media]
        for item in found:
            if isinstance(item, Exception):
                raise item
        return GroupFound(3, [item for item in found if not isinstance(item, Exception)])

    def decide(self, post: PostIn, post_id: str = "p-1") -> dict[str, Any]:
        decision: dict[str, Any] = json.loads(run(self.moderator.moderate(post_id, post)).body)
        return decision


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    return World(ledger, tmp_path)


def test_a_picture_alone_is_judged_and_no_text_is(world: World) -> None:
    world.media[sha(1)] = replace(CLEAN, scores={"nudity": 0.6, "violence": 0.2})
    decision = world.decide(a_post(" ", an_image()))
    assert world.asked == [("pictures", [sha(1)])]
    nudity = decision["labels"]["nudity"]
    assert (nudity["status"], nudity["score"], nudity["flagged"], nudity["input_types"]) == (
        "scored",
        0.6,
        True,
        ["image"],
    )
    assert decision["labels"]["abuse"] | {"parts": None} == {
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
        "parts": None,
    }
    assert decision["models"] == {"image": "pictures@3"}
    assert (decision["decision"], decision["degraded"]) == ("review", False)
    assert decision["media"] == [
        {
            "kind": "image",
            "sha256": sha(1),
            "status": "scored",
            "reason": None,
            "format": "png",
            "bytes": None,
            "width": 8,
            "height": 8,
            "seconds": None,
            "perceptual_hash": None,
            "text": None,
            "looked_at": None,
            "not_looked_at": [],
            "text_not_read": [],
        }
    ]


def test_a_picture_is_previewed_as_it_is_judged(world: World) -> None:
    world.media[sha(1)] = replace(CLEAN, scores={"nudity": 0.6, "violence": 0.2})
    previewed = json.loads(run(world.moderator.preview(a_post(" ", an_image()))))
    assert (previewed["decision"], previewed["media"][0]["sha256"]) == ("review", sha(1))
    world.media[sha(1)] = Refused("broken", "its bytes end too early")
    with pytest.raises(RefusedMediumError):
        run(world.moderator.preview(a_post(" ", an_image())))


def test_a_post_without_media_says_so(world: World) -> None:
    decision = world.decide(a_post("ripe tomatoes"))
    assert decision["labels"]["nudity"]["reason"] == "no_media"
    assert (decision["media"], decision["evidence"], decision["labels"]["abuse"]["parts"]) == ([], [], [])


def test_all_media_of_a_kind_go_in_one_call(world: World) -> None:
    world.decide(a_post("hello", an_image(1), a_clip(7), an_image(2)))
    assert sorted(world.asked) == [("clips", [sha(7)]), ("pictures", [sha(1), sha(2)]), ("words", ["hello"])]


def test_a_meme_is_judged_by_its_words_in_their_language(world: World) -> None:
    world.media[sha(1)] = replace(CLEAN, written=written("du bist ein Idiot"))
    world.texts["du bist ein Idiot"] = 0.8
    decision = world.decide(a_post("look", an_image()))
    abuse = decision["labels"]["abuse"]
    assert (abuse["score"], abuse["flagged"], abuse["input_types"]) == (0.8, True, ["text", "image"])
    assert [(part["service"], part["media"], part["score"]) for part in abuse["parts"]] == [
        ("text", None, 0.1),
        ("text", 0, 0.8),
    ]
    assert decision["evidence"] == [
        {
            "media": 0,
            "t": None,
            "label": "abuse",
            "score": 0.8,
            "box": [0.1, 0.2, 0.9, 0.3],
            "text": "du bist ein Idiot",
        }
    ]
    assert decision["media"][0]["text"] == "du bist ein Idiot"


def test_the_gravest_of_several_words_counts(world: World) -> None:
    world.media[sha(7)] = replace(CLEAN, scores={"violence": 0.1}, written=written("one", "two"))
    world.texts |= {"one": 0.7, "two": 0.3}
    abuse = world.decide(a_post("", a_clip()))["labels"]["abuse"]
    assert (abuse["score"], abuse["input_types"]) == (0.7, ["video"])
    assert [part["score"] for part in abuse["parts"]] == [0.7, 0.3]


def test_text_that_cannot_be_read_is_not_scored_and_not_clean(world: World) -> None:
    world.media[sha(1)] = replace(CLEAN, written=written(unreadable=2))
    decision = world.decide(a_post("", an_image()))
    abuse = decision["labels"]["abuse"]
    assert (abuse["status"], abuse["score"], abuse["reason"]) == ("not_scored", None, UNREADABLE)
    assert decision["degraded"] is False


def test_links_in_a_picture_count(world: World) -> None:
    world.media[sha(1)] = replace(CLEAN, written=written("go to https://bit.ly/abc now"))
    decision = world.decide(a_post("", an_image()))
    assert [link["domain"] for link in decision["links"]] == ["bit.ly"]
    assert decision["decision"] == "review"


def test_evidence_names_the_second_and_what_is_less_than_even_is_none(world: World) -> None:
    seen = (Seen("violence", 1.5, 0.9), Seen("nudity", 0.5, 0.4))
    world.media[sha(7)] = replace(CLEAN, scores={"violence": 0.9}, seen=seen, seconds=3.0)
    decision = world.decide(a_post("", an_image(), a_clip()))
    assert decision["evidence"] == [
        {"media": 1, "t": 1.5, "label": "violence", "score": 0.9, "box": None, "text": None}
    ]


def test_a_medium_that_failed_is_failed_and_the_policy_says_what_that_means(world: World) -> None:
    world.media[sha(1)] = Failed("the decoder hung")
    decision = world.decide(a_post("hello", an_image(), an_image(2)))
    nudity = decision["labels"]["nudity"]
    assert (nudity["status"], nudity["score"]) == ("scored", 0.1)
    assert [(part["status"], part["reason"]) for part in nudity["parts"]] == [
        ("failed", "the decoder hung"),
        ("scored", None),
    ]
    assert (decision["decision"], decision["mode"], decision["degraded"]) == ("review", "proactive", True)
    assert [medium["status"] for medium in decision["media"]] == ["failed", "scored"]
    # Nobody knows what was written in it.
    assert [part["status"] for part in decision["labels"]["abuse"]["parts"]] == ["scored", "failed"]


def test_a_model_that_does_not_answer_costs_scores_not_the_post(world: World) -> None:
    world.media[sha(1)] = TimeoutError("late")
    decision = world.decide(a_post("hello", an_image()))
    assert decision["labels"]["nudity"]["status"] == "failed"
    assert decision["labels"]["nudity"]["reason"] == "pictures: TimeoutError"
    assert decision["labels"]["abuse"]["status"] == "scored"


def test_a_refused_medium_refuses_its_post_alone(world: World, ledger: Ledger) -> None:
    world.media[sha(1)] = Refused("truncated", "it ends after 10 bytes")

    async def both() -> list[Any]:
        posts = [a_post("bad", an_image(2), an_image(1)), a_post("good", an_image(2))]
        answers = (world.moderator.moderate(f"p-{index}", post) for index, post in enumerate(posts))
        return await asyncio.gather(*answers, return_exceptions=True)

    bad, good = run(both())
    assert isinstance(bad, RefusedMediumError)
    assert (bad.index, bad.refused.code) == (1, "truncated")
    assert json.loads(good.body)["decision"] == "allow"
    assert set(ledger.newest(["p-0", "p-1"])) == {"p-1"}


def test_a_kind_that_no_variant_covers_is_not_scored(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROUTES", ROUTES[:1])
    decision = World(ledger, tmp_path).decide(a_post("hello", an_image()))
    assert decision["media"][0]["status"] == "not_scored"
    assert decision["labels"]["nudity"]["reason"] == "no_model"
    assert decision["degraded"] is False


def test_a_text_does_not_wait_for_a_video(world: World) -> None:
    async def both() -> dict[str, Any]:
        held = asyncio.Event()
        world.gate = held.wait
        slow = asyncio.ensure_future(world.moderator.moderate("p-1", a_post("", a_clip())))
        while not world.asked:
            await asyncio.sleep(0.01)
        fast = await world.moderator.moderate("p-2", a_post("hello"))
        assert not slow.done()
        held.set()
        await slow
        decision: dict[str, Any] = json.loads(fast.body)
        return decision

    assert run(both())["decision"] == "allow"


def test_media_that_wait_are_bound_apart_from_texts(ledger: Ledger, tmp_path: Path) -> None:
    world = World(ledger, tmp_path, max_waiting_posts=1, group_size=1, max_in_flight=1)

    async def flood() -> list[Any]:
        held = asyncio.Event()
        world.gate = held.wait

        def call(number: int) -> asyncio.Future[Any]:
            post = a_post("", a_clip(number))
            return asyncio.ensure_future(world.moderator.moderate(f"p-{number}", post, taken=True))

        calls = [call(0)]
        while not world.asked:  # one is looked at
            await asyncio.sleep(0.01)
        calls.append(call(1))
        while not world.moderator._media_grouper.full:  # one waits
            await asyncio.sleep(0.01)
        calls += [call(2), call(3)]
        await asyncio.wait(calls[2:])  # two are refused
        await world.moderator.moderate("t-1", a_post("hello"))
        world.moderator.admit("somebody")
        with pytest.raises(QueueFullError):  # told before an upload is received
            world.moderator.admit("somebody", media=True)
        held.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = run(flood())
    assert sum(isinstance(answer, QueueFullError) for answer in answers) == 2


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_same_bytes_are_the_same_content_however_they_came(kind: MediaKind) -> None:
    media = [MediaIn(kind=kind, sha256=sha(1))]
    first = a_post("hello").model_copy(update={"media": media})
    assert first.content_hash() == a_post("hello", MediaIn(kind=kind, sha256=sha(1))).content_hash()
    assert first.content_hash() != a_post("hello").content_hash()
    assert first.content_hash() != a_post("hello", MediaIn(kind=kind, sha256=sha(2))).content_hash()


def test_a_post_without_media_has_the_hash_that_it_always_had() -> None:
    said = (
        '{"author_id": "u-1", "community": "gardening", "language": "en", "media": [], "region": "US", "text": "hello"}'
    )
    assert a_post("hello").content_hash() == hashlib.sha256(said.encode()).hexdigest()


@pytest.mark.parametrize("mask", range(1, 8))
def test_parts_together_are_judged_no_milder_than_alone(ledger: Ledger, tmp_path: Path, mask: int) -> None:
    """Each part alone, and all of a subset together: the gravest of them is what the whole comes to."""
    world = World(ledger, tmp_path)
    world.texts["bad"] = 0.8
    world.media[sha(1)] = replace(CLEAN, scores={"nudity": 0.95, "violence": 0.2})
    world.media[sha(7)] = replace(CLEAN, scores={"violence": 0.7})
    parts = [("bad", ()), ("", (an_image(),)), ("", (a_clip(),))]
    chosen = [part for index, part in enumerate(parts) if mask & 1 << index]
    grave = {"allow": 0, "review": 1, "remove": 2}
    alone = [world.decide(a_post(text, *media), f"p-{index}") for index, (text, media) in enumerate(chosen)]
    whole = world.decide(a_post("".join(text for text, _ in chosen), *(m for _, media in chosen for m in media)), "all")
    assert grave[whole["decision"]] == max(grave[decision["decision"]] for decision in alone)
    for label in ("abuse", "nudity", "violence"):
        scores = [decision["labels"][label]["score"] for decision in alone]
        assert whole["labels"][label]["score"] == max((score for score in scores if score is not None), default=None)


def test_an_image_that_moves_is_looked_at_as_a_video_too(world: World) -> None:
    world.media[sha(1)] = replace(CLEAN, scores={"nudity": 0.1, "violence": 0.7}, seconds=2.0)
    decision = world.decide(a_post("", an_image(1), an_image(2)))
    assert world.asked == [("pictures", [sha(1), sha(2)]), ("clips", [sha(1)])]
    violence = decision["labels"]["violence"]
    assert (violence["score"], violence["flagged"], violence["input_types"]) == (0.7, True, ["image", "video"])
    assert [(part["service"], part["media"]) for part in violence["parts"]] == [
        ("image", 0),
        ("video", 0),
        ("image", 1),
    ]
    assert decision["models"] == {"image": "pictures@3", "video": "clips@3"}
    assert len(decision["media"]) == 2


def test_words_of_another_language_hide_none_that_are_flagged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is held against its own language's threshold: a higher score may be the milder one."""
    strict = replace(CURVE, thresholds=(0.95, 0.99))
    real = card_of("words", 1)
    curves = real.curves | {"abuse": real.curves["abuse"] | {"en": strict}}
    monkeypatch.setattr(world.moderator.judge, "_card", lambda v, n: replace(card_of(v, n), curves=curves))
    german, english = "du bist wirklich ein dummer Idiot und niemand mag dich", "you are not a very nice person at all"
    world.texts |= {german: 0.8, english: 0.9}
    world.media[sha(7)] = replace(CLEAN, scores={"violence": 0.1}, written=written(german, english))
    abuse = world.decide(a_post("", a_clip()))["labels"]["abuse"]
    assert (abuse["score"], abuse["flagged"]) == (0.8, True)
    assert [part["score"] for part in abuse["parts"]] == [0.8, 0.9]


def test_a_moving_image_that_is_no_video_here_is_not_scored_as_one(world: World) -> None:
    async def look(variant: str, _arm: Arm, media: list[MediaRef], _deadline: float) -> GroupFound:
        if variant == "clips":
            return GroupFound(3, [Refused("wrong_kind", "is an image")] * len(media))
        return GroupFound(3, [replace(CLEAN, seconds=1.0)] * len(media))

    world.moderator.judge._score_media = look
    decision = world.decide(a_post("", an_image()))
    assert [(part["service"], part["status"], part["reason"]) for part in decision["labels"]["violence"]["parts"]] == [
        ("image", "scored", None),
        ("video", "not_scored", "wrong_kind"),
    ]
    assert (decision["decision"], decision["degraded"]) == ("allow", False)


SLIDES = replace(CLEAN, scores={"violence": 0.1}, seconds=50.0, looked_at=0.4, unseen=((3.0, 5.0), (7.5, 35.5)))


def parts_of(decision: dict[str, Any], label: str) -> list[tuple[str, str, str | None]]:
    return [(part["service"], part["status"], part["reason"]) for part in decision["labels"][label]["parts"]]


def test_what_of_a_video_was_not_looked_at_is_told_and_no_label_passes_for_scored_as_a_whole(world: World) -> None:
    world.media[sha(7)] = SLIDES
    decision = world.decide(a_post("", a_clip()))
    [medium] = decision["media"]
    assert (medium["status"], medium["looked_at"]) == ("scored", 0.4)
    assert medium["not_looked_at"] == [[3.0, 5.0], [7.5, 35.5]]
    assert parts_of(decision, "violence") == [("video", "scored", None), ("video", "not_scored", PARTLY_LOOKED_AT)]
    assert parts_of(decision, "abuse") == [("text", "not_scored", PARTLY_LOOKED_AT)]
    assert (decision["labels"]["abuse"]["status"], decision["labels"]["abuse"]["reason"]) == (
        "not_scored",
        PARTLY_LOOKED_AT,
    )
    assert (decision["decision"], decision["degraded"], decision["review"]["reasons"]) == ("allow", False, [])


def test_what_of_a_video_was_not_read_is_told(world: World) -> None:
    box = (0.1, 0.2, 0.9, 0.3)
    said = Written((Words("one", 0.99, box, 1.0),), (), unread=(2.0, 3.5), share=0.5)
    world.media[sha(7)] = replace(SLIDES, looked_at=1.0, unseen=(), written=said)
    decision = world.decide(a_post("", a_clip()))
    assert (decision["media"][0]["looked_at"], decision["media"][0]["text_not_read"]) == (1.0, [2.0, 3.5])
    assert parts_of(decision, "abuse") == [("text", "not_scored", PARTLY_READ), ("text", "scored", None)]
    assert parts_of(decision, "violence") == [("video", "scored", None)]


def test_a_video_that_was_looked_at_as_a_whole_has_no_such_part(world: World) -> None:
    world.media[sha(7)] = replace(SLIDES, looked_at=1.0, unseen=())
    decision = world.decide(a_post("", a_clip()))
    assert parts_of(decision, "violence") == [("video", "scored", None)]
    assert parts_of(decision, "abuse") == []


@pytest.mark.parametrize(
    ("below", "found", "reason"),
    [
        (0.5, SLIDES, "media 1: 40% of it was looked at, less than 50%"),
        (0.4, SLIDES, None),
        (0.0, replace(SLIDES, looked_at=0.0), None),
        (1.0, replace(SLIDES, looked_at=1.0, unseen=()), None),
        (
            0.9,
            replace(SLIDES, looked_at=1.0, written=Written((), (), (2.0,), 0.75)),
            "media 1: 75% of it was read, less than 90%",
        ),
        (1.0, replace(CLEAN, scores={"violence": 0.1}), None),
    ],
)
def test_a_video_of_which_too_little_was_seen_is_for_a_person_where_that_is_configured(
    ledger: Ledger, tmp_path: Path, below: float, found: Found, reason: str | None
) -> None:
    world = World(ledger, tmp_path, review_below=below)
    world.media[sha(7)] = found
    decision = world.decide(a_post("", an_image(), a_clip()))
    assert decision["review"]["reasons"] == ([] if reason is None else [reason])
    assert decision["decision"] == ("allow" if reason is None else "review")
    assert (decision["review"]["deadline"] is None) == (reason is None)


def large(number: int) -> MediaIn:
    """A picture of 49 megapixels."""
    return an_image(number).weighed(49)


class Flood:
    """Models that look at large media only once they are let."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.let = asyncio.Event()
        self.calls: list[list[str]] = []
        world.moderator.judge._score_media = self._look

    async def _look(self, _variant: str, _arm: Arm, media: list[MediaRef], _deadline: float) -> GroupFound:
        self.calls.append([ref.name for ref in media])
        if sum(ref.work for ref in media) > MediaRules().small_megapixels:
            await self.let.wait()
        return GroupFound(3, [CLEAN] * len(media))


def test_a_small_picture_does_not_wait_for_large_ones(world: World) -> None:
    async def work() -> None:
        flood = Flood(world)
        moderate = world.moderator.moderate
        floods = [asyncio.ensure_future(moderate(f"large-{n}", a_post("", large(n), author="f"))) for n in range(40)]
        await asyncio.sleep(0)
        for number in range(100, 110):  # each is answered, though none of the others is
            await moderate(f"small-{number}", a_post("", an_image(number)))
        assert not any(task.done() for task in floods)
        flood.let.set()
        await asyncio.gather(*floods)
        assert max(map(len, flood.calls)) <= MediaRules().group_size

    run(work())


def test_small_pictures_of_one_post_may_be_a_large_post(world: World) -> None:
    async def work() -> None:
        flood = Flood(world)
        many = a_post("", *(an_image(number).weighed(9) for number in range(3)))  # 27 megapixels
        waiting = asyncio.ensure_future(world.moderator.moderate("many", many))
        await world.moderator.moderate("few", a_post("", an_image(9).weighed(25)))
        assert not waiting.done()
        flood.let.set()
        await waiting

    run(work())


def test_groups_of_small_pictures_are_small_together(world: World) -> None:
    async def work() -> None:
        flood = Flood(world)
        posts = [a_post("", an_image(number).weighed(12)) for number in range(9)]
        await asyncio.gather(*(world.moderator.moderate(f"p-{n}", post) for n, post in enumerate(posts)))
        assert max(map(len, flood.calls)) == 2  # 24 megapixels

    run(work())


def test_what_work_it_is_is_nothing_of_a_medium_s_identity() -> None:
    assert large(1) == an_image(1).weighed(49)
    assert a_post("", large(1)).content_hash() == a_post("", an_image(1)).content_hash()
    assert "work" not in a_post("", large(1)).model_dump_json()
    copied = a_post("", large(1)).model_copy(update={"text": "more"})
    assert [medium.work for medium in copied.media] == [49]
