"""Texts, scored and held against the policy, for services that speak of single texts and not of posts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from moderation.errors import SeawallError
from moderation.labels import Service
from moderation.models.card import Card
from moderation.policy import flagged_from
from moderation.posts import ModerateResult, TextFeature
from moderation.preprocess.language import UNDETERMINED
from moderation.topology import Topology
from serve.compat.labels import trained_languages
from serve.context import GatewayContext
from serve.errors import QueueFullError
from serve.http.problems import Problem, problem_of
from serve.posts.cases import TEXT_SERVICES
from serve.posts.moderator import Moderator
from serve.posts.texts import answers_needed

logger = logging.getLogger("ray.serve")

_ANCESTORS = 100
"""Cards that are followed back from a retrained model."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """What a model says of one label.

    Attributes:
        confidence: in [0, 1].
        flagged: whether it reaches the policy's threshold for the language; None: the policy has no rule for the label.
        languages: in which the model learned the label.
        language: in which it was judged; `*`: it is no text.
    """

    confidence: float
    flagged: bool | None
    languages: tuple[str, ...]
    language: str

    @property
    def gravity(self) -> tuple[bool, float, bool]:
        """Orders what is said of one content: a flagged score is graver than any other."""
        return bool(self.flagged), self.confidence, self.language in self.languages


@dataclass(slots=True)
class TextScores:
    """One text, scored; or what a picture shows, which has no language. A label that no model scored is absent.

    Attributes:
        language: ISO 639, as told or detected; `und`: undetermined; None: it is no text.
        labels: what the models say.
        models: `variant@version` of those that scored.
    """

    language: str | None = "und"
    labels: dict[str, LabelScore] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)

    def add(self, said: Mapping[str, LabelScore]) -> None:
        """Add what is said of it in a language: of each label the surest counts, a flagged one first."""
        for label, score in said.items():
            if label not in self.labels or score.gravity > self.labels[label].gravity:
                self.labels[label] = score


def services_of(topology: Topology) -> dict[str, Service]:
    """The labels that some variant scores in texts, each with the service that it is asked of."""
    variants = [variant for variant in topology.variants.values() if variant.service in TEXT_SERVICES]
    return {label: variant.service for variant in variants for label in variant.labels}


async def score(
    context: GatewayContext,
    texts: Sequence[tuple[str, str | None]],
    labels: Collection[str],
    *,
    client: str | None = None,
) -> list[TextScores]:
    """Score texts in the groups that lists of texts share, recording nothing.

    Args:
        context: of the gateway.
        texts: each with its language; None: to be detected.
        labels: that are asked for, of `services_of`.
        client: who asks.

    Raises:
        Problem: 422, more characters than one request may have; 429, 503, too many wait.
        NoAnswerError: a model did not answer.
    """
    total, most = sum(len(text) for text, _ in texts), context.topology.gateway.max_total_characters
    if total > most:
        detail = f"the texts have {total} characters in all, spans and languages counted; the bound is {most}"
        raise Problem(422, detail, members={"bound": most})
    features = [TextFeature(id=str(index), text=text, language=told) for index, (text, told) in enumerate(texts)]
    services = services_of(context.topology)
    results = [TextScores() for _ in texts]
    known = Lineages(context)
    try:
        with answers_needed():
            for service in sorted({services[label] for label in labels}):
                answers = await context.moderator.judge.texts.read(service, features, client=client)
                for result, readings in zip(results, answers, strict=True):
                    await _add(result, readings, labels, known)
    except QueueFullError as error:
        raise problem_of(error) from error
    return results


async def _add(
    result: TextScores, readings: Sequence[ModerateResult], labels: Collection[str], known: Lineages
) -> None:
    result.language = readings[0].language
    for answer in readings:
        said = {item.label: item.confidence for item in answer.labels if item.label in labels}
        if said:  # else no variant took it, and no model is named
            result.add(await known.scores(answer.model, said, answer.language))
            result.models.add(answer.model)


class Lineages:
    """What is known of the models that answer one request: looked up once each.

    Args:
        context: of the gateway.
    """

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._cards: dict[str, list[Card]] = {}
        self._languages: dict[tuple[str, str], tuple[str, ...]] = {}

    async def scores(self, model: str, said: Mapping[str, float], language: str) -> dict[str, LabelScore]:
        """What a model said, held against the policy.

        Args:
            model: `variant@version`.
            said: confidence per label.
            language: whose threshold counts; `*`: that of all rows.

        Raises:
            SeawallError: the model's card cannot be had.
        """
        if model not in self._cards:
            self._cards[model] = await asyncio.to_thread(lineage, self._context.moderator, model)
        cards = self._cards[model]
        scores = {}
        for label, confidence in said.items():
            key = (model, label)
            if key not in self._languages:
                self._languages[key] = trained_languages(cards, label)
            flagged = _flagged(self._context.topology, cards[0], label, language, confidence)
            scores[label] = LabelScore(confidence, flagged, self._languages[key], language)
        return scores


def _flagged(topology: Topology, card: Card, label: str, language: str, confidence: float) -> bool | None:
    rule = topology.policy.rules("*").get(label)
    if rule is None:
        return None
    learned = language == UNDETERMINED or card.is_learned(label, language)
    lowest = flagged_from(card.curve(label, language), rule, learned=learned)
    return lowest is not None and confidence >= lowest


def lineage(moderator: Moderator, model: str) -> list[Card]:
    """The card of `variant@version`, and those of the versions that it was retrained from; blocking.

    Raises:
        SeawallError: the first one cannot be had. Of the others, those that can be are enough.
    """
    cards: list[Card] = []
    told: object = model
    while isinstance(told, str) and len(cards) < _ANCESTORS:
        variant, _, version = told.rpartition("@")
        try:
            cards.append(moderator.card(variant, int(version)))
        except (SeawallError, ValueError):
            if not cards:
                raise
            logger.exception("the card of %s cannot be had", told)
            break
        told = cards[-1].about.get("parent")
    return cards
