"""A post's way, without HTTP: recorded already? -> language, links, route -> score -> policy -> ledger -> answer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from moderation.errors import ConflictError, FeaturesUnavailableError
from moderation.labels import Service
from moderation.models.card import Card
from moderation.policy import Scored
from moderation.posts import (
    Decision,
    ExperimentArm,
    LabelConfidence,
    LanguageDecision,
    LinkDecision,
    ModerateResult,
    PostIn,
    ReviewDecision,
    TextFeature,
)
from moderation.preprocess.features import Features, observe, scored_features
from moderation.preprocess.language import Language, detect_language
from moderation.preprocess.links import check_links, find_links
from moderation.review import item_for
from moderation.storage.features import FeatureStore, PostObserved, posts_observed
from moderation.storage.ledger import Entry, Ledger, Recorded, Scoring, conflict_with, now
from moderation.topology import Topology
from serve.classifier import GroupScores
from serve.experiments.split import Arm, Split, arm_of
from serve.fusebox import FuseBox
from serve.grouping import Grouper

logger = logging.getLogger("ray.serve")

TEXT_SERVICES: tuple[Service, ...] = ("text", "misinformation")
"""What the text of a post is put to."""

Score = Callable[[str, Arm, list[str], list[Features], float], Awaitable[GroupScores]]
"""Variant, arm, texts, what else is known of each post, deadline -> scores."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded decision.

    Attributes:
        body: JSON.
        replayed: True: nothing was inferred, this content was decided before.
    """

    body: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Ask:
    """A service that a post is put to: which variant answers, and in which arm of which experiment."""

    service: Service
    variant: str
    arm: Arm = "champion"
    experiment: str | None = None


@dataclass(slots=True)
class _Task:
    """One post on its way through a group."""

    post_id: str
    post: PostIn
    content_hash: str
    received_at: datetime
    started: float
    acts: bool = True
    language: Language = field(default_factory=lambda: Language("und", 0.0))
    features: Features = field(default_factory=dict)
    asks: tuple[_Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class _Judged:
    """What one variant said of one post; `error` says why there are no scores."""

    ask: _Ask
    version: int | None
    scores: Mapping[str, float]
    unseen: float
    card: Card | None = None
    error: str | None = None

    def scoring(self) -> Scoring:
        """As it is recorded."""
        features = {} if self.version is None else scored_features(self.scores, self.unseen)
        ask = self.ask
        return Scoring(ask.service, ask.variant, self.version, ask.experiment, ask.arm, features)


class Moderator:
    """Decides on posts and records the decisions.

    Args:
        topology: variants, routes, bounds, policy; its blocklist is read anew by who watches it.
        ledger: where decisions are recorded.
        score: asks a classifier.
        card: of a variant's version; blocking, remembered by its owner.
        known: what is known of authors and communities; None: nothing is.
        recorded: told of the entries that were new, after their commit and before the reply; must not block.
    """

    def __init__(
        self,
        topology: Topology,
        ledger: Ledger,
        score: Score,
        card: Callable[[str, int], Card],
        known: FeatureStore | None = None,
        recorded: Callable[[Sequence[Entry]], None] | None = None,
    ) -> None:
        self._topology = topology
        self._ledger = ledger
        self._score = score
        self._card = card
        self._known = known
        self._on_recorded = recorded
        self._draw = random.SystemRandom().random
        self._fuses = FuseBox(ledger, topology)
        self._beside: set[asyncio.Task[None]] = set()
        self._in_flight: dict[tuple[str, str], asyncio.Future[Answer]] = {}
        self.splits: Mapping[str, Split] = {}
        gateway = topology.gateway
        self._grouper: Grouper[_Task, Answer] = Grouper(
            self._moderate_group,
            group_size=gateway.group_size,
            max_waiting=gateway.max_waiting_posts,
            max_a_client=gateway.max_waiting_a_client,
        )

    async def moderate(
        self, post_id: str, post: PostIn, *, acts: bool = True, taken: bool = False, client: str | None = None
    ) -> Answer:
        """Decide on a post, and record it; content that was decided before is not judged again.

        Args:
            post_id: chosen by the platform.
            post: its content.
            acts: False: a text to learn from; nothing is done with it, and nobody is asked about it.
            taken: True: it belongs to a batch that was taken when there was room, and is not refused now.
            client: who sent it, as `serve.wire.client_of` tells clients apart.

        Raises:
            ConflictError: content that was created later is recorded already.
            QueueFullError: too many posts wait, or, as a ClientShareError, too many of this client.
        """
        task = _Task(post_id, post, post.content_hash(), now(), time.perf_counter(), acts)
        key = (post_id, task.content_hash)
        running = self._in_flight.get(key)
        if running is not None:
            answer = await asyncio.shield(running)
            return Answer(answer.body, replayed=True)
        future = asyncio.ensure_future(self._grouper.submit(task, taken=taken, client=client))
        self._in_flight[key] = future
        future.add_done_callback(lambda _: self._in_flight.pop(key, None))
        # Shielded: a caller that leaves must not take away the answer of those who wait for the same post.
        return await asyncio.shield(future)

    def admit(self, client: str | None) -> None:
        """Let another post, or a batch, in; raises as `moderate` does where there is no room."""
        self._grouper.admit(client)

    @property
    def full(self) -> bool:
        """Whether as many posts wait as may."""
        return self._grouper.full

    def card(self, variant: str, version: int) -> Card:
        """The card of a variant's version; blocking."""
        return self._card(variant, version)

    async def score_texts(self, service: Service, features: Sequence[TextFeature]) -> list[ModerateResult]:
        """Score texts with a service's champions; nothing is recorded. Texts that none covers get no labels."""
        tasks: dict[str, list[int]] = {}
        languages = [Language(item.language, 1.0) if item.language else detect_language(item.text) for item in features]
        results: dict[int, ModerateResult] = {}
        for index, (item, language) in enumerate(zip(features, languages, strict=True)):
            variant = self._topology.variant_for(service, region="*", language=language.code)
            if variant is None:
                results[index] = ModerateResult(id=item.id, labels=[], language=language.code, model="none")
            else:
                tasks.setdefault(variant, []).append(index)
        for variant, members in tasks.items():
            texts = [features[index].text for index in members]
            known: list[Features] = [{"language": languages[index].code} for index in members]
            scored = await self._score(variant, "champion", texts, known, self._deadline())
            for index, scores in zip(members, scored.scores, strict=True):
                results[index] = ModerateResult(
                    id=features[index].id,
                    labels=[LabelConfidence(label=name, confidence=value) for name, value in scores.items()],
                    language=languages[index].code,
                    model=f"{variant}@{scored.version}",
                )
        return [results[index] for index in range(len(features))]

    async def _moderate_group(self, group: Sequence[_Task]) -> list[Answer | Exception]:
        recorded, exempt = await asyncio.to_thread(self._known_of, group)
        if self._fuses.due():
            self._keep(self._fuses.look())
        answers: dict[int, Answer | Exception] = {}
        fresh: list[int] = []
        for index, task in enumerate(group):
            answer = _settled(task, recorded.get(task.post_id))
            if answer is None:
                fresh.append(index)
            else:
                answers[index] = answer
        if fresh:
            judged = await self._judge([group[index] for index in fresh])
            entries: dict[int, Entry] = {}
            for index, result in zip(fresh, judged, strict=True):
                try:
                    entries[index] = self._entry(group[index], result, exempt=group[index].content_hash in exempt)
                except Exception as error:  # one broken post must not take its group with it
                    logger.exception("post %r cannot be decided", group[index].post_id)
                    answers[index] = error
            outcomes = await asyncio.to_thread(self._ledger.record, list(entries.values()))
            self._count(posts_observed(list(entries.values()), outcomes))
            self._tell(list(entries.values()), outcomes)
            for index, outcome in zip(entries, outcomes, strict=True):
                replayed = isinstance(outcome, Recorded) and not outcome.fresh
                answers[index] = Answer(outcome.body, replayed) if isinstance(outcome, Recorded) else outcome
        return [answers[index] for index in range(len(group))]

    def _known_of(self, group: Sequence[_Task]) -> tuple[dict[str, Recorded], set[str]]:
        """What is recorded of a group's posts, and which of their contents were restored on appeal."""
        recorded = self._ledger.newest([task.post_id for task in group])
        return recorded, self._ledger.exempt([task.content_hash for task in group])

    async def _judge(self, tasks: Sequence[_Task]) -> list[list[_Judged]]:
        calls: dict[_Ask, list[int]] = {}
        for index, task in enumerate(tasks):
            self._route(task)
            task.features = observe(task.post.text, task.language)
            for ask in task.asks:
                calls.setdefault(ask, []).append(index)
        await self._add_known(tasks)
        answers = await asyncio.gather(
            *(self._ask(ask, [tasks[index] for index in members]) for ask, members in calls.items())
        )
        results: list[list[_Judged]] = [[] for _ in tasks]
        for members, judged in zip(calls.values(), answers, strict=True):
            for index, result in zip(members, judged, strict=True):
                results[index].append(result)
        return results

    def _route(self, task: _Task) -> None:
        told = task.post.language
        task.language = Language(told, 1.0) if told else detect_language(task.post.text)
        asks = []
        for service in TEXT_SERVICES:
            variant = self._topology.variant_for(service, region=task.post.region, language=task.language.code)
            if variant is None:
                continue
            split = self.splits.get(variant)
            if split is None:
                asks.append(_Ask(service, variant))
            else:
                asks.append(_Ask(service, variant, arm_of(split, task.post.author_id), split["experiment"]))
        task.asks = tuple(asks)

    async def _add_known(self, tasks: Sequence[_Task]) -> None:
        """Add what is known of authors and communities. Where the store fails nothing is known, which is not zero."""
        if self._known is None:
            return
        authors, communities = ([task.post.author_id for task in tasks], [task.post.community for task in tasks])
        at = max(task.post.created_at for task in tasks)
        try:
            found = await asyncio.to_thread(self._known.read, authors, communities, at)
        except FeaturesUnavailableError:
            logger.exception("nothing is known of the authors of %d posts", len(tasks))
            return
        for task, author, community in zip(tasks, *found, strict=True):
            task.features |= author | community

    def _count(self, posts: list[PostObserved]) -> None:
        """Count recorded posts, after the reply: what is derived from the ledger holds up nobody."""
        if self._known is None or not posts:
            return

        async def count(store: FeatureStore) -> None:
            try:
                await asyncio.to_thread(store.observe, posts)
            except FeaturesUnavailableError:
                logger.exception("%d posts are not counted until the features are rebuilt", len(posts))

        self._keep(count(self._known))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside the posts."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _tell(self, entries: Sequence[Entry], outcomes: Sequence[Recorded | ConflictError]) -> None:
        if self._on_recorded is None:
            return
        pairs = zip(entries, outcomes, strict=True)
        try:
            self._on_recorded([entry for entry, found in pairs if isinstance(found, Recorded) and found.fresh])
        except Exception:  # what is recorded is answered, whoever fails to hear of it
            logger.exception("%d decisions were not told", len(entries))

    async def _ask(self, ask: _Ask, tasks: Sequence[_Task]) -> list[_Judged]:
        """One handle call. A model that fails costs scores, not posts: the policy says what a failure means."""
        texts = [task.post.text for task in tasks]
        try:
            known = [task.features for task in tasks]
            scored = await self._score(ask.variant, ask.arm, texts, known, self._deadline())
            # Also fails here, not later, where the version's card cannot be had, or the answer is of another length.
            card = await asyncio.to_thread(self._card, ask.variant, scored.version)
            answers = list(zip(texts, scored.scores, scored.unseen, strict=True))
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # we are cancelled, not the call
            logger.exception("%s (%s) failed for %d posts", ask.variant, ask.arm, len(texts))
            return [_Judged(ask, None, {}, 0.0, error=f"{ask.variant}: {type(error).__name__}")] * len(texts)
        return [_Judged(ask, scored.version, row, unseen, card) for _, row, unseen in answers]

    def _entry(self, task: _Task, judged: Sequence[_Judged], *, exempt: bool) -> Entry:
        links, unexamined = self._check_links(task.post.text)
        decided_at = now()
        verdict = self._topology.policy.decide(
            self._scored(task, judged),
            region=task.post.region,
            links=links,
            now=decided_at,
            unexamined_links=unexamined,
            review_shorteners=self._topology.links.review_shorteners,
            blown=self._fuses.blown_in(task.post.region),
        )
        if exempt:
            verdict = replace(verdict, decision="allow", mode="reactive", review=ReviewDecision(queued=False))
        decision = Decision(
            post_id=task.post_id,
            content_version=1,
            decision=verdict.decision,
            mode=verdict.mode,
            degraded=verdict.degraded,
            labels=verdict.labels,
            language=LanguageDecision(
                code=task.language.code,
                confidence=task.language.confidence,
                in_training=any(
                    found.ask.service == "text" and found.card and task.language.code in found.card.languages
                    for found in judged
                ),
            ),
            links=links,
            review=verdict.review,
            experiments={
                found.ask.service: ExperimentArm(name=found.ask.experiment, arm=found.ask.arm)
                for found in judged
                if found.ask.experiment is not None
            },
            policy_version=self._topology.policy.version,
            models={
                found.ask.service: f"{found.ask.variant}@{found.version}"
                for found in judged
                if found.version is not None
            },
            decided_at=decided_at,
            latency_ms=round((time.perf_counter() - task.started) * 1000, 1),
            exempt=exempt,
        )
        item = item_for(
            decision,
            community=task.post.community,
            rules=self._topology.policy.rules(task.post.region),
            review=self._topology.review,
            draw=self._draw,
        )
        return Entry(
            post=task.post,
            content_hash=task.content_hash,
            decision=decision,
            features=task.features,
            scorings=tuple(found.scoring() for found in judged),
            received_at=task.received_at,
            item=item,
            acts=task.acts,
            actor="fuse" if verdict.diverted else "model",
            removed_for=() if exempt else verdict.removed_for,
        )

    def _scored(self, task: _Task, judged: Sequence[_Judged]) -> dict[str, Scored]:
        """What each asked variant was expected to score, and did or did not."""
        scored: dict[str, Scored] = {}
        for found in judged:
            for label in self._topology.variant(found.ask.variant).labels:
                if found.card is None:
                    scored[label] = Scored(None, None, ("text",), found.error or "not scored")
                else:
                    curve = found.card.curve(label, task.language.code)
                    scored[label] = Scored(found.scores.get(label), curve, ("text",), "no such output")
        return scored

    def _check_links(self, text: str) -> tuple[list[LinkDecision], int]:
        """A text's links, checked, and how many there are beyond the bound."""
        blocklist = self._topology.blocklist
        found = find_links(text, blocklist)
        checked = check_links(found, blocklist, self._topology.link_rules)
        links = [
            LinkDecision(url=link.url, domain=link.domain, verdict=link.verdict, reasons=list(link.reasons))
            for link in checked
        ]
        return links, len(found) - len(checked)

    def _deadline(self) -> float:
        return time.time() + self._topology.gateway.deadline_ms / 1000


def _settled(task: _Task, newest: Recorded | None) -> Answer | Exception | None:
    """What the ledger alone answers, without any inference."""
    if newest is None:
        return None
    if newest.content_hash == task.content_hash:
        return Answer(newest.body, replayed=True)
    return conflict_with(newest, task.post_id, task.post, task.content_hash)
