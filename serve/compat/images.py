"""Images in OpenAI's moderation: read from where they are, judged by what they show and say, and forgotten."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from moderation.media import Failed, Found, Refused
from moderation.posts import MediaFeature
from serve.compat.scoring import Lineages, TextScores
from serve.context import GatewayContext
from serve.posts.cases import Medium
from serve.posts.ensemble import UNREADABLE, words_error

_DATA = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


@dataclass(slots=True)
class ImageScores:
    """One image, scored.

    Attributes:
        scores: what it shows, and what each text in it says.
        missing: why something of it was not scored, or all of it; empty: all was.
        failed: whether that is no fault of the image, and may be otherwise a moment later.
    """

    scores: list[TextScores] = field(default_factory=list)
    missing: str = ""
    failed: bool = False


async def look_at(context: GatewayContext, urls: Mapping[str, str], labels: Collection[str]) -> dict[str, ImageScores]:
    """Look at images, recording nothing.

    Args:
        context: of the gateway.
        urls: by where they stand in the request: `data:` URLs in base64, or what `media.fetch` allows to be read.
        labels: that are asked for.

    Raises:
        Problem: 503, too many wait.
        SeawallError: a model's card cannot be had.
    """
    known = Lineages(context)
    with context.door.room_for(len(urls)):
        found = await asyncio.gather(*(_look(context, url, labels, known) for url in urls.values()))
    return dict(zip(urls, found, strict=True))


async def _look(context: GatewayContext, url: str, labels: Collection[str], known: Lineages) -> ImageScores:
    data = _DATA.match(url)
    try:
        feature = MediaFeature(id="image", data=url[data.end() :]) if data else MediaFeature(id="image", uri=url)
    except ValidationError as error:
        return ImageScores(missing=f"url: {error.errors()[0]['msg']}")
    async with context.door.lent(feature, "image") as ref:
        if isinstance(ref, Refused):
            return ImageScores(missing=ref.detail, failed=ref.passing)
        medium = await context.moderator.judge.look(ref)
    if isinstance(medium.outcome, Refused):
        return ImageScores(missing=medium.outcome.detail)
    if isinstance(medium.outcome, Failed):
        return ImageScores(missing=medium.outcome.reason, failed=True)
    if not isinstance(medium.outcome, Found) or medium.ask is None:
        return ImageScores(missing="no model of images is deployed")
    return ImageScores(await _scores(medium, medium.outcome, labels, known), _missing(medium, medium.outcome))


async def _scores(medium: Medium, shown: Found, labels: Collection[str], known: Lineages) -> list[TextScores]:
    assert medium.ask is not None
    said = {label: score for label, score in shown.scores.items() if label in labels}
    model = f"{medium.ask.variant}@{medium.version}"
    scores = [TextScores(None, await known.scores(model, said, "*"), {model} if said else set())]
    for words in medium.words:
        found = TextScores(words.language)
        for judged in words.judged:
            said = {label: score for label, score in judged.scores.items() if label in labels}
            if said:
                model = f"{judged.ask.variant}@{judged.version}"
                found.add(await known.scores(model, said, judged.reading.language))
                found.models.add(model)
        scores.append(found)
    return scores


def _missing(medium: Medium, shown: Found) -> str:
    error = words_error(medium)
    if error is not None:
        return error
    return UNREADABLE if shown.written is not None and shown.written.unreadable else ""
