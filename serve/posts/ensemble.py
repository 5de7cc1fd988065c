"""The parts of a judged post: what each comes to for each label, and what the decision says of its media."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from moderation.labels import Service
from moderation.media import Failed, Found, Refused
from moderation.policy import Scored
from moderation.posts import Evidence, ExperimentArm, MediaDecision
from moderation.preprocess.features import Features
from moderation.storage.ledger import Scoring
from moderation.topology import Topology
from serve.errors import RefusedMediumError
from serve.posts.cases import TEXT_SERVICES, Ask, Case, Judged, Medium

EVEN = 0.5
"""The confidence at which the evidence is even; what is below it is no evidence of a harm."""

UNREADABLE = "unreadable_text"
"""Why a label is not scored where text stands that the reader of text cannot read."""


PARTLY_LOOKED_AT = "partly_looked_at"
"""Why a label is not scored of what a video, or an animation, shows and was not looked at."""
PARTLY_READ = "partly_read"
"""Why a label is not scored of what is written in pictures that were looked at and not read."""


def refused_medium(case: Case) -> RefusedMediumError | None:
    """The first medium that is refused, if any."""
    for index, medium in enumerate(case.media):
        if isinstance(medium.outcome, Refused):
            return RefusedMediumError(index, medium.outcome)
    return None


def scored_parts(case: Case, topology: Topology) -> dict[str, list[Scored]]:
    """What each asked variant was expected to score of each part of a post, and did or did not."""
    scored: dict[str, list[Scored]] = {}

    def add(label: str, part: Scored) -> None:
        scored.setdefault(label, []).append(part)

    for judged in case.judged:
        for label in topology.variant(judged.ask.variant).labels:
            add(label, _of_text(judged, label))
    for index, medium in enumerate(case.media):
        if medium.ask is None:
            continue
        for look in medium.looks:
            assert look.ask is not None  # as it was looked at
            for label in topology.variant(look.ask.variant).labels:
                add(label, _of_medium(look, index, label))
                if _is_partly_seen(look):
                    add(label, Scored(None, None, look.kind, index, look.kind, PARTLY_LOOKED_AT, failed=False))
        for label, part in _of_words(medium, index, case, topology):
            add(label, part)
    return scored


def _of_text(judged: Judged, label: str) -> Scored:
    reading, card = judged.reading, judged.card
    if card is None:
        reason = judged.error or "not scored"
        return Scored(None, None, judged.ask.service, reason=reason, language=reading.language, own=reading.own)
    score = judged.scores.get(label)
    return Scored(
        score,
        card.curve(label, reading.language),
        judged.ask.service,
        reason=None if score is not None else "no such output",
        language=reading.language,
        learned=card.is_learned(label, reading.language),
        proven=card.is_proven(label, reading.language),
        quotes=reading.quotes,
        own=reading.own,
        partly_read=judged.partly_read,
    )


def _of_medium(medium: Medium, index: int, label: str) -> Scored:
    if isinstance(medium.outcome, Refused):  # a second look: no video that is read here
        return Scored(None, None, medium.kind, index, medium.kind, medium.outcome.code, failed=False)
    if not isinstance(medium.outcome, Found) or medium.card is None:
        reason = medium.outcome.reason if isinstance(medium.outcome, Failed) else "not scored"
        return Scored(None, None, medium.kind, index, medium.kind, reason)
    score = medium.outcome.scores.get(label)
    missing = None if score is not None else "no such output"
    return Scored(score, medium.card.curve(label), medium.kind, index, medium.kind, missing)


def _of_words(medium: Medium, index: int, case: Case, topology: Topology) -> Iterator[tuple[str, Scored]]:
    """What is written in a medium, as the services of texts judge it, picture by picture."""
    if not isinstance(medium.outcome, Found):  # who knows what is written there
        reason = medium.outcome.reason if isinstance(medium.outcome, Failed) else "not scored"
        yield from _unjudged(medium, index, case, topology, reason, failed=True)
        return
    if medium.outcome.written is not None and medium.outcome.written.unreadable:
        yield from _unjudged(medium, index, case, topology, UNREADABLE, failed=False)
    if _is_partly_seen(medium):  # and what is written elsewhere was not read
        yield from _unjudged(medium, index, case, topology, PARTLY_LOOKED_AT, failed=False)
    elif unread(medium):
        yield from _unjudged(medium, index, case, topology, PARTLY_READ, failed=False)
    for words in medium.words:
        for judged in words.judged:
            for label in topology.variant(judged.ask.variant).labels:
                yield label, replace(_of_text(judged, label), media=index, input_type=medium.kind)


def _unjudged(
    medium: Medium, index: int, case: Case, topology: Topology, reason: str, *, failed: bool
) -> Iterator[tuple[str, Scored]]:
    """The labels that the services of texts would have scored of what is written in a medium."""
    for service in TEXT_SERVICES:
        variant = topology.variant_for(service, region=case.post.region, language=case.language.code)
        for label in () if variant is None else topology.variant(variant).labels:
            yield label, Scored(None, None, service, index, medium.kind, reason, failed)


def _is_partly_seen(medium: Medium) -> bool:
    """Whether a medium shows more than was looked at."""
    return isinstance(medium.outcome, Found) and medium.outcome.looked_at is not None and medium.outcome.looked_at < 1


def unread(medium: Medium) -> list[float]:
    """When a medium shows pictures that were looked at and not read, in seconds."""
    written = medium.outcome.written if isinstance(medium.outcome, Found) else None
    return [] if written is None else list(written.unread)


def partly_seen(case: Case, below: float) -> list[str]:
    """Why a person should look at media of which too little was looked at, or read; none where `below` is 0."""
    reasons: dict[str, None] = {}
    for index, medium in enumerate(case.media):
        for look in medium.looks:
            found = look.outcome
            if not isinstance(found, Found) or found.looked_at is None:
                continue
            if found.looked_at < below:
                reasons[f"media {index}: {found.looked_at:.0%} of it was looked at, less than {below:.0%}"] = None
            if found.written is not None and found.written.share < below:
                reasons[f"media {index}: {found.written.share:.0%} of it was read, less than {below:.0%}"] = None
    return list(reasons)


def media_decisions(media: Sequence[Medium]) -> list[MediaDecision]:
    """What became of each medium."""
    return [_media_decision(medium) for medium in media]


def _media_decision(medium: Medium) -> MediaDecision:
    shown = MediaDecision(kind=medium.kind, sha256=medium.sha256, status="not_scored", reason="no_model")
    if isinstance(medium.outcome, Failed):
        return shown.model_copy(update={"status": "failed", "reason": medium.outcome.reason})
    if not isinstance(medium.outcome, Found):
        return shown
    found = medium.outcome
    return MediaDecision(
        kind=medium.kind,
        sha256=medium.sha256,
        status="scored",
        format=found.format,
        bytes=found.size,
        width=found.width,
        height=found.height,
        seconds=found.seconds,
        perceptual_hash=found.perceptual_hash,
        text=text_in(medium),
        looked_at=found.looked_at,
        not_looked_at=list(found.unseen),
        text_not_read=unread(medium),
    )


def text_in(medium: Medium) -> str | None:
    """What is written in a medium, a line a line; None: nothing that could be read."""
    return "\n".join(words.words.text for words in medium.words) or None


def words_error(medium: Medium) -> str | None:
    """Why what is written in a medium was not judged, where it was not: it must not pass for harmless."""
    errors = (judged.error for words in medium.words for judged in words.judged if judged.error is not None)
    return next((f"what is written in it: {error}" for error in errors), None)


def evidence(media: Sequence[Medium]) -> list[Evidence]:
    """Where labels were seen in media, the surest first; what is less than even is no evidence."""
    found = [item for index, medium in enumerate(media) for item in _evidence(index, medium) if item.score >= EVEN]
    return sorted(found, key=lambda item: -item.score)


def _evidence(index: int, medium: Medium) -> Iterator[Evidence]:
    for look in medium.looks:
        for seen in look.outcome.seen if isinstance(look.outcome, Found) else ():
            yield Evidence(media=index, t=seen.t, label=seen.label, score=seen.score)
    for words in medium.words:
        for judged in words.judged:
            for label, score in judged.scores.items():
                place = words.words
                yield Evidence(media=index, t=place.t, label=label, score=score, box=place.box, text=place.text)


def scorings(case: Case) -> tuple[Scoring, ...]:
    """What each variant said of a post, as it is recorded: of its text, and of its images and videos together.

    What is written in a picture is no text of the author's: it counts for the decision, not for what drift is
    measured on. Nor do further readings of the text: a service's first is in the language that is logged.
    """
    said = [judged.scoring() for judged in _first_readings(case)]
    by_ask: dict[Ask, list[Medium]] = {}
    for look in (look for medium in case.media for look in medium.looks):
        if look.ask is not None:
            by_ask.setdefault(look.ask, []).append(look)
    for ask, media in by_ask.items():
        scores: dict[str, float] = {}
        for medium in media:
            if isinstance(medium.outcome, Found):
                for label, score in medium.outcome.scores.items():
                    scores[label] = max(score, scores.get(label, 0.0))
        version = next((medium.version for medium in media if isinstance(medium.outcome, Found)), None)
        features: Features = {f"score_{label}": score for label, score in scores.items()}
        said.append(Scoring(ask.service, ask.variant, version, ask.experiment, ask.arm, features))
    return tuple(said)


def _first_readings(case: Case) -> list[Judged]:
    """Of each service what it was asked first of the text."""
    first: dict[Service, Judged] = {}
    for judged in case.judged:
        first.setdefault(judged.ask.service, judged)
    return list(first.values())


def models(case: Case) -> dict[str, str]:
    """Per service that scored some part, `variant@version`."""
    return {ask.service: f"{ask.variant}@{version}" for ask, version in _answers(case) if version is not None}


def experiments(case: Case) -> dict[Service, ExperimentArm]:
    """Per service that was asked, the experiment that its variant is in."""
    return {
        ask.service: ExperimentArm(name=ask.experiment, arm=ask.arm)
        for ask, _ in _answers(case)
        if ask.experiment is not None
    }


def _answers(case: Case) -> Iterator[tuple[Ask, int | None]]:
    """Who was asked, and which version answered: what is written in media first, as the post's own text counts more."""
    for medium in case.media:
        for words in medium.words:
            yield from ((judged.ask, judged.version) for judged in words.judged)
        for look in medium.looks:
            if look.ask is not None:
                yield look.ask, look.version if isinstance(look.outcome, Found) else None
    yield from ((judged.ask, judged.version) for judged in (*case.judged, *_first_readings(case)))
