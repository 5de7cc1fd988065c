"""What the models say of posts: which variants are asked, in which arm, and what comes back of each part of a post.

First the texts, the images and the videos are asked of, all at once; then the texts, once more, of what is written in
the pictures. A call to a model serves all posts of a group. A model that fails costs scores, not posts: the policy says
what a failure means.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from moderation.errors import FeaturesUnavailableError
from moderation.labels import Service
from moderation.media import Failed, Found, MediaKind, MediaRef, Refused, Words
from moderation.models.card import Card
from moderation.posts import LabelConfidence, ModerateResult, PostIn, TextFeature
from moderation.preprocess.features import Features, observe, scored_features
from moderation.preprocess.language import Language
from moderation.preprocess.windows import LONG, MOST_CHARACTERS
from moderation.storage.features import FeatureStore
from moderation.storage.ledger import Scoring, now
from moderation.topology import Topology
from serve.errors import NoAnswerError, QueueFullError
from serve.experiments.split import Arm, Split, arm_of
from serve.posts.answers import GroupFound, GroupScores
from serve.posts.batcher import Grouper
from serve.posts.readings import Reading, language_of, readings_of

logger = logging.getLogger("ray.serve")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_THREADS = 8
"""For what blocks on a post's way: two groups of posts, media beside them, and what is done after the reply."""

TEXT_SERVICES: tuple[Service, ...] = ("text", "misinformation")
"""What the text of a post is put to."""

Score = Callable[[str, Arm, list[str], list[Features], float], Awaitable[GroupScores]]
"""Variant, arm, texts, what else is known of each post, deadline -> scores."""
ScoreMedia = Callable[[str, Arm, list[MediaRef], float], Awaitable[GroupFound]]
"""Variant, arm, media, deadline -> what was found."""
ReadCard = Callable[[str, int], Card]
"""Variant, version -> its card; blocking."""

_LEAST_WORK = 100
"""What the shortest text costs, in characters."""


def work_of(text: str) -> int:
    """How much it is to judge a text, in characters: those of a long one are read in windows, up to thrice."""
    characters = len(text)
    if characters > LONG:
        characters += min(2 * (characters - LONG), MOST_CHARACTERS)
    return max(_LEAST_WORK, characters)


@contextmanager
def answers_needed() -> Iterator[None]:
    """Where scores are all that is asked for, whatever goes wrong means that no model answered.

    Raises:
        QueueFullError: as it came.
        NoAnswerError: in place of anything else, which is logged.
    """
    try:
        yield
    except QueueFullError:
        raise
    except Exception as error:
        logger.exception("scoring failed")
        raise NoAnswerError(error) from error


@dataclass(frozen=True, slots=True)
class Ask:
    """A service that a part of a post is put to: which variant answers, and in which arm of which experiment."""

    service: Service
    variant: str
    arm: Arm = "champion"
    experiment: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What one variant said of one reading of a text; `error` says why there are no scores."""

    ask: Ask
    reading: Reading
    version: int | None
    scores: Mapping[str, float]
    unseen: float
    card: Card | None = None
    error: str | None = None
    partly_read: bool = False

    def scoring(self) -> Scoring:
        """As it is recorded."""
        features = {} if self.version is None else scored_features(self.scores, self.unseen)
        ask = self.ask
        return Scoring(ask.service, ask.variant, self.version, ask.experiment, ask.arm, features)


@dataclass(frozen=True, slots=True)
class JudgedWords:
    """What is written in a picture, and what the variants said of it, in each language that it may be in."""

    words: Words
    language: str
    judged: tuple[Judged, ...]


@dataclass(slots=True)
class Medium:
    """One image or video of a post, and what was found in it.

    Attributes:
        kind: what it was taken for.
        sha256: of its bytes.
        ask: who was asked; None: no variant covers it.
        outcome: what came back; None: nobody was asked.
        version, card: of who answered.
        words: what is written in it, judged.
        work: that it is to decode it, in megapixels.
        moving: an image that moves, looked at as the video that it is as well; None: it does not, or nobody covers it.
    """

    kind: MediaKind
    sha256: str
    ask: Ask | None = None
    outcome: Found | Refused | Failed | None = None
    version: int | None = None
    card: Card | None = None
    words: list[JudgedWords] = field(default_factory=list)
    moving: Medium | None = None
    work: int = 1

    @property
    def looks(self) -> list[Medium]:
        """Every look at it: as what it was told, and as a video where it moves."""
        return [self] if self.moving is None else [self, self.moving]


@dataclass(slots=True)
class Case:
    """A post, and what the models say of it.

    Attributes:
        post: what is judged.
        language: of its text.
        features: what is known of it, and logged.
        readings: of its text, that as it was posted, in the language of the features, first; none: it has no word.
        judged: what came back: of each reading, in their order, what each variant said that covers its language.
        media: its images and videos, in their order.
    """

    post: PostIn
    language: Language = field(default_factory=lambda: Language("und", 0.0))
    features: Features = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    judged: list[Judged] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)


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
        # Made here, in nobody's context: one made in a request's would be cancelled with that.
        self._alone = {
            name: self._texts_alone(name)
            for name, variant in topology.variants.items()
            if variant.service in TEXT_SERVICES
        }

    async def aside(
        self, call: Callable[Parameters, Result], /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """Run what blocks on a thread of the posts' own.

        Those that a replica has for everything are few: slow reports would keep every post waiting.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **named))

    async def judge(self, posts: Sequence[PostIn]) -> list[Case]:
        """Put posts to every model that a route names for one of their parts."""
        cases = await self.aside(lambda: [self._case(post) for post in posts])
        await self._add_known(cases)
        await asyncio.gather(self._ask_of_texts(cases), self._ask_of_media(cases))
        await self._ask_of_words(
            [(medium, partial(self.asks, case.post), case.features) for case in cases for medium in case.media]
        )
        return cases

    async def score_texts(
        self, service: Service, features: Sequence[TextFeature], *, client: str | None = None
    ) -> list[ModerateResult]:
        """Score texts with a service's champions; nothing is recorded. Texts that none covers get no labels.

        A text whose language is unsure gets the surest confidence of those languages that it is likely in.

        Args:
            service: that is asked.
            features: the texts.
            client: who asks, as `serve.http.wire.client_of` tells clients apart; clients take turns.

        Raises:
            QueueFullError: too many texts wait, or for too long; of this client, as a ClientShareError.
        """
        return [_surest(results) for results in await self.read_texts(service, features, client=client)]

    async def read_texts(
        self, service: Service, features: Sequence[TextFeature], *, client: str | None = None
    ) -> list[list[ModerateResult]]:
        """Of each text of `score_texts` a result in every language that it is likely in, that which is named first."""
        languages = await self.aside(lambda: [language_of(item.text, item.language) for item in features])
        asked = [
            [(code, self._topology.variant_for(service, region="*", language=code)) for code in found.codes]
            for found in languages
        ]
        work: dict[str, int] = {}
        for item, each in zip(features, asked, strict=True):
            for _, variant in each:
                if variant is not None:
                    work[variant] = work.get(variant, 0) + work_of(item.text)
        for variant, characters in work.items():
            self._alone[variant].admit(client, characters, taken=True)
        answers = (
            asyncio.gather(*(self._result(item, code, variant, client) for code, variant in each))
            for item, each in zip(features, asked, strict=True)
        )
        return [list(results) for results in await asyncio.gather(*answers)]

    async def _result(
        self, item: TextFeature, language: str, variant: str | None, client: str | None
    ) -> ModerateResult:
        if variant is None:
            return ModerateResult(id=item.id, labels=[], language=language, model="none")
        version, scores, partly_read = await self._alone[variant].submit(
            (item.text, {"language": language}), taken=True, client=client
        )
        return ModerateResult(
            id=item.id,
            labels=[LabelConfidence(label=name, confidence=value) for name, value in scores.items()],
            language=language,
            model=f"{variant}@{version}",
            partly_read=partly_read,
        )

    def _texts_alone(self, variant: str) -> Grouper[tuple[str, Features], tuple[int, Mapping[str, float], bool]]:
        """A queue of texts of no post: a group at a time, so that a long list leaves room for posts."""

        async def score(group: Sequence[tuple[str, Features]]) -> list[tuple[int, Mapping[str, float], bool]]:
            texts, known = [text for text, _ in group], [known for _, known in group]
            scored = await self._score(variant, "champion", texts, known, self._deadline(texts))
            return [(scored.version, row, place in scored.partly_read) for place, row in enumerate(scored.scores)]

        bounds = self._topology.gateway
        return Grouper(
            score,
            group_size=bounds.group_size,
            max_waiting=bounds.max_waiting_posts,
            max_in_flight=1,
            max_a_client=bounds.max_waiting_a_client,
            max_wait_s=bounds.max_wait_ms / 1000,
            work_of=lambda text: work_of(text[0]),
            group_work=bounds.group_characters,
        )

    async def look(self, ref: MediaRef) -> Medium:
        """Look at an image or a video with the champions, and judge what is written in it; nothing is recorded."""
        medium = Medium(ref.kind, ref.name, work=ref.work)
        variant = self._topology.variant_for(ref.kind, region="*", language="*")
        if variant is not None and self._score_media is not None:
            medium.ask = Ask(ref.kind, variant)
            await self._look(medium.ask, [medium])
            await self._ask_of_words([(medium, self._champions, {})])
        return medium

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
        language = language_of(post.text, post.language, post.region)
        case = Case(post, language, observe(post.text, language))
        if post.text.strip() or not post.media:  # of a picture without a word, no text is judged
            case.readings = readings_of(post.text, language, post.language, post.region)
        for medium in post.media:
            assert medium.sha256 is not None  # intake has seen to it
            case.media.append(Medium(medium.kind, medium.sha256, work=medium.work))
            found = self.asks(post, language.code, [medium.kind])
            if found and self._score_media is not None:
                case.media[-1].ask = found[0]
        return case

    async def _add_known(self, cases: Sequence[Case]) -> None:
        """Add what is known of authors and communities. Where the store fails nothing is known, which is not zero."""
        if self._known is None:
            return
        authors, communities = ([case.post.author_id for case in cases], [case.post.community for case in cases])
        # Each as of its own time; a clock that is ahead must not empty the windows that end now.
        at = [min(case.post.created_at, now()) for case in cases]
        try:
            found = await self.aside(self._known.read, authors, communities, at)
        except FeaturesUnavailableError:
            logger.exception("nothing is known of the authors of %d posts", len(cases))
            return
        for case, author, community in zip(cases, *found, strict=True):
            case.features |= author | community

    async def _ask_of_texts(self, cases: Sequence[Case]) -> None:
        calls: dict[Ask, list[tuple[Case, Reading]]] = {}
        for case in cases:
            for reading in case.readings:
                for ask in self.asks(case.post, reading.language):
                    calls.setdefault(ask, []).append((case, reading))
        answers = await asyncio.gather(
            *(self._ask(ask, [(reading, case.features) for case, reading in asked]) for ask, asked in calls.items())
        )
        said: dict[tuple[int, Reading], list[Judged]] = {}
        for asked, judged in zip(calls.values(), answers, strict=True):
            for (case, reading), result in zip(asked, judged, strict=True):
                said.setdefault((id(case), reading), []).append(result)
        for case in cases:
            case.judged = [result for reading in case.readings for result in said.get((id(case), reading), ())]

    async def _ask_of_media(self, cases: Sequence[Case]) -> None:
        calls: dict[Ask, list[Medium]] = {}
        for case in cases:
            for medium in case.media:
                if medium.ask is not None:
                    calls.setdefault(medium.ask, []).append(medium)
        await asyncio.gather(*(self._look(ask, media) for ask, media in calls.items()))
        moving: dict[Ask, list[Medium]] = {}
        for case in cases:
            for medium in case.media:
                as_video = self.asks(case.post, case.language.code, ["video"]) if _moves(medium) else ()
                for ask in as_video:
                    medium.moving = Medium("video", medium.sha256, ask, work=medium.work)
                    moving.setdefault(ask, []).append(medium.moving)
        await asyncio.gather(*(self._look(ask, media) for ask, media in moving.items()))

    async def _ask_of_words(self, media: Sequence[tuple[Medium, Callable[[str], tuple[Ask, ...]], Features]]) -> None:
        """Put what is written in media to the services of texts.

        Args:
            media: each with who is asked, by the language that it is written in, and what else is known of its post.
        """
        calls: dict[Ask, list[tuple[Reading, Features]]] = {}
        places: dict[Ask, list[tuple[Medium, int]]] = {}
        for medium, asks, known in media:
            written = medium.outcome.written if isinstance(medium.outcome, Found) else None
            for words in () if written is None else written.words:
                language = language_of(words.text, None)
                medium.words.append(JudgedWords(words, language.code, ()))
                features = known | observe(words.text, language)
                for code in language.codes:
                    for ask in asks(code):
                        calls.setdefault(ask, []).append((Reading(words.text, code), features))
                        places.setdefault(ask, []).append((medium, len(medium.words) - 1))
        answers = await asyncio.gather(*(self._ask(ask, texts) for ask, texts in calls.items()))
        for where, judged in zip(places.values(), answers, strict=True):
            for (medium, index), result in zip(where, judged, strict=True):
                before = medium.words[index]
                medium.words[index] = JudgedWords(before.words, before.language, (*before.judged, result))

    async def _ask(self, ask: Ask, asked: Sequence[tuple[Reading, Features]]) -> list[Judged]:
        """One handle call, of readings and what else is known of each."""
        try:
            texts = [reading.text for reading, _ in asked]
            known = [features | {"language": reading.language} for reading, features in asked]
            scored = await self._score(ask.variant, ask.arm, texts, known, self._deadline(texts))
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

    async def _look(self, ask: Ask, media: Sequence[Medium]) -> None:
        """One handle call; its answers are noted at each medium."""
        assert self._score_media is not None
        deadline = time.time() + self._topology.media.deadline_ms / 1000
        try:
            refs = [MediaRef(medium.kind, medium.sha256, medium.work) for medium in media]
            group = await self._score_media(ask.variant, ask.arm, refs, deadline)
            card = await self.aside(self._card, ask.variant, group.version)
            answers = list(zip(media, group.found, strict=True))
        except (Exception, asyncio.CancelledError) as error:
            failed = Failed(self._failure(error, ask, f"{len(media)} media"))
            for medium in media:
                medium.outcome = failed
            return
        self._failed_at.pop(ask.variant, None)
        for medium, outcome in answers:
            medium.outcome, medium.version, medium.card = outcome, group.version, card

    def _failure(self, error: BaseException, ask: Ask, what: str) -> str:
        reason = failure(error, ask, what)
        self._failed_at[ask.variant] = time.monotonic()
        return reason

    def any_away(self, within_s: float) -> bool:
        """Whether the last call of some variant failed, and that was less than so many seconds ago."""
        present = time.monotonic()
        return any(present - at < within_s for at in self._failed_at.values())

    def _deadline(self, texts: Sequence[str]) -> float:
        """When a model has failed for texts: later for those that are longer than a group may be."""
        bounds = self._topology.gateway
        groups = max(1.0, sum(map(work_of, texts)) / bounds.group_characters)
        return time.time() + groups * bounds.deadline_ms / 1000


def _surest(results: Sequence[ModerateResult]) -> ModerateResult:
    """One text's results in several languages -> one: of each label the surest, in the language that is named."""
    surest: dict[str, float] = {}
    for result in results:
        for said in result.labels:
            surest[said.label] = max(said.confidence, surest.get(said.label, 0.0))
    models = list(dict.fromkeys(result.model for result in results if result.labels))
    labels = [LabelConfidence(label=label, confidence=confidence) for label, confidence in surest.items()]
    return results[0].model_copy(update={"labels": labels, "model": models[0] if models else "none"})


def _moves(medium: Medium) -> bool:
    """Whether an image is an animation: what it shows over time no model of single pictures sees."""
    return medium.kind == "image" and isinstance(medium.outcome, Found) and medium.outcome.seconds is not None


def failure(error: BaseException, ask: Ask, what: str) -> str:
    """Why a call brought nothing; raises instead where it is we who are cancelled, not the call."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    logger.error("%s (%s) failed for %s", ask.variant, ask.arm, what, exc_info=error)
    return f"{ask.variant}: {type(error).__name__}"
