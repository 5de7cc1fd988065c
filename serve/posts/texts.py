"""Texts of no post, in lists: scored by a service's champions, in queues of their own; nothing is recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from moderation.labels import Service
from moderation.posts import LabelConfidence, ModerateResult, TextFeature
from moderation.preprocess.features import Features
from moderation.topology import Topology
from serve.errors import NoAnswerError, QueueFullError
from serve.posts.answers import Score
from serve.posts.batcher import Grouper
from serve.posts.cases import TEXT_SERVICES
from serve.posts.readings import language_of
from serve.posts.work import deadline_of, work_of

logger = logging.getLogger("ray.serve")


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


class Texts:
    """Scores lists of texts.

    Args:
        topology: variants, routes, bounds.
        score: asks a classifier of texts.
        threads: for what blocks.
    """

    def __init__(self, topology: Topology, score: Score, threads: ThreadPoolExecutor) -> None:
        self._topology = topology
        self._score = score
        self._threads = threads
        # Made here, in nobody's context: one made in a request's would be cancelled with that.
        self._queues = {
            name: self._queue(name) for name, variant in topology.variants.items() if variant.service in TEXT_SERVICES
        }

    async def score(
        self, service: Service, features: Sequence[TextFeature], *, client: str | None = None
    ) -> list[ModerateResult]:
        """Score texts with a service's champions. Texts that none covers get no labels.

        A text whose language is unsure gets the surest confidence of those languages that it is likely in.

        Args:
            service: that is asked.
            features: the texts.
            client: who asks, as `serve.http.wire.client_of` tells clients apart; clients take turns.

        Raises:
            QueueFullError: too many texts wait, or for too long; of this client, as a ClientShareError.
        """
        return [_surest(results) for results in await self.read(service, features, client=client)]

    async def read(
        self, service: Service, features: Sequence[TextFeature], *, client: str | None = None
    ) -> list[list[ModerateResult]]:
        """Of each text of `score` a result in every language that it is likely in, that which is named first."""
        languages = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: [language_of(item.text, item.language) for item in features]
        )
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
            self._queues[variant].admit(client, characters, taken=True)
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
        version, scores, partly_read = await self._queues[variant].submit(
            (item.text, {"language": language}), taken=True, client=client
        )
        return ModerateResult(
            id=item.id,
            labels=[LabelConfidence(label=name, confidence=value) for name, value in scores.items()],
            language=language,
            model=f"{variant}@{version}",
            partly_read=partly_read,
        )

    def _queue(self, variant: str) -> Grouper[tuple[str, Features], tuple[int, Mapping[str, float], bool]]:
        """A queue: a group at a time, so that a long list leaves room for posts."""
        bounds = self._topology.gateway

        async def score(group: Sequence[tuple[str, Features]]) -> list[tuple[int, Mapping[str, float], bool]]:
            texts, known = [text for text, _ in group], [known for _, known in group]
            scored = await self._score(variant, "champion", texts, known, deadline_of(texts, bounds))
            return [(scored.version, row, place in scored.partly_read) for place, row in enumerate(scored.scores)]

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


def _surest(results: Sequence[ModerateResult]) -> ModerateResult:
    """One text's results in several languages -> one: of each label the surest, in the language that is named."""
    surest: dict[str, float] = {}
    for result in results:
        for said in result.labels:
            surest[said.label] = max(said.confidence, surest.get(said.label, 0.0))
    models = list(dict.fromkeys(result.model for result in results if result.labels))
    labels = [LabelConfidence(label=label, confidence=confidence) for label, confidence in surest.items()]
    return results[0].model_copy(update={"labels": labels, "model": models[0] if models else "none"})
