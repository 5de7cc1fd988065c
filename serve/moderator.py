"""A post's way, without HTTP: recorded already? -> language, links, route -> score -> policy -> ledger -> answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

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
    TextFeature,
)
from moderation.preprocess.features import observe
from moderation.preprocess.language import Language, detect_language
from moderation.preprocess.links import find_links
from moderation.storage.ledger import Entry, Ledger, Recorded, conflict_with, now
from moderation.topology import Topology
from serve.classifier import GroupScores
from serve.experiments.split import Arm, Split, arm_of
from serve.grouping import Grouper

logger = logging.getLogger("ray.serve")

Score = Callable[[str, Arm, list[str], float], Awaitable[GroupScores]]
"""Variant, arm, texts, deadline -> scores."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded decision.

    Attributes:
        body: JSON.
        replayed: True: nothing was inferred, this content was decided before.
    """

    body: str
    replayed: bool


@dataclass(slots=True)
class _Task:
    """One post on its way through a group."""

    post_id: str
    post: PostIn
    content_hash: str
    received_at: datetime
    started: float
    language: Language = field(default_factory=lambda: Language("und", 0.0))
    variant: str | None = None
    arm: Arm = "champion"
    experiment: str | None = None


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a group call brought for one post; `error` says why there are no scores."""

    version: int | None
    scores: Mapping[str, float]
    unseen: float
    error: str | None = None


class Moderator:
    """Decides on posts and records the decisions.

    Args:
        topology: variants, routes, bounds, policy.
        ledger: where decisions are recorded.
        score: asks a classifier.
        card: of a variant's version; blocking, remembered by its owner.
    """

    def __init__(self, topology: Topology, ledger: Ledger, score: Score, card: Callable[[str, int], Card]) -> None:
        self._topology = topology
        self._ledger = ledger
        self._score = score
        self._card = card
        self._in_flight: dict[tuple[str, str], asyncio.Future[Answer]] = {}
        self.splits: Mapping[str, Split] = {}
        gateway = topology.gateway
        self._grouper: Grouper[_Task, Answer] = Grouper(
            self._moderate_group, group_size=gateway.group_size, max_waiting=gateway.max_waiting_posts
        )

    async def moderate(self, post_id: str, post: PostIn) -> Answer:
        """Decide on a post, and record it; content that was decided before is not judged again.

        Raises:
            ConflictError: content that was created later is recorded already.
            QueueFullError: too many posts wait.
        """
        task = _Task(post_id, post, post.content_hash(), now(), time.perf_counter())
        key = (post_id, task.content_hash)
        running = self._in_flight.get(key)
        if running is not None:
            answer = await asyncio.shield(running)
            return Answer(answer.body, replayed=True)
        future = asyncio.ensure_future(self._grouper.submit(task))
        self._in_flight[key] = future
        future.add_done_callback(lambda _: self._in_flight.pop(key, None))
        # Shielded: a caller that leaves must not take away the answer of those who wait for the same post.
        return await asyncio.shield(future)

    async def score_texts(self, features: Sequence[TextFeature]) -> list[ModerateResult]:
        """Score texts with the champions; nothing is recorded."""
        tasks: dict[str, list[tuple[int, str]]] = {}
        languages = [Language(item.language, 1.0) if item.language else detect_language(item.text) for item in features]
        results: dict[int, ModerateResult] = {}
        for index, (item, language) in enumerate(zip(features, languages, strict=True)):
            variant = self._topology.variant_for("text", region="*", language=language.code)
            if variant is None:
                results[index] = ModerateResult(id=item.id, labels=[], language=language.code, model="none")
            else:
                tasks.setdefault(variant, []).append((index, item.text))
        for variant, members in tasks.items():
            scored = await self._score(variant, "champion", [text for _, text in members], self._deadline())
            for (index, _), scores in zip(members, scored.scores, strict=True):
                results[index] = ModerateResult(
                    id=features[index].id,
                    labels=[LabelConfidence(label=name, confidence=value) for name, value in scores.items()],
                    language=languages[index].code,
                    model=f"{variant}@{scored.version}",
                )
        return [results[index] for index in range(len(features))]

    async def _moderate_group(self, group: Sequence[_Task]) -> list[Answer | Exception]:
        recorded = await asyncio.to_thread(self._ledger.newest, [task.post_id for task in group])
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
                    entries[index] = self._entry(group[index], result)
                except Exception as error:  # one broken post must not take its group with it
                    logger.exception("post %r cannot be decided", group[index].post_id)
                    answers[index] = error
            outcomes = await asyncio.to_thread(self._ledger.record, list(entries.values()))
            for index, outcome in zip(entries, outcomes, strict=True):
                replayed = isinstance(outcome, Recorded) and not outcome.fresh
                answers[index] = Answer(outcome.body, replayed) if isinstance(outcome, Recorded) else outcome
        return [answers[index] for index in range(len(group))]

    async def _judge(self, tasks: Sequence[_Task]) -> list[_Judged]:
        calls: dict[tuple[str, Arm], list[int]] = {}
        results: list[_Judged] = [_Judged(None, {}, 0.0)] * len(tasks)
        for index, task in enumerate(tasks):
            self._route(task)
            if task.variant is not None:
                calls.setdefault((task.variant, task.arm), []).append(index)
        answers = await asyncio.gather(
            *(self._ask(key, [tasks[index].post.text for index in members]) for key, members in calls.items())
        )
        for members, judged in zip(calls.values(), answers, strict=True):
            for index, result in zip(members, judged, strict=True):
                results[index] = result
        return results

    def _route(self, task: _Task) -> None:
        told = task.post.language
        task.language = Language(told, 1.0) if told else detect_language(task.post.text)
        task.variant = self._topology.variant_for("text", region=task.post.region, language=task.language.code)
        split = self.splits.get(task.variant) if task.variant else None
        if split is not None:
            task.experiment = split["experiment"]
            task.arm = arm_of(split, task.post.author_id)

    async def _ask(self, key: tuple[str, Arm], texts: list[str]) -> list[_Judged]:
        """One handle call. A model that fails costs scores, not posts: the policy says what a failure means."""
        variant, arm = key
        try:
            scored = await self._score(variant, arm, texts, self._deadline())
            # Also fails here, not later, where the version's card cannot be had.
            await asyncio.to_thread(self._card, variant, scored.version)
        except Exception as error:
            logger.exception("%s (%s) failed for %d posts", variant, arm, len(texts))
            return [_Judged(None, {}, 0.0, error=f"{variant}: {type(error).__name__}")] * len(texts)
        return [_Judged(scored.version, row, unseen) for row, unseen in zip(scored.scores, scored.unseen, strict=True)]

    def _entry(self, task: _Task, judged: _Judged) -> Entry:
        card = None if task.variant is None or judged.version is None else self._card(task.variant, judged.version)
        links = [self._check_link(link.url, link.domain) for link in find_links(task.post.text)]
        decided_at = now()
        verdict = self._topology.policy.decide(
            self._scored(task, judged, card), region=task.post.region, links=links, now=decided_at
        )
        model = {"text": f"{task.variant}@{judged.version}"} if card is not None else {}
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
                in_training=card is not None and task.language.code in card.languages,
            ),
            links=links,
            review=verdict.review,
            experiment=ExperimentArm(name=task.experiment, arm=task.arm) if task.experiment else None,
            policy_version=self._topology.policy.version,
            models=model,
            decided_at=decided_at,
            latency_ms=round((time.perf_counter() - task.started) * 1000, 1),
        )
        return Entry(
            post=task.post,
            content_hash=task.content_hash,
            decision=decision,
            features=observe(task.post.text, task.language, unseen_word_share=judged.unseen, scores=judged.scores),
            variant=task.variant,
            model_version=judged.version,
            received_at=task.received_at,
        )

    def _scored(self, task: _Task, judged: _Judged, card: Card | None) -> dict[str, Scored]:
        if task.variant is None:
            return {}
        expected = self._topology.variant(task.variant).labels
        if card is None:
            return {label: Scored(None, None, ("text",), judged.error or "not scored") for label in expected}
        return {
            label: Scored(judged.scores.get(label), card.operating_curves.get(label), ("text",), "no such output")
            for label in expected
        }

    def _check_link(self, url: str, domain: str) -> LinkDecision:
        listed = self._topology.blocklist.matches(domain)
        if listed is None:
            return LinkDecision(url=url, domain=domain, verdict="unlisted")
        return LinkDecision(url=url, domain=domain, verdict="blocked", reasons=[f"{listed} is on the blocklist"])

    def _deadline(self) -> float:
        return time.time() + self._topology.gateway.deadline_ms / 1000


def _settled(task: _Task, newest: Recorded | None) -> Answer | Exception | None:
    """What the ledger alone answers, without any inference."""
    if newest is None:
        return None
    if newest.content_hash == task.content_hash:
        return Answer(newest.body, replayed=True)
    return conflict_with(newest, task.post_id, task.post, task.content_hash)
