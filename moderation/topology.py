"""Regions x languages x services -> variants: what runs, read from deployments/*.yaml and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, model_validator

from moderation.errors import ConfigError
from moderation.labels import BY_NAME, Service
from moderation.media import MediaRules
from moderation.policy import Policy
from moderation.preprocess.links import Blocklist, KnownDomains, LinkRules
from moderation.preprocess.links.blocklist import read_domains
from moderation.preprocess.links.check import read_video_hosts
from moderation.review import ReviewRules
from moderation.sections import (
    Compat,
    DriftRules,
    FuseRules,
    Gateway,
    Links,
    Metrics,
    Rejudge,
    RetrainRules,
    Statements,
    Webhook,
)
from moderation.settings import DEPLOYMENTS
from moderation.variants import Route, Strict, Variant
from moderation.yaml_files import read_yaml, validated

List = TypeVar("List")
GATEWAY = "gateway"
"""The Serve application that takes requests; a variant's has the variant's name."""
OUTBOX = "outbox"
"""The one that sends webhooks."""
CHALLENGER = "--challenger"
"""After the variant's name, the application of its challenger."""


_STATEMENTS = Statements()
_METRICS = Metrics()
_REJUDGE = Rejudge()
_MEDIA = MediaRules()
_DRIFT = DriftRules()
_RETRAIN = RetrainRules()
_COMPAT = Compat()


class TopologyFile(Strict):
    """A topology file as operators write it; `Topology` is what it comes to. docs/configuration.md is made of it."""

    policy: str
    """Policy file, relative to this one: what is done about a score."""
    blocklist: str
    """File of domains that send a post to review, one a line, relative to this one; read again when it changes."""
    links: Links = Links()
    variants: dict[str, Variant] = Field(min_length=1)
    """Models in service, each under a name of its own."""
    routes: tuple[Route, ...] = Field(min_length=1)
    """The first route that fits a service decides; where none fits, nothing is scored."""
    gateway: Gateway = Gateway()
    review: ReviewRules = ReviewRules()
    fuse: FuseRules = FuseRules()
    compat: Compat = Compat()
    webhooks: tuple[Webhook, ...] = ()
    """Endpoints that are told what is done with posts."""
    statements: Statements = _STATEMENTS
    metrics: Metrics = Metrics()
    rejudge: Rejudge = Rejudge()
    media: MediaRules = MediaRules()
    drift: DriftRules = DriftRules()
    retrain: RetrainRules = RetrainRules()

    @model_validator(mode="after")
    def _own_names(self) -> Self:
        names = [webhook.name for webhook in self.webhooks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"webhooks has {twice[0]!r} twice; a name is one endpoint's")
        return self


@dataclass(frozen=True, slots=True)
class Topology:
    """A topology file, read and checked, with the policy, the blocklist and the lists of domains that it names."""

    path: Path
    variants: dict[str, Variant]
    routes: tuple[Route, ...]
    gateway: Gateway
    review: ReviewRules
    fuse: FuseRules
    policy: Policy
    blocklist: Blocklist
    links: Links
    link_rules: LinkRules
    webhooks: tuple[Webhook, ...] = ()
    statements: Statements = _STATEMENTS
    metrics: Metrics = _METRICS
    rejudge: Rejudge = _REJUDGE
    media: MediaRules = _MEDIA
    drift: DriftRules = _DRIFT
    retrain: RetrainRules = _RETRAIN
    compat: Compat = _COMPAT

    @classmethod
    def load(cls, path: Path) -> Topology:
        """Read a topology.

        Raises:
            ConfigError: the file, its policy, its blocklist or a list of domains cannot be read, or a field is wrong;
                names the path.
        """
        raw, _ = read_yaml(path)
        parsed = validated(TopologyFile, raw, path)
        _check_variants(parsed, path.name)
        policy = Policy.load(path.parent / parsed.policy)
        _check_rules(parsed, policy, path.name)
        _check_routes(parsed, path.name)
        return cls(
            path=path,
            variants=parsed.variants,
            routes=parsed.routes,
            gateway=parsed.gateway,
            review=parsed.review,
            fuse=parsed.fuse,
            compat=parsed.compat,
            policy=policy,
            blocklist=_list(Blocklist.load, path.parent / parsed.blocklist, f"{path.name}: blocklist"),
            links=parsed.links,
            link_rules=_link_rules(parsed.links, path),
            webhooks=parsed.webhooks,
            statements=parsed.statements,
            metrics=parsed.metrics,
            rejudge=parsed.rejudge,
            media=parsed.media,
            drift=parsed.drift,
            retrain=parsed.retrain,
        )

    def variant_for(self, service: Service, *, region: str, language: str) -> str | None:
        """Name of the variant that answers a service for such a post; None: nothing does.

        Example:
            >>> topology = Topology.load(DEPLOYMENTS / "regions.yaml")
            >>> topology.variant_for("text", region="AT", language="de")
            'text-de'
            >>> topology.variant_for("text", region="US", language="de")
            'text-multi'
            >>> topology.variant_for("misinformation", region="AT", language="de") is None
            True
        """
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


def _check_variants(parsed: TopologyFile, file: str) -> None:
    for name, variant in parsed.variants.items():
        if name in (GATEWAY, OUTBOX) or CHALLENGER in name:
            taken = f"{GATEWAY!r} and {OUTBOX!r} are taken, and names with {CHALLENGER!r}"
            raise ConfigError(f"{file}: variants.{name}", f"{name!r} is what another application is called; {taken}")
        for label in variant.labels:
            if label not in BY_NAME:
                problem = f"label {label!r} is unknown; known are {', '.join(BY_NAME)}"
                raise ConfigError(f"{file}: variants.{name}.labels", problem)


def _check_rules(parsed: TopologyFile, policy: Policy, file: str) -> None:
    for name, variant in parsed.variants.items():
        for label in variant.labels:
            if label not in policy.rules("*"):
                problem = f"label {label!r} has no rule in {parsed.policy}: whatever its score, nothing would be done"
                raise ConfigError(f"{file}: variants.{name}.labels", problem)


def _check_routes(parsed: TopologyFile, file: str) -> None:
    for index, route in enumerate(parsed.routes):
        target = parsed.variants.get(route.variant)
        if target is None or target.service != route.service:
            known = ", ".join(n for n, v in parsed.variants.items() if v.service == route.service) or "none"
            problem = f"{route.variant!r} is no {route.service} variant; those are: {known}"
            raise ConfigError(f"{file}: routes.{index}.variant", problem)


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
