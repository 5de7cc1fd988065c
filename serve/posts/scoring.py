"""What the models say of posts: which variants are asked, in which arm, and what comes back of each part of a post.

First the texts, the images and the videos are asked of, all at once; then the texts, once more, of what is written in
the pictures. A call to a model serves all posts of a group. A model that fails costs scores, not posts: the policy says
what a failure means.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import ParamSpec, TypeVar

from moderation.errors import FeaturesUnavailableError
from moderation.labels import Service
from moderation.media import Failed, Found, MediaRef, Words
from moderation.models.card import Card
from moderation.posts import MediaIn, PostIn
from moderation.preprocess.features import Features, observe
from moderation.preprocess.language import Language
from moderation.storage.features import FeatureStore
from moderation.storage.ledger import now
from moderation.topology import Topology
from serve.experiments.split import Split, arm_of
from serve.posts.answers import Score, ScoreMedia
from serve.posts.cases import TEXT_SERVICES, Ask, Case, Judged, JudgedWords, Medium
from serve.posts.readings import TextReading, language_of, readings_of
from serve.posts.texts import Texts
from serve.posts.work import deadline_of

logger = logging.getLogger("ray.serve")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Item = TypeVar("Item")

_THREADS = 8
"""For what blocks on a post's way: two groups of posts, media beside them, and what is done after the reply."""

ReadCard = Callable[[str, int], Card]
"""Variant, version -> its card; blocking."""

AsksOf = Callable[[str], tuple[Ask, ...]]
"""A language -> who is asked of what is written in it."""


class Judge:
    """Asks the models.

    Args:
        topology: variants, routes, bounds.
        score: asks a classifier of texts.
        score_media: asks a classifier of images or videos; None: there is none.
        card: of a variant's version; blocking, remembered by its owner.
        known: what is known of authors and communities; None: nothing is.

    Attributes:
        splits: the running experiment of each variant that has one.
        texts: scores texts of no post.
    """

    def __init__(
        self,
        topology: Topology,
        score: Score,
        card: ReadCard,
        known: FeatureStore | None = None,
        score_media: ScoreMedia | None = None,
    ) -> None:
        self._topology = topology
        self._score = score
        self._score_media = score_media
        self._card = card
        self._known = known
        self.splits: Mapping[str, Split] = {}
        self._failed_at: dict[str, float] = {}  # variants whose last call failed
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="posts")
        self.texts = Texts(topology, score, self._threads)

    async def aside(
        self, call: Callable[Parameters, Result], /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """Run what blocks on a thread of the posts' own.

        Those that a replica has for everything are few: slow reports would keep every post waiting.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **named))

    async def judge(self, posts: Sequence[PostIn]) -> list[Case]:
        """Put posts to every model that a route names for one of their parts."""
        asked = await self.aside(lambda: [self._case(post) for post in posts])
        known = await self._known_of(asked)
        cases = [replace(case, features=case.features | more) for case, more in zip(asked, known, strict=True)]
        said, looked = await asyncio.gather(self._said_of_texts(cases), self._seen_in_media(cases))
        read = await self._said_of_words(
            [
                (medium, partial(self.asks, case.post), case.features)
                for case, media in zip(cases, looked, strict=True)
                for medium in media
            ]
        )
        rest = iter(read)
        return [
            replace(case, judged=judged, media=tuple(islice(rest, len(case.media))))
            for case, judged in zip(cases, said, strict=True)
        ]

    async def look(self, ref: MediaRef) -> Medium:
        """Look at an image or a video with the champions, and judge what is written in it; nothing is recorded."""
        medium = Medium(ref.kind, ref.name, work=ref.work)
        variant = self._topology.variant_for(ref.kind, region="*", language="*")
        if variant is None or self._score_media is None:
            return medium
        ask = Ask(ref.kind, variant)
        [looked] = await self._look(ask, [replace(medium, ask=ask)])
        [whole] = await self._said_of_words([(looked, self._champions, {})])
        return whole

    def _champions(self, language: str) -> tuple[Ask, ...]:
        found = ((name, self._topology.variant_for(name, region="*", language=language)) for name in TEXT_SERVICES)
        return tuple(Ask(service, variant) for service, variant in found if variant is not None)

    def asks(self, post: PostIn, language: str, services: Sequence[Service] = TEXT_SERVICES) -> tuple[Ask, ...]:
        """Which variants a post is put to for these services, in which arm."""
        asks = []
        for service in services:
            variant = self._topology.variant_for(service, region=post.region, language=language)
            if variant is None:
                continue
            split = self.splits.get(variant)
            if split is None:
                asks.append(Ask(service, variant))
            else:
                asks.append(Ask(service, variant, arm_of(split, post.author_id), split["experiment"]))
        return tuple(asks)

    def _case(self, post: PostIn) -> Case:
        """What is asked of a post, before anybody answers."""
        language = language_of(post.text, post.language, post.region)
        readings: tuple[TextReading, ...] = ()
        if post.text.strip() or not post.media:  # of a picture without a word, no text is judged
            readings = readings_of(post.text, language, post.language, post.region)
        media = tuple(self._medium(post, medium, language) for medium in post.media)
        return Case(post, language, observe(post.text, language), readings, media=media)

    def _medium(self, post: PostIn, medium: MediaIn, language: Language) -> Medium:
        assert medium.sha256 is not None  # intake has seen to it
        asks = () if self._score_media is None else self.asks(post, language.code, [medium.kind])
        return Medium(medium.kind, medium.sha256, asks[0] if asks else None, work=medium.work)

    async def _known_of(self, cases: Sequence[Case]) -> list[Features]:
        """What is known of authors and communities. Where the store fails nothing is known, which is not zero."""
        if self._known is None:
            return [{} for _ in cases]
        authors, communities = ([case.post.author_id for case in cases], [case.post.community for case in cases])
        # Each as of its own time; a clock that is ahead must not empty the windows that end now.
        at = [min(case.post.created_at, now()) for case in cases]
        try:
            of_authors, of_communities = await self.aside(self._known.read, authors, communities, at)
        except FeaturesUnavailableError:
            logger.exception("nothing is known of the authors of %d posts", len(cases))
            return [{} for _ in cases]
        return [{**author, **community} for author, community in zip(of_authors, of_communities, strict=True)]

    async def _said_of_texts(self, cases: Sequence[Case]) -> list[tuple[Judged, ...]]:
        """Of each post what each variant said of each reading of its text, in their order."""
        questions = [
            [
                (ask, (reading, case.features))
                for reading in case.readings
                for ask in self.asks(case.post, reading.language)
            ]
            for case in cases
        ]
        answers = iter(await _put(list(chain.from_iterable(questions)), self._ask))
        return [tuple(islice(answers, len(of_post))) for of_post in questions]

    async def _seen_in_media(self, cases: Sequence[Case]) -> list[list[Medium]]:
        """Of each post its media, looked at; those that move as videos too, once that is seen."""
        owners = [case for case in cases for _ in case.media]
        looked = await self._looked_at([medium for case in cases for medium in case.media])
        videos = [self._as_video(case.post, case.language, medium) for case, medium in zip(owners, looked, strict=True)]
        again = iter(await self._looked_at([video for video in videos if video is not None]))
        whole = iter(
            medium if video is None else replace(medium, moving=next(again))
            for medium, video in zip(looked, videos, strict=True)
        )
        return [list(islice(whole, len(case.media))) for case in cases]

    def _as_video(self, post: PostIn, language: Language, medium: Medium) -> Medium | None:
        """An animation, to be looked at as a video; None: it is none, or no variant covers it."""
        asks = self.asks(post, language.code, ["video"]) if medium.is_animation else ()
        return Medium("video", medium.sha256, asks[0], work=medium.work) if asks else None

    async def _looked_at(self, media: Sequence[Medium]) -> list[Medium]:
        """Media with what was found in them; those of which nobody is asked as they are."""
        answers = iter(await _put([(medium.ask, medium) for medium in media if medium.ask is not None], self._look))
        return [medium if medium.ask is None else next(answers) for medium in media]

    async def _said_of_words(self, media: Sequence[tuple[Medium, AsksOf, Features]]) -> list[Medium]:
        """Media with what is written in them, put to the services of texts.

        Args:
            media: each with who is asked, by the language that it is written in, and what else is known of its post.
        """
        read = [[(words, language_of(words.text, None)) for words in _written_in(medium)] for medium, _, _ in media]
        questions = [
            _of_words(words, language, asks, known)
            for (_, asks, known), texts in zip(media, read, strict=True)
            for words, language in texts
        ]
        answers = iter(await _put(list(chain.from_iterable(questions)), self._ask))
        judged = iter([tuple(islice(answers, len(of_words))) for of_words in questions])
        return [
            replace(medium, words=tuple(JudgedWords(words, language.code, next(judged)) for words, language in texts))
            for (medium, _, _), texts in zip(media, read, strict=True)
        ]

    async def _ask(self, ask: Ask, asked: Sequence[tuple[TextReading, Features]]) -> list[Judged]:
        """One handle call, of readings and what else is known of each."""
        try:
            texts = [reading.text for reading, _ in asked]
            known = [features | {"language": reading.language} for reading, features in asked]
            scored = await self._score(ask.variant, ask.arm, texts, known, deadline_of(texts, self._topology.gateway))
            # Also fails here, not later, where the version's card cannot be had, or the answer is of another length.
            card = await self.aside(self._card, ask.variant, scored.version)
            answers = list(zip(asked, scored.scores, scored.unseen, strict=True))
        except (Exception, asyncio.CancelledError) as error:
            reason = self._failure(error, ask, f"{len(asked)} texts")
            return [Judged(ask, reading, None, {}, 0.0, error=reason) for reading, _ in asked]
        self._failed_at.pop(ask.variant, None)
        return [
            Judged(ask, reading, scored.version, row, unseen, card, partly_read=place in scored.partly_read)
            for place, ((reading, _), row, unseen) in enumerate(answers)
        ]

    async def _look(self, ask: Ask, media: Sequence[Medium]) -> list[Medium]:
        """One handle call; the media with what was found in them."""
        assert self._score_media is not None
        deadline = time.time() + self._topology.media.deadline_ms / 1000
        try:
            refs = [MediaRef(medium.kind, medium.sha256, medium.work) for medium in media]
            group = await self._score_media(ask.variant, ask.arm, refs, deadline)
            card = await self.aside(self._card, ask.variant, group.version)
            answers = list(zip(media, group.found, strict=True))
        except (Exception, asyncio.CancelledError) as error:
            failed = Failed(self._failure(error, ask, f"{len(media)} media"))
            return [replace(medium, outcome=failed) for medium in media]
        self._failed_at.pop(ask.variant, None)
        return [replace(medium, outcome=outcome, version=group.version, card=card) for medium, outcome in answers]

    def _failure(self, error: BaseException, ask: Ask, what: str) -> str:
        reason = failure(error, ask, what)
        self._failed_at[ask.variant] = time.monotonic()
        return reason

    def any_away(self, within_s: float) -> bool:
        """Whether the last call of some variant failed, and that was less than so many seconds ago."""
        present = time.monotonic()
        return any(present - at < within_s for at in self._failed_at.values())


async def _put(
    questions: Sequence[tuple[Ask, Item]], call: Callable[[Ask, Sequence[Item]], Awaitable[Sequence[Result]]]
) -> list[Result]:
    """Put questions to whom they are for, one call each, all at once.

    Args:
        questions: each with whom it is for.
        call: takes all that are for one, answers each, in their order.

    Returns:
        The answers, in the order of the questions.
    """
    places: dict[Ask, list[int]] = {}
    for place, (ask, _) in enumerate(questions):
        places.setdefault(ask, []).append(place)
    groups = await asyncio.gather(
        *(call(ask, [questions[place][1] for place in where]) for ask, where in places.items())
    )
    answers: dict[int, Result] = {}
    for where, group in zip(places.values(), groups, strict=True):
        answers.update(zip(where, group, strict=True))
    return [answers[place] for place in range(len(questions))]


def _of_words(
    words: Words, language: Language, asks: AsksOf, known: Features
) -> list[tuple[Ask, tuple[TextReading, Features]]]:
    """What is asked of words in a picture: in each language that they may be in, of everybody who judges that."""
    features = known | observe(words.text, language)
    return [(ask, (TextReading(words.text, code), features)) for code in language.codes for ask in asks(code)]


def _written_in(medium: Medium) -> Sequence[Words]:
    """What is written in a medium, as far as it was read."""
    written = medium.outcome.written if isinstance(medium.outcome, Found) else None
    return () if written is None else written.words


def failure(error: BaseException, ask: Ask, what: str) -> str:
    """Why a call brought nothing; raises instead where it is we who are cancelled, not the call."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    logger.error("%s (%s) failed for %s", ask.variant, ask.arm, what, exc_info=error)
    return f"{ask.variant}: {type(error).__name__}"
