"""Which models there are, and which posts go to which: sections `variants` and `routes` of a topology."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from moderation.labels import Service


class Strict(BaseModel):
    """A section of a topology: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Scaled(Strict):
    """How many replicas a deployment has."""

    replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas at least."""
    max_replicas: int | None = Field(default=None, ge=1, le=1000)
    """Replicas at most: Ray Serve adds some when they are busier than `target_ongoing_requests`. None: `replicas`."""
    target_ongoing_requests: float = Field(default=2.0, gt=0)
    """Requests that each replica is meant to have under way."""
    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray sets aside for each replica."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, below replicas, which is {self.replicas}")
        return self


class Variant(Scaled):
    """One model in service, with a name of its own in the registry."""

    service: Service
    """What it is asked."""
    labels: tuple[str, ...] = Field(min_length=1)
    """What it is expected to score; the policy has a rule for each."""
    shipped: str
    """Model folder that becomes champion where none fits this release; relative to the topology file."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads that the model computes with."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray sets aside for each replica."""
    max_ongoing_requests: int = Field(default=16, ge=1)
    """Groups that one replica holds at a time."""


class Route(Strict):
    """Which posts go to a variant; `*` fits everything."""

    service: Service
    """What is asked of a post."""
    regions: tuple[Annotated[str, StringConstraints(pattern=r"^([A-Z]{2}|\*)$")], ...] = Field(min_length=1)
    """ISO 3166-1 alpha-2 codes, in capitals."""
    languages: tuple[Annotated[str, StringConstraints(pattern=r"^([a-z]{2,3}|\*)$")], ...] = Field(min_length=1)
    """ISO 639 codes, in small letters; `und` where undetermined."""
    variant: str
    """Name under `variants`."""

    def fits(self, service: Service, region: str, language: str) -> bool:
        """Whether a post goes this way."""
        return (
            self.service == service
            and ("*" in self.regions or region in self.regions)
            and ("*" in self.languages or language in self.languages)
        )
