"""Regions x languages x modalities -> variants: what runs, read from deployments/*.yaml and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from moderation.errors import ConfigError
from moderation.labels import BY_NAME, Modality
from moderation.policy import Policy, read_yaml, validated
from moderation.preprocess.links import Blocklist


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Variant(_Strict):
    """One model in service, with a name of its own in the registry."""

    modality: Modality
    """What it reads."""
    labels: tuple[str, ...] = Field(min_length=1)
    """What it is expected to score."""
    shipped: str
    """Model folder that becomes version 1 where the registry has none; relative to the topology file."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas of its classifier."""
    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray sets aside for each replica."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray sets aside for each replica."""
    max_ongoing_requests: int = Field(default=16, ge=1)
    """Groups that one replica holds at a time."""


class Route(_Strict):
    """Which posts go to a variant; `*` fits everything."""

    modality: Modality
    """Part of the post."""
    regions: tuple[str, ...] = Field(min_length=1)
    """ISO 3166-1 alpha-2 codes."""
    languages: tuple[str, ...] = Field(min_length=1)
    """ISO 639 codes, `und` where undetermined."""
    variant: str
    """Name under `variants`."""

    def fits(self, modality: Modality, region: str, language: str) -> bool:
        """Whether a post's part goes this way."""
        return (
            self.modality == modality
            and ("*" in self.regions or region in self.regions)
            and ("*" in self.languages or language in self.languages)
        )


class Gateway(_Strict):
    """Bounds and resources of the gateway. A bound that is broken is told in the error."""

    replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas of the gateway."""
    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray sets aside for each replica."""
    max_ongoing_requests: int = Field(default=512, ge=1)
    """Requests that one replica holds at a time; beyond, Ray Serve queues."""
    max_queued_requests: int = Field(default=2048, ge=-1)
    """Requests that wait before a replica is free; beyond, 503."""
    group_size: int = Field(default=64, ge=1, le=1024)
    """Posts that share one handle call and one commit."""
    max_waiting_posts: int = Field(default=1024, ge=1)
    """Posts that wait for a group; beyond, 503 with Retry-After."""
    deadline_ms: float = Field(default=5000.0, gt=0)
    """A model that has not answered by then has failed for that post."""
    max_body_bytes: int = Field(default=1_000_000, ge=1024)
    """Of one request; beyond, 413."""
    max_text_characters: int = Field(default=40_000, ge=1)
    """Of one text; beyond, 422."""
    max_features: int = Field(default=1000, ge=1)
    """Of one `POST /v1/text/moderate`."""
    max_label_lines: int = Field(default=10_000, ge=1)
    """Of one `POST /v1/labels`."""
    max_labels_body_bytes: int = Field(default=8_000_000, ge=1024)
    """Of one `POST /v1/labels`; beyond, 413."""


class _TopologyFile(_Strict):
    policy: str
    blocklist: str
    variants: dict[str, Variant] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)
    gateway: Gateway = Gateway()


@dataclass(frozen=True, slots=True)
class Topology:
    """A topology file, read and checked, with the policy and the blocklist that it names."""

    path: Path
    variants: dict[str, Variant]
    routes: tuple[Route, ...]
    gateway: Gateway
    policy: Policy
    blocklist: Blocklist

    @classmethod
    def load(cls, path: Path) -> Topology:
        """Read a topology.

        Raises:
            ConfigError: the file, its policy or its blocklist cannot be read, or a field is wrong; names the path.
        """
        raw, _ = read_yaml(path)
        parsed = validated(_TopologyFile, raw, path)
        for name, variant in parsed.variants.items():
            for label in variant.labels:
                if label not in BY_NAME:
                    problem = f"label {label!r} is unknown; known are {', '.join(BY_NAME)}"
                    raise ConfigError(f"{path.name}: variants.{name}.labels", problem)
        for index, route in enumerate(parsed.routes):
            target = parsed.variants.get(route.variant)
            if target is None or target.modality != route.modality:
                known = ", ".join(n for n, v in parsed.variants.items() if v.modality == route.modality) or "none"
                problem = f"{route.variant!r} is no {route.modality} variant; those are: {known}"
                raise ConfigError(f"{path.name}: routes.{index}.variant", problem)
        try:
            blocklist = Blocklist.load(path.parent / parsed.blocklist)
        except OSError as error:
            raise ConfigError(f"{path.name}: blocklist", str(error)) from error
        return cls(
            path=path,
            variants=parsed.variants,
            routes=parsed.routes,
            gateway=parsed.gateway,
            policy=Policy.load(path.parent / parsed.policy),
            blocklist=blocklist,
        )

    def variant_for(self, modality: Modality, *, region: str, language: str) -> str | None:
        """Name of the variant that judges such a part of a post; None: nothing does."""
        for route in self.routes:
            if route.fits(modality, region, language):
                return route.variant
        return None

    def variant(self, name: str) -> Variant:
        """A variant by name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.variants:
            raise ConfigError(
                f"{self.path.name}: variants", f"no variant {name!r}; there are {', '.join(self.variants)}"
            )
        return self.variants[name]

    def shipped_folder(self, name: str) -> Path:
        """The model folder that a variant ships with."""
        return self.path.parent / self.variant(name).shipped
