"""OpenAI's moderation request and response, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Wire):
    """A text."""

    type: Literal["text"]
    text: str


class ImageUrl(_Wire):
    """Where an image is, or the image itself as a data URL."""

    url: str


class ImagePart(_Wire):
    """An image: a `data:` URL in base64, or one of a host that the configuration lists."""

    type: Literal["image_url"]
    image_url: ImageUrl


def _kind(value: Any) -> str:
    """Which of the forms of `input` it has, told by its first item, so that an error speaks of that form."""
    if not isinstance(value, list):
        return "text"
    return "parts" if value and isinstance(value[0], dict) else "texts"


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
_Text = Annotated[str, Tag("text")]
_Texts = Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("texts")]
_Parts = Annotated[list[Part], Field(min_length=1, fail_fast=True), Tag("parts")]


class ModerationRequest(_Wire):
    """The body of `POST /v1/moderations`."""

    input: Annotated[_Text | _Texts | _Parts, Discriminator(_kind)] = Field(
        description="A text; texts, each with a result of its own; or the parts of one content, with one result"
    )
    model: str | None = Field(default=None, description="Ignored: the answer names the models that scored")

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "omni-moderation-latest", "input": "you are wonderful"}]}
    )


class Remarks(_Wire):
    """What OpenAI's answer has no place for."""

    languages: list[str] = Field(description="Of the texts, as detected; `und`: undetermined")
    untrained: list[str] = Field(
        description="Categories scored in a language that the model never learned them in: trust those less"
    )
    not_scored: dict[str, str] = Field(
        default_factory=dict, description="Images of which something, or all, was not scored, and why"
    )


class ModerationResult(_Wire):
    """One content, scored. `null` is not zero: nothing here scores that category."""

    flagged: bool = Field(description="Whether a category is flagged, by the threshold of the policy")
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None]
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]
    seawall: Remarks


class ModerationResponse(_Wire):
    """The answer of `POST /v1/moderations`."""

    id: str
    model: str = Field(description="`variant@version` of the models that scored, with commas between")
    results: list[ModerationResult]
