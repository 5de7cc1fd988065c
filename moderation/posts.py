"""What crosses the wire: posts in, decisions out, labels in. Pydantic models, so that OpenAPI tells the same."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from moderation.labels import BY_NAME, Mode, Service
from moderation.media import Box, Code, MediaKind

IDENTIFIER = r"^[A-Za-z0-9._~:/?#@!$&'()*+,;=-]+$"
"""What an id of a post or a person may hold: the characters of a URI (RFC 3986), so ids as other platforms have them, a
URI among them. In a path each of `/?#` is percent-encoded. Not `%`, by which that is done, nor `[]`, which terminals
and globs read."""
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


def _no_dots(name: str) -> str:
    if _DOTS.search(name):
        raise ValueError(f"{name!r} has a part that is . or .., which clients and proxies take out of a path")
    return name


Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=IDENTIFIER), AfterValidator(_no_dots)
]

LANGUAGE_TAG = r"^[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*$"
"""BCP 47, as far as a language of posts goes, with `_` for `-` as POSIX's locales have it."""
_RENAMED = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "sh": "sr"}
"""Codes that ISO 639 withdrew, and that Java and others still send."""


@lru_cache(maxsize=4096)
def shortest_code(tag: str) -> str:
    """The ISO 639 code of a language tag, of two letters where it has such, as models and routes name it.

    Script, region and whatever else a tag says are left out.

    Example:
        >>> [shortest_code(tag) for tag in ("en-US", "pt_BR", "zh-Hans-CN", "eng", "IW")]
        ['en', 'pt', 'zh', 'en', 'he']
    """
    code = re.split("[-_]", tag, maxsplit=1)[0].lower()
    if len(code) == 2:
        return _RENAMED.get(code, code)
    import langcodes  # late: nearly all codes have two letters

    found = [langcodes.standardize_tag(code, macro=macro) for macro in (False, True)]
    return next((short for short in found if len(short) == 2), code)


LanguageCode = Annotated[str, StringConstraints(max_length=64, pattern=LANGUAGE_TAG), AfterValidator(shortest_code)]
ToldLanguage = Annotated[LanguageCode | None, BeforeValidator(lambda told: None if told == "" else told)]
"""A language that may be left out, by an empty text too."""
Region = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2}$", to_upper=True)]


class Wire(BaseModel):
    """Base of what crosses the wire: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


def to_utc(value: datetime) -> datetime:
    """An aware time in UTC.

    Raises:
        ValueError: it is outside the years that UTC can tell.
    """
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value.isoformat()} is outside the years that UTC can tell") from error


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class MediaIn(Wire):
    """An image or a video of a post: exactly one of `data`, `uri` and `sha256`."""

    kind: MediaKind
    data: str | None = Field(default=None, description="The bytes, in base64 (RFC 4648, section 4)")
    uri: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, description="`s3://` or, to hosts that the configuration lists, `https://`"
    )
    sha256: Sha256 | None = Field(default=None, description="Of bytes that Seawall holds, as a decision named them")
    _work: int = PrivateAttr(default=1)

    @property
    def work(self) -> int:
        """How much it will be to decode it, in megapixels, as far as `weighed` told."""
        return self._work

    def weighed(self, work: int) -> Self:
        """The same, with how much work it will be: nothing that a client says."""
        self._work = work
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        told = [name for name in ("data", "uri", "sha256") if getattr(self, name) is not None]
        if len(told) != 1:
            raise ValueError(f"has {' and '.join(told) or 'neither data, uri nor sha256'}; it must have exactly one")
        return self


_A_POST: JsonDict = {
    "author_id": "u-4711",
    "community": "gardening",
    "region": "US",
    "language": "en",
    "created_at": "2026-11-24T09:30:00Z",
    "text": "My tomatoes finally turned red, thank you all!",
    "author": {"age_days": 812},
}


class PostIn(Wire):
    """The body of `PUT /v1/posts/{post_id}`."""

    author_id: Identifier
    community: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    region: Region = Field(description="ISO 3166-1 alpha-2, kept in capitals")
    language: ToldLanguage = Field(
        default=None,
        description="ISO 639 or BCP 47, as `en` or `en-US`, kept as the ISO 639 code, with two letters where it has "
        "such; detected where absent, empty or undetermined",
    )
    created_at: AwareDatetime = Field(description="When the post was written or last edited, with its offset from UTC")
    text: str
    media: list[MediaIn] = Field(
        default_factory=list,
        max_length=100,
        fail_fast=True,
        description="Images and videos, in the order they are shown",
    )
    author: dict[str, float | bool | str | None] = Field(
        default_factory=dict, max_length=50, description="Profile features that the platform knows, logged as told"
    )

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_A_POST]})

    @field_validator("created_at")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return to_utc(value)

    def content_hash(self) -> str:
        """SHA-256 of the content: not of the time, nor of what is known of its author, so that a repeat is known.

        Media count by their bytes, whichever way those came: each must have its `sha256` by now.
        """
        judged = self.model_dump(mode="json", exclude={"created_at", "author", "post_id"})
        judged["media"] = [{"kind": medium.kind, "sha256": medium.sha256} for medium in self.media]
        return hashlib.sha256(json.dumps(judged, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class BatchPost(PostIn):
    """A line of `POST /v1/posts:batch`: a post with its id."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"post_id": "p-1", **_A_POST}]})

    post_id: Identifier


HeldBack = Literal["untrained", "unproven", "quotation"]
"""Why a label neither removes nor hides a post, whatever its score."""
_HELD_BACK = (
    "Why the label neither removes nor hides the post, whatever its score. untrained: the model did not learn it in "
    "the language; unproven: too few rows show how well it works there; quotation: some of the words are quoted, and "
    "the author's own do not reach as far"
)


class PartDecision(Wire):
    """What one part of a post comes to for one label."""

    service: Service = Field(description="`text` also judges what is written in an image")
    media: int | None = Field(default=None, ge=0, description="Index of the medium; null: the post's own text")
    language: str | None = Field(default=None, description="In which a text was judged")
    own_words: bool = Field(default=False, description="True: the text without what it quotes")
    status: Literal["scored", "not_scored", "failed"]
    score: float | None = Field(default=None, ge=0, le=1)
    threshold: float | None = Field(default=None, ge=0)
    flagged: bool = False
    reason: str | None = None
    held_back: HeldBack | None = None
    partly_read: bool = Field(default=False, description="True: it is too long to be read whole, and may hold more")


class Evidence(Wire):
    """Where in a post's media a label was seen."""

    media: int = Field(ge=0, description="Index of the medium")
    t: float | None = Field(default=None, ge=0, description="Seconds from its beginning; null: a still picture")
    label: str
    score: float = Field(ge=0, le=1)
    box: Box | None = Field(default=None, description="Left, top, right, bottom, as shares of width and height")
    text: str | None = Field(default=None, description="What is written there, where that was judged")


class MediaDecision(Wire):
    """What became of one medium."""

    kind: MediaKind
    sha256: Sha256
    status: Literal["scored", "not_scored", "failed"]
    reason: str | None = Field(default=None, description="Why it was not scored")
    format: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    perceptual_hash: str | None = Field(default=None, description="PDQ of the first picture, in hexadecimal")
    text: str | None = Field(default=None, description="What is written in it, as far as it could be read")
    looked_at: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of its time that shows what was looked at, or what is much like it; null: a still picture",
    )
    not_looked_at: list[tuple[float, float]] = Field(
        default_factory=list, description="When it shows something else, from and to in seconds; the longest of these"
    )
    text_not_read: list[float] = Field(
        default_factory=list,
        description="Seconds at which it was looked at, and what is written there was not read",
    )


class LabelDecision(Wire):
    """One label of a decision. `null` is not zero: a score is null unless a model gave it."""

    status: Literal["scored", "not_scored", "failed"]
    score: float | None = Field(default=None, ge=0, le=1)
    threshold: float | None = Field(default=None, ge=0, description="null: no threshold meets the objective")
    remove_threshold: float | None = Field(
        default=None, ge=0, description="From which the post is removed without a person; null: never"
    )
    flagged: bool = False
    input_types: list[str] = Field(default_factory=list)
    objective: str | None = None
    reason: str | None = Field(default=None, description="Why there is no score")
    language: str | None = Field(default=None, description="In which a text was judged; null: no text was")
    in_training: bool | None = Field(
        default=None, description="Whether the model learned this label in that language; null: no text was judged"
    )
    held_back: HeldBack | None = Field(default=None, description=_HELD_BACK)
    partly_read: bool = Field(
        default=False, description="True: some part of the post is too long to be read whole, and may hold more"
    )
    parts: list[PartDecision] = Field(
        default_factory=list,
        description="Of a post with media, with a quotation, or in a language that is unsure: the surest part decides",
    )


class LanguageDecision(Wire):
    """What language the post was judged in."""

    code: str
    confidence: float = Field(ge=0, le=1)
    in_training: bool = Field(description="False: the model was not trained on this language; trust it less")
    likely: list[str] = Field(
        default_factory=list, description="Where that is unsure: languages in which the text was judged as well"
    )


class LinkDecision(Wire):
    """A link of the post."""

    url: str = Field(description="As written")
    domain: str = Field(description="The registered domain; the whole host where it has no known public suffix")
    verdict: Literal["blocked", "suspicious", "shortener", "external_video", "unlisted"] = Field(
        description="The gravest that holds. Blocked, suspicious and, unless configured otherwise, shortener queue the "
        "post; an external video is not analysed; of an unlisted link nothing is known"
    )
    reasons: list[str] = Field(default_factory=list, description="The gravest first")


class ReviewDecision(Wire):
    """Whether a person looks at it, and until when."""

    queued: bool
    deadline: datetime | None = None
    reasons: list[str] = Field(default_factory=list)


class ExperimentArm(Wire):
    """Which arm of which experiment a service's variant judged the post in."""

    name: str
    arm: Literal["champion", "challenger"]


State = Literal["shown", "held", "removed"]
Actor = Literal["model", "review", "appeal", "fuse"]


class Standing(Wire):
    """How a post stands now."""

    state: State = Field(description="held: not shown until a person decides")
    actor: Actor | None = Field(default=None, description="Who acted last; null: nobody has, so it is shown")
    since: datetime | None = None
    content_version: int | None = Field(default=None, description="Of the content that was acted on")


class Decision(Wire):
    """The answer to a post.

    As recorded, or, of `GET` and of a repeated `PUT`, as it holds now: what people decided since then shows in
    `decision`, `review` and `standing`.
    """

    post_id: str
    content_version: int = Field(ge=1)
    decision: Literal["allow", "review", "remove"]
    mode: Mode
    degraded: bool = Field(description="True: some model that should have scored did not")
    labels: dict[str, LabelDecision]
    language: LanguageDecision
    links: list[LinkDecision]
    media: list[MediaDecision] = Field(default_factory=list)
    evidence: list[Evidence] = Field(default_factory=list, description="The surest first")
    review: ReviewDecision
    experiments: dict[Service, ExperimentArm] = Field(
        default_factory=dict, description="Per service whose variant is in one"
    )
    policy_version: str
    models: dict[str, str] = Field(description="Per service that scored, `variant@version`")
    decided_at: datetime
    latency_ms: float = Field(ge=0)
    exempt: bool = Field(default=False, description="True: restored on appeal, so no model acts on this content again")
    standing: Standing | None = Field(
        default=None, description="null: nobody has acted on the decision since it was made"
    )
    rejudges: int | None = Field(
        default=None,
        description="Content version of the decision on the same content whose place this one takes, as a model was "
        "away then; null: of none",
    )


class TextFeature(Wire):
    """One text to score."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    text: str
    language: ToldLanguage = None


class ModerateIn(Wire):
    """The body of `POST /v1/text/moderate` and of the services like it."""

    features: list[TextFeature] = Field(min_length=1, fail_fast=True)

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"features": [{"id": "1", "text": "you are wonderful", "language": "en"}]}]},
    )


class LabelConfidence(Wire):
    """One label and how sure the model is."""

    label: str
    confidence: float = Field(ge=0, le=1)


class ModerateResult(Wire):
    """One text, scored."""

    id: str
    labels: list[LabelConfidence]
    language: str
    model: str = Field(description="`variant@version`")
    partly_read: bool = Field(default=False, description="True: it is too long to be read whole, and may hold more")


class ModerateOut(Wire):
    """The answer of `POST /v1/text/moderate`, in the order of the request."""

    results: list[ModerateResult]


class MediaFeature(Wire):
    """One image or video to score: exactly one of `data` and `uri`."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    data: str | None = Field(default=None, description="The bytes, in base64 (RFC 4648, section 4)")
    uri: Annotated[str, StringConstraints(max_length=2048)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.data is None) == (self.uri is None):
            raise ValueError("must have exactly one of data and uri")
        return self


class ModerateMediaIn(Wire):
    """The body of `POST /v1/image/moderate` and `POST /v1/video/moderate`."""

    features: list[MediaFeature] = Field(min_length=1, max_length=1000, fail_fast=True)

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"features": [{"id": "1", "uri": "s3://uploads/2026/picture.jpg"}]}]},
    )


class MediaRefusal(Wire):
    """Why a medium was not scored."""

    code: Code | Literal["failed"]
    detail: str
    bound: float | None = None


class MediaResult(Wire):
    """One image or video, scored, or why it was not."""

    id: str
    labels: list[LabelConfidence] = Field(description="Those of what is written in it among them")
    model: str = Field(description="`variant@version`; `none`: no variant covers it, or it was not scored")
    evidence: list[Evidence] = Field(default_factory=list, description="`media` is 0")
    text: str | None = Field(default=None, description="What is written in it, as far as it could be read")
    unreadable: bool = Field(
        default=False, description="Text stands in it that could not be read: of that, nothing is said"
    )
    looked_at: float | None = Field(default=None, ge=0, le=1, description="As in a decision's `media`")
    not_looked_at: list[tuple[float, float]] = Field(default_factory=list)
    text_not_read: list[float] = Field(default_factory=list)
    problem: MediaRefusal | None = None


class ModerateMediaOut(Wire):
    """The answer of `POST /v1/image/moderate`, in the order of the request."""

    results: list[MediaResult]


class LabelIn(Wire):
    """One line of `POST /v1/labels`: what a person, or the platform, says of a post."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": "l-1",
                    "post_id": "p-1",
                    "labels": {"abuse": True},
                    "source": "platform",
                    "labelled_at": "2026-11-24T10:00:00Z",
                }
            ]
        },
    )

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(description="Idempotency key")
    post_id: Identifier
    content_version: int | None = Field(default=None, ge=1, description="The newest where absent")
    labels: dict[str, bool] = Field(min_length=1, description="An absent label is unknown, not false")
    source: Literal["review", "audit", "report", "appeal", "platform"]
    labelled_at: AwareDatetime
    sampling_probability: float | None = Field(
        default=None, gt=0, le=1, description="With which the post was drawn for labelling; null: not drawn at random"
    )

    @field_validator("labelled_at")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return to_utc(value)

    @field_validator("labels")
    @classmethod
    def _known(cls, labels: dict[str, bool]) -> dict[str, bool]:
        unknown = sorted(set(labels) - set(BY_NAME))
        if unknown:
            raise ValueError(f"label {unknown[0]!r} is not known; known are {', '.join(BY_NAME)}")
        return labels


class BatchLine(Wire):
    """A line of the answer of `POST /v1/posts:batch`, in the order of the request."""

    line: int = Field(ge=1, description="Of the request")
    post_id: str | None = Field(description="null: the line could not be read so far")
    status: int = Field(description="As `PUT /v1/posts/{post_id}` would have answered")
    replayed: bool = False
    decision: Decision | None = None
    problem: dict[str, object] | None = Field(default=None, description="RFC 9457, where the status is not 200")


class LabelLineError(Wire):
    """A line of labels that was not taken."""

    line: int = Field(ge=1)
    detail: str


class LabelsOut(Wire):
    """What became of the lines of `POST /v1/labels`."""

    accepted: int
    duplicates: int = Field(description="Lines whose id was recorded before with the same content")
    errors: list[LabelLineError]
