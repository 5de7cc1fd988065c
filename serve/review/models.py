"""What people say, on the wire: reports, leases, verdicts, appeals."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from moderation.labels import BY_NAME
from moderation.media import MediaKind
from moderation.posts import Identifier, LanguageCode, Sha256, Standing, Wire

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=32)]
ReviewVerdict = Literal["remove", "allow"]


def known_label(name: str) -> str:
    """The name of a label.

    Raises:
        ValueError: it is none.
    """
    if name not in BY_NAME:
        raise ValueError(f"label {name!r} is not known; known are {', '.join(BY_NAME)}")
    return name


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class ReportIn(Wire):
    """The body of `POST /v1/posts/{post_id}/reports`."""

    model_config = _example(reporter_id="u-9", reason="insults me by name", label="abuse")

    reporter_id: Identifier
    reason: Reason
    label: LabelName | None = Field(default=None, description="What harm they see, if they say so")

    @field_validator("label")
    @classmethod
    def _known(cls, label: str | None) -> str | None:
        return None if label is None else known_label(label)


class ReportOut(Wire):
    """A recorded report."""

    report_id: int
    post_id: str
    content_version: int
    reporter_id: str
    reason: str
    label: str | None
    created_at: datetime
    review_queued: bool = Field(description="Whether the post waits for a person now")


class ReporterIn(Wire):
    """The body of `PUT /v1/reporters/{reporter_id}`."""

    model_config = _example(muted=True)

    muted: bool = Field(description="True: their reports are recorded, and weigh nothing")


class ReporterOut(Wire):
    """How reliable a reporter was."""

    reporter_id: str
    upheld: int
    dismissed: int
    reliability: float = Field(ge=0, le=1, description="Share of their reports that is expected to be upheld")
    muted: bool


class LeaseIn(Wire):
    """The body of `POST /v1/reviews:lease`."""

    model_config = _example(reviewer_id="mod-3", limit=10, languages=["en", "de"])

    reviewer_id: Identifier
    limit: int = Field(default=10, ge=1)
    labels: list[LabelName] | None = Field(
        default=None, min_length=1, fail_fast=True, description="Only items about one of these"
    )
    languages: list[LanguageCode] | None = Field(default=None, min_length=1, fail_fast=True)

    @field_validator("labels")
    @classmethod
    def _known(cls, labels: list[str] | None) -> list[str] | None:
        return None if labels is None else [known_label(name) for name in labels]


class ReportShown(Wire):
    """What a reporter said, as a reviewer sees it."""

    reason: str
    label: str | None


class MediumShown(Wire):
    """An image or video, as a reviewer gets it: its bytes are at `GET /v1/media/{sha256}`."""

    kind: MediaKind
    sha256: Sha256


class LeasedReview(Wire):
    """An item, leased. What the reviewer is not to know is left out: why it is asked, and what others said."""

    review_id: int
    post_id: str
    content_version: int
    text: str
    media: list[MediumShown] = Field(default_factory=list)
    author_id: str
    community: str
    region: str
    language: str
    labels: list[str] = Field(description="In question, most pressing first")
    reports: list[ReportShown]
    appeal: str | None = Field(description="What the author says against the removal; null: nobody appealed")
    priority: float = Field(description="P(harm) x severity x expected impressions")
    deadline: datetime
    leased_until: datetime


class LeaseOut(Wire):
    """The answer of `POST /v1/reviews:lease`, most pressing first."""

    reviews: list[LeasedReview]


class VerdictIn(Wire):
    """The body of `PUT /v1/reviews/{review_id}`."""

    model_config = _example(reviewer_id="mod-3", verdict="remove", labels={"abuse": True}, note="insult")

    reviewer_id: Identifier
    verdict: ReviewVerdict
    labels: dict[LabelName, bool] = Field(
        default_factory=dict, description="What it is; with `allow`, labels in question that are not named are false"
    )
    note: Annotated[str, StringConstraints(max_length=2000)] = ""

    @field_validator("labels")
    @classmethod
    def _known(cls, labels: dict[str, bool]) -> dict[str, bool]:
        return {known_label(name): said for name, said in labels.items()}

    @model_validator(mode="after")
    def _removal_has_a_reason(self) -> VerdictIn:
        if self.verdict == "remove" and not any(self.labels.values()):
            raise ValueError("a removal names at least one label that is true")
        return self


class VerdictOut(Wire):
    """A decided item."""

    review_id: int
    post_id: str
    content_version: int
    reviewer_id: str
    verdict: ReviewVerdict
    labels: dict[str, bool]
    note: str
    decided_at: datetime
    standing: Standing = Field(description="Of the post, now")


class AppealIn(Wire):
    """The body of `POST /v1/posts/{post_id}/appeals`."""

    model_config = _example(author_id="u-4711", reason="I was quoting what he said to me")

    author_id: Identifier = Field(description="Must be the post's author")
    reason: Reason


class AppealOut(Wire):
    """An appeal."""

    appeal_id: int
    post_id: str
    content_version: int
    status: Literal["open", "upheld", "rejected"]
    created_at: datetime
    decided_at: datetime | None
    action_id: int | None = Field(default=None, description="Of the removal that it is against")


class GoldenIn(Wire):
    """The body of `PUT /v1/golden/{post_id}`: the right verdict on a post."""

    model_config = _example(verdict="remove", labels={"abuse": True})

    verdict: ReviewVerdict
    labels: dict[LabelName, bool] = Field(min_length=1)

    @field_validator("labels")
    @classmethod
    def _known(cls, labels: dict[str, bool]) -> dict[str, bool]:
        return {known_label(name): said for name, said in labels.items()}


class Agreement(Wire):
    """How far two people who judged the same items agree."""

    items: int
    agreement: float | None = Field(description="Share of items with the same verdict; null: no items")
    kappa: float | None = Field(description="Cohen's; null where it is undefined, as when all verdicts are alike")


class ReviewerOut(Wire):
    """How good a reviewer is."""

    reviewer_id: str
    decided: int
    golden_decided: int
    golden_right: int
    sensitivity: float | None = Field(description="Share of golden removals that they removed; null: met none")
    specificity: float | None = Field(description="Share of golden allows that they allowed; null: met none")
