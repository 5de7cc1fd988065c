"""Items of the review queue, read once from their rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from moderation.review import Kind
from moderation.storage.people_tables import reviews
from serve.review.models import ReviewVerdict


@dataclass(frozen=True, slots=True)
class Review:
    """What a person is asked, and what they said; see `people_tables.reviews`.

    Attributes:
        review_id: its number.
        post_id: of the post in question.
        content_version: of the content in question.
        kind: why it is asked.
        of_review: the first look, of a second or third one.
        labels: names of the labels in question, most pressing first.
        language: of the content.
        region: of the post.
        community: of the post.
        p_harm: probability that the post is harmful, in [0, 1].
        severity: weight of the most pressing label.
        impressions: expected yet.
        priority: the product of the three.
        sampling_probability: with which it was drawn; None: it was not drawn at random.
        deadline: by when somebody should have decided it.
        status: dropped: something else took its place.
        leased_by: who had it last, and still has it before `leased_until`.
        leased_until: set with `leased_by`.
        decided_by: who decided it; this and what follows is None before.
        decided_at: when.
        verdict: what they decided.
        verdict_labels: what they said of labels.
        note: what else they said.
    """

    review_id: int
    post_id: str
    content_version: int
    kind: Kind
    of_review: int | None
    labels: list[str]
    language: str
    region: str
    community: str
    p_harm: float
    severity: float
    impressions: float
    priority: float
    sampling_probability: float | None
    deadline: datetime
    status: Literal["open", "decided", "dropped"]
    leased_by: str | None
    leased_until: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    verdict: ReviewVerdict | None
    verdict_labels: dict[str, bool] | None
    note: str | None


REVIEW = select(*(reviews.c[field.name] for field in fields(Review)))
"""The query that `read` takes, before it is said of which."""


def read(connection: Connection, query: Select[Any]) -> list[Review]:
    """The items that a query finds, which is `REVIEW` with conditions and an order."""
    return [Review(*row) for row in connection.execute(query)]


def read_one(connection: Connection, review_id: int) -> Review:
    """An item, which must be recorded."""
    (review,) = read(connection, REVIEW.where(reviews.c.review_id == review_id))
    return review
