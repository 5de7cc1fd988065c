"""What the public did with posts, as it crosses the wire: lines of `POST /v1/events`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from moderation.posts import Identifier, LabelLineError


class EventIn(BaseModel):
    """One line of `POST /v1/events`."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(description="Idempotency key")
    post_id: Identifier
    content_version: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="The one that stood when it happened, where absent"
    )
    kind: Literal["impression", "reaction", "deletion"]
    count: int = Field(default=1, ge=1, le=1_000_000_000, description="How many; a deletion happens once")
    happened_at: AwareDatetime
    detail: dict[Annotated[str, StringConstraints(max_length=64)], float | bool | str | None] = Field(
        default_factory=dict, max_length=20, description="What else the platform knows of it, kept as told"
    )

    model_config = ConfigDict(
        extra="forbid",
        ser_json_inf_nan="null",
        json_schema_extra={
            "examples": [
                {
                    "id": "feed-7:2026-11-24T09:31",
                    "post_id": "p-1",
                    "kind": "impression",
                    "count": 40,
                    "happened_at": "2026-11-24T09:31:00Z",
                    "detail": {"surface": "feed"},
                }
            ]
        },
    )

    @field_validator("happened_at")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        try:
            return value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(f"{value.isoformat()} is outside the years that UTC can tell") from error

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.kind == "deletion" and self.count != 1:
            raise ValueError(f"count is {self.count}; a post is deleted once")
        return self


class EventsOut(BaseModel):
    """What became of the lines of `POST /v1/events`."""

    accepted: int
    duplicates: int = Field(description="Lines whose id was recorded before with the same content")
    errors: list[LabelLineError]
