"""Regions x languages x services -> variants: what runs, read from deployments/*.yaml and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from moderation.errors import ConfigError
from moderation.labels import BY_NAME, Service
from moderation.policy import Policy, read_yaml, validated
from moderation.preprocess.links import Blocklist, KnownDomains, LinkRules
from moderation.preprocess.links.blocklist import read_domains
from moderation.preprocess.links.check import EXECUTABLES, read_video_hosts
from moderation.settings import DEPLOYMENTS
from moderation.storage.online import Dimension

List = TypeVar("List")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class _Scaled(_Strict):
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


class Variant(_Scaled):
    """One model in service, with a name of its own in the registry."""

    service: Service
    """What it is asked."""
    labels: tuple[str, ...] = Field(min_length=1)
    """What it is expected to score."""
    shipped: str
    """Model folder that becomes version 1 where the registry has none; relative to the topology file."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads that the model computes with."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray sets aside for each replica."""
    max_ongoing_requests: int = Field(default=16, ge=1)
    """Groups that one replica holds at a time."""


class Route(_Strict):
    """Which posts go to a variant; `*` fits everything."""

    service: Service
    """What is asked of a post."""
    regions: tuple[str, ...] = Field(min_length=1)
    """ISO 3166-1 alpha-2 codes."""
    languages: tuple[str, ...] = Field(min_length=1)
    """ISO 639 codes, `und` where undetermined."""
    variant: str
    """Name under `variants`."""

    def fits(self, service: Service, region: str, language: str) -> bool:
        """Whether a post goes this way."""
        return (
            self.service == service
            and ("*" in self.regions or region in self.regions)
            and ("*" in self.languages or language in self.languages)
        )


class Gateway(_Scaled):
    """Bounds and resources of the gateway. A bound that is broken is told in the error."""

    target_ongoing_requests: float = Field(default=64.0, gt=0)
    """Requests that each replica is meant to have under way."""
    max_ongoing_requests: int = Field(default=512, ge=1)
    """Requests that one replica holds at a time; beyond, Ray Serve queues."""
    max_queued_requests: int = Field(default=2048, ge=-1)
    """Requests that wait before a replica is free; beyond, 503."""
    group_size: int = Field(default=64, ge=1, le=1024)
    """Posts that share one handle call and one commit."""
    max_waiting_posts: int = Field(default=1024, ge=1)
    """Posts that wait for a group; beyond, 503 with Retry-After. A batch may pass it once: it is taken whole."""
    deadline_ms: float = Field(default=5000.0, gt=0)
    """A model that has not answered by then has failed for that post."""
    max_body_bytes: int = Field(default=1_000_000, ge=1024)
    """Of one request; beyond, 413."""
    max_text_characters: int = Field(default=40_000, ge=1)
    """Of one text; beyond, 422."""
    max_features: int = Field(default=1000, ge=1)
    """Of one request to a stateless service."""
    max_batch_posts: int = Field(default=1000, ge=1)
    """Of one `POST /v1/posts:batch`; beyond, 413."""
    max_batch_body_bytes: int = Field(default=16_000_000, ge=1024)
    """Of one `POST /v1/posts:batch`; beyond, 413."""
    max_label_lines: int = Field(default=10_000, ge=1)
    """Of one `POST /v1/labels`."""
    max_labels_body_bytes: int = Field(default=8_000_000, ge=1024)
    """Of one `POST /v1/labels`; beyond, 413."""
    max_event_lines: int = Field(default=10_000, ge=1)
    """Of one `POST /v1/events`; beyond, 413."""
    max_events_body_bytes: int = Field(default=8_000_000, ge=1024)
    """Of one `POST /v1/events`; beyond, 413."""


class Metrics(_Strict):
    """Bounds of the online metrics, and what of them Prometheus is told."""

    max_window_days: float = Field(default=92.0, gt=0, le=3660)
    """Of one `GET /v1/metrics/online`; beyond, 422."""
    max_groups: int = Field(default=1000, ge=1, le=100_000)
    """Of one `GET /v1/metrics/online`; beyond, 422."""
    golden_days: float = Field(default=30.0, gt=0, le=3660)
    """How far before a window's end golden items were judged that tell how often reviewers err."""
    least_golden: int = Field(default=30, ge=1)
    """Verdicts on harmful, and on harmless, golden items below which nothing is corrected by them."""
    refresh_s: float = Field(default=60.0, ge=0)
    """How often each replica of the gateway computes what Prometheus is told; 0: never."""
    window_hours: float = Field(default=24.0, gt=0, le=24 * 366)
    """The window that Prometheus is told of; it ends now."""
    series_by: tuple[Dimension, ...] = ("region", "language", "label", "model_version")
    """Dimensions of the series, each by itself. A community is a series too many where there are thousands."""


class Links(_Strict):
    """What links are checked against, beside the blocklist. A list that is not named is the one that ships."""

    well_known: str | None = None
    """File of domains that others imitate, relative to the topology file; none: `deployments/links/well-known.txt`."""
    shorteners: str | None = None
    """File of hosts that hide where a link leads; none: `deployments/links/shorteners.txt`."""
    video_hosts: str | None = None
    """File of hosts whose videos are not analysed; none: `deployments/links/video-hosts.txt`."""
    executables: tuple[str, ...] = EXECUTABLES
    """Endings of files that run when they are opened, in lower case and without the dot."""
    review_shorteners: bool = True
    """Whether a link to a shortener sends its post to review."""
    max_links: int = Field(default=20, ge=1, le=1000)
    """Links of one post that are examined; a post with more goes to review."""


class _TopologyFile(_Strict):
    policy: str
    blocklist: str
    links: Links = Links()
    variants: dict[str, Variant] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)
    gateway: Gateway = Gateway()
    metrics: Metrics = Metrics()


@dataclass(frozen=True, slots=True)
class Topology:
    """A topology file, read and checked, with the policy, the blocklist and the lists of domains that it names."""

    path: Path
    variants: dict[str, Variant]
    routes: tuple[Route, ...]
    gateway: Gateway
    policy: Policy
    blocklist: Blocklist
    links: Links
    link_rules: LinkRules
    metrics: Metrics

    @classmethod
    def load(cls, path: Path) -> Topology:
        """Read a topology.

        Raises:
            ConfigError: the file, its policy, its blocklist or a list of domains cannot be read, or a field is wrong;
                names the path.
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
            if target is None or target.service != route.service:
                known = ", ".join(n for n, v in parsed.variants.items() if v.service == route.service) or "none"
                problem = f"{route.variant!r} is no {route.service} variant; those are: {known}"
                raise ConfigError(f"{path.name}: routes.{index}.variant", problem)
        return cls(
            path=path,
            variants=parsed.variants,
            routes=parsed.routes,
            gateway=parsed.gateway,
            policy=Policy.load(path.parent / parsed.policy),
            blocklist=_list(Blocklist.load, path.parent / parsed.blocklist, f"{path.name}: blocklist"),
            links=parsed.links,
            link_rules=_link_rules(parsed.links, path),
            metrics=parsed.metrics,
        )

    def variant_for(self, service: Service, *, region: str, language: str) -> str | None:
        """Name of the variant that answers a service for such a post; None: nothing does."""
        for route in self.routes:
            if route.fits(service, region, language):
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


def _link_rules(links: Links, path: Path) -> LinkRules:
    def read(load: Callable[[Path], List], field: str, named: str | None, shipped: str) -> List:
        place = DEPLOYMENTS / "links" / shipped if named is None else path.parent / named
        return _list(load, place, f"{path.name}: links.{field}")

    return LinkRules(
        known=read(KnownDomains.load, "well_known", links.well_known, "well-known.txt"),
        shorteners=read(read_domains, "shorteners", links.shorteners, "shorteners.txt"),
        videos=read(read_video_hosts, "video_hosts", links.video_hosts, "video-hosts.txt"),
        executables=frozenset(links.executables),
        max_links=links.max_links,
    )


def _list(load: Callable[[Path], List], place: Path, where: str) -> List:
    try:
        return load(place)
    except (OSError, UnicodeError) as error:
        raise ConfigError(where, f"{place} cannot be read: {error}") from error
