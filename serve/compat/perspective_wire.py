"""Perspective's messages, as pydantic models; the discovery document is made of them.

Names on the wire are in lowerCamelCase; like Google's own JSON, snake_case is taken too, and null is the same as
absent. The classes are called what Perspective's schemas are called.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SCORE_TYPES = ("SCORE_TYPE_UNSPECIFIED", "PROBABILITY", "STD_DEV_SCORE", "PERCENTILE", "RAW")
TEXT_TYPES = ("TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT", "HTML")
MAX_COMMUNITY_CHARACTERS = 128

# Enumerations are told in the schema and checked by hand: Perspective has errors of its own for them.
_ScoreType = Annotated[str | None, Field(default=None, json_schema_extra={"enum": list(SCORE_TYPES)})]
_TextType = Annotated[str | None, Field(default=None, json_schema_extra={"enum": list(TEXT_TYPES)})]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class TextEntry(_Message):
    """A text and its type."""

    text: str | None = Field(default=None, description="UTF-8")
    type: _TextType


class ArticleAndParentComment(_Message):
    """What a comment answers."""

    article: TextEntry | None = None
    parent_comment: TextEntry | None = None


class Context(_Message):
    """What a comment refers to: one of the two. Taken, checked and not read: no model makes use of it."""

    article_and_parent_comment: ArticleAndParentComment | None = None
    entries: list[TextEntry] | None = Field(default=None, fail_fast=True)


class AttributeParameters(_Message):
    """What is asked of one attribute."""

    score_type: _ScoreType
    score_threshold: _Number | None = Field(default=None, description="Scores below it are not returned")


class Score(_Message):
    """A score and its type."""

    type: _ScoreType
    value: _Number | None = Field(default=None, description="Of a PROBABILITY: in [0, 1]")


class SpanScore(_Message):
    """The score of a part of the text."""

    begin: int | None = Field(default=None, description="First UTF-16 code unit of the part, counted from 0")
    end: int | None = Field(default=None, description="The UTF-16 code unit after its last")
    score: Score | None = None


class AttributeScores(_Message):
    """What one attribute says of the text as a whole, and of its parts."""

    span_scores: list[SpanScore] | None = Field(default=None, fail_fast=True)
    summary_score: Score | None = None


class _CommentRequest(_Message):
    comment: TextEntry | None = None
    context: Context | None = None
    languages: list[str] | None = Field(
        default=None, fail_fast=True, description="ISO 639 or BCP 47; detected where absent"
    )
    client_token: str | None = Field(default=None, description="Comes back in the answer")
    session_id: str | None = None
    community_id: str | None = Field(default=None, description="At most 128 characters")
    do_not_store: bool | None = Field(default=None, description="true: nothing of the request is recorded")


class AnalyzeCommentRequest(_CommentRequest):
    """The body of `comments:analyze`. Nothing of it is recorded, with `doNotStore` or without."""

    requested_attributes: dict[str, AttributeParameters] | None = None
    span_annotations: bool | None = Field(default=None, description="true: a score for each sentence")
    drop_unsupported_attributes: bool | None = Field(
        default=None, description="true: what is not scored in the language is left out, and is no error"
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "comment": {"text": "What kind of idiot name is foo? Sorry, I like your name."},
                    "languages": ["en"],
                    "requestedAttributes": {"TOXICITY": {}},
                    "spanAnnotations": True,
                }
            ]
        }
    )


class AnalyzeCommentResponse(_Message):
    """The answer of `comments:analyze`."""

    attribute_scores: dict[str, AttributeScores]
    languages: list[str] = Field(description="Those of the request or, without any, the detected one")
    detected_languages: list[str] | None = None
    client_token: str | None = None


class SuggestCommentScoreRequest(_CommentRequest):
    """The body of `comments:suggestscore`."""

    attribute_scores: dict[str, AttributeScores] | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "comment": {"text": "Get busy living, or get busy dying."},
                    "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}},
                    "communityId": "movies",
                    "clientToken": "comment-53922",
                }
            ]
        }
    )


class SuggestCommentScoreResponse(_Message):
    """The answer of `comments:suggestscore`."""

    client_token: str | None = None
    detected_languages: list[str] | None = None
    requested_languages: list[str] | None = None


def reply_of(message: _Message) -> dict[str, Any]:
    """A message as it is sent: what is unset is absent."""
    return message.model_dump(by_alias=True, exclude_none=True)
