"""A post, as it is put to the models and as they answer: who was asked of which part of it, and what came back.

All of it is frozen: what is asked is made first, and each step makes new values that hold the answers as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moderation.labels import Service
from moderation.media import Failed, Found, MediaKind, Refused, Words
from moderation.models.card import Card
from moderation.posts import PostIn
from moderation.preprocess.features import Features, scored_features
from moderation.preprocess.language import Language
from moderation.storage.ledger import Scoring
from serve.experiments.split import Arm
from serve.posts.readings import TextReading

TEXT_SERVICES: tuple[Service, ...] = ("text", "misinformation")
"""What the text of a post is put to."""


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
    reading: TextReading
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


@dataclass(frozen=True, slots=True)
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
    words: tuple[JudgedWords, ...] = ()
    moving: Medium | None = None
    work: int = 1

    @property
    def looks(self) -> list[Medium]:
        """Every look at it: as what it was told, and as a video where it moves."""
        return [self] if self.moving is None else [self, self.moving]

    @property
    def is_animation(self) -> bool:
        """Whether an image is seen to move: what it shows over time no model of single pictures sees."""
        return self.kind == "image" and isinstance(self.outcome, Found) and self.outcome.seconds is not None


@dataclass(frozen=True, slots=True)
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
    language: Language
    features: Features
    readings: tuple[TextReading, ...] = ()
    judged: tuple[Judged, ...] = ()
    media: tuple[Medium, ...] = ()
