"""Regions x languages x services -> variants: what runs, read from deployments/*.yaml and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from moderation.errors import ConfigError
from moderation.fuse import FuseRules
from moderation.labels import BY_NAME, Service
from moderation.media import MediaRules
from moderation.policy import Policy
from moderation.preprocess.links import Blocklist, KnownDomains, LinkRules
from moderation.preprocess.links.blocklist import read_domains
from moderation.preprocess.links.check import EXECUTABLES, read_video_hosts
from moderation.review import ReviewRules
from moderation.settings import DEPLOYMENTS
from moderation.storage.online import Dimension
from moderation.yaml_files import read_yaml, validated

List = TypeVar("List")

GATEWAY = "gateway"
"""The Serve application that takes requests; a variant's has the variant's name."""
OUTBOX = "outbox"
"""The one that sends webhooks."""
CHALLENGER = "--challenger"
"""After the variant's name, the application of its challenger."""


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
    """What it is expected to score; the policy has a rule for each."""
    shipped: str
    """Model folder that becomes champion where none fits this release; relative to the topology file."""
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


_HOST = r"^(\*|(\*\.)?[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*)$"
_ORIGIN = r"^https?://[a-z0-9.:\[\]_-]+$"


class Gateway(_Scaled):
    """Bounds and resources of the gateway. A bound that is broken is told in the error."""

    target_ongoing_requests: float = Field(default=64.0, gt=0)
    """Requests that each replica is meant to have under way."""
    max_ongoing_requests: int = Field(default=1280, ge=1)
    """Requests that one replica holds at a time; beyond, 503 with Retry-After, but for `/healthz` and `/readyz`. With
    fewer than `max_waiting_posts` and two groups, single posts reach neither that bound nor a client's share."""
    max_queued_requests: int = Field(default=2048, ge=-1)
    """Requests that wait while a replica refuses others; beyond, Ray Serve answers 503 with Retry-After."""
    group_size: int = Field(default=64, ge=1, le=1024)
    """Posts that share one handle call and one commit."""
    max_waiting_posts: int = Field(default=1024, ge=1)
    """Posts that wait for a group; beyond, 503 with Retry-After. A batch may pass it once: it is taken whole."""
    client_share: float = Field(default=0.9, gt=0, le=1)
    """Of the requests under way, the bodies that come and the posts that wait, how large a share one client's may be;
    beyond, 429 with Retry-After, and others go on. A client is told by its `X-Api-Key` or `Authorization`, without
    either by its address. As with every bound here, each replica counts for itself."""
    max_wait_ms: float = Field(default=3000.0, gt=0)
    """How long a post, or a text to score, waits for a group. What would wait longer, by how fast the last groups were
    done, is refused when it comes, and what did when its turn comes: 503, or 429 where it is the client's own posts
    that are before it, with the time until those are done as Retry-After. A batch, and a list of texts, is taken
    whole."""
    group_characters: int = Field(default=16_000, ge=1)
    """Of the texts of one group; a longer text is a group of its own."""
    deadline_ms: float = Field(default=5000.0, gt=0)
    """A model that has not answered by then has failed for that group; a text longer than a group has as many times as
    long."""
    max_body_bytes: int = Field(default=1_000_000, ge=1024)
    """Of one request, where no other bound is named; beyond, 413."""
    max_text_characters: int = Field(default=40_000, ge=1)
    """Of one text; beyond, 422."""
    max_ahead_s: int = Field(default=300, ge=0)
    """How far a time that a client tells (`created_at`, `labelled_at`, `happened_at`) may be ahead of the gateway's
    clock; beyond, 422, or an error of its line. The newest counts, so what is dated ahead would keep out, or outrank,
    all that is said until then."""
    max_features: int = Field(default=1000, ge=1)
    """Of one request to a stateless service."""
    max_total_characters: int = Field(default=1_000_000, ge=1)
    """Of all texts of one request to a stateless service, a text and its spans each counted; beyond, 422."""
    max_batch_posts: int = Field(default=1000, ge=1)
    """Of one `POST /v1/posts:batch`; beyond, 413."""
    max_batch_body_bytes: int = Field(default=16_000_000, ge=1024)
    """Of one `POST /v1/posts:batch`, and of one request to a stateless service of texts; beyond, 413."""
    max_label_lines: int = Field(default=10_000, ge=1)
    """Of one `POST /v1/labels`."""
    max_spans: int = Field(default=64, ge=1, le=1000)
    """Parts of one text that are scored for `comments:analyze`; a text of more sentences is cut into fewer parts."""
    max_labels_body_bytes: int = Field(default=8_000_000, ge=1024)
    """Of one `POST /v1/labels`; beyond, 413."""
    max_exported_labels: int = Field(default=100_000, ge=1)
    """Of one `GET /v1/labels/export`; beyond, 422."""
    allowed_hosts: tuple[Annotated[str, StringConstraints(pattern=_HOST)], ...] = ()
    """Names that clients may call this service by in `Host`, such as `moderation.example.org` or `*.example.org`; `*`:
    any. Besides, it answers to `localhost`, to addresses and to the machine's own name; for another name 421. A name
    that somebody else owns may resolve to this machine, and then that one's pages would count as this service's."""
    allowed_origins: tuple[Annotated[str, StringConstraints(pattern=_ORIGIN)], ...] = ()
    """Origins, such as `https://console.example.org`, whose pages may change something here and read the answers, by
    CORS. From any other origin but the service's own, what changes something is refused, 403."""
    max_event_lines: int = Field(default=10_000, ge=1)
    """Of one `POST /v1/events`; beyond, 413."""
    max_events_body_bytes: int = Field(default=8_000_000, ge=1024)
    """Of one `POST /v1/events`; beyond, 413."""

    max_receiving: int = Field(default=1024, ge=1)
    """Bodies that one replica receives at a time. Beyond, the one that has been coming longest gives way, with 503 and
    Retry-After; where all have just begun, the next one does."""
    max_receiving_bytes: int = Field(default=256_000_000, ge=1024)
    """Of all bodies that are held in memory while they come; beyond, likewise."""
    max_uploading_bytes: int = Field(default=1_000_000_000, ge=1024)
    """Of all uploads while they go to the disk; beyond, likewise."""
    body_grace_s: float = Field(default=10.0, gt=0)
    """How long nothing may come of a body; beyond, 408. From then on `min_body_bytes_per_s` counts too."""
    min_body_bytes_per_s: int = Field(default=10_000, ge=1)
    """Of a body, on average and after `body_grace_s`, as long as it is waited for; below, 408."""

    @property
    def max_ongoing_a_client(self) -> int:
        """Requests of one client under way; at least 1."""
        return max(1, int(self.client_share * self.max_ongoing_requests))

    @property
    def max_receiving_a_client(self) -> int:
        """Bodies of one client that are received at a time; at least 1."""
        return max(1, int(self.client_share * self.max_receiving))

    @property
    def most_values(self) -> int:
        """JSON values of one body that is a list, at any depth."""
        return 1000 + 5 * self.max_features

    @property
    def max_waiting_a_client(self) -> int:
        """Posts of one client that wait for a group; at least 1."""
        return max(1, int(self.client_share * self.max_waiting_posts))


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


class Rejudge(_Strict):
    """How posts that were judged while a model was away are judged again."""

    every_s: float = Field(default=30.0, ge=0)
    """Seconds between two looks for such posts, by one replica of the gateway at a time; so long after a model failed a
    post that is sent again is answered as it was. 0: nothing is judged again, however often it is sent."""
    within_h: float = Field(default=24.0, gt=0, le=24 * 366)
    """Hours for which a decision is looked for. What is sent again is judged again whenever that is."""
    group_size: int = Field(default=16, ge=1, le=1024)
    """Posts that are judged again at a time."""


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


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"{text!r} is no address that starts with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError(f"{text!r} has a user, a password or a fragment; it must have none")
    return text


WebAddress = Annotated[str, AfterValidator(_web_address)]


class Webhook(_Strict):
    """An endpoint that is told what is done with posts; docs/outbox.md says what is sent."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    """Under which its deliveries are recorded: another name is another endpoint, and begins anew."""
    url: WebAddress
    """Where to; http or https. Redirects are not followed."""
    secret_env: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
    """Environment variable that holds the secret of the signature, of 16 characters at least."""
    after_action: int = Field(default=0, ge=0)
    """Actions up to this number are not sent: 0 sends all since the ledger began."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Requests under way at a time; one for each post at most."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """Of one attempt, from the connection to the reply's end."""
    max_attempts: int = Field(default=20, ge=1, le=1000)
    """After so many an action is a dead letter: listed, and sent again when someone says so."""
    first_retry_s: float = Field(default=10.0, gt=0)
    """Wait after the first failed attempt; it doubles with each, and half of it at most is cut off at random."""
    max_retry_s: float = Field(default=3600.0, gt=0)
    """Wait at most."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_retry_s < self.first_retry_s:
            raise ValueError(f"max_retry_s is {self.max_retry_s}, below first_retry_s, which is {self.first_retry_s}")
        return self


EEA = (
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE"),
    *("IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK"),
)
"""The European Economic Area, in ISO 3166-1 alpha-2: where the Transparency Database knows statements to hold."""


class Statements(_Strict):
    """What statements of reasons say of the platform; docs/outbox.md says where the rest comes from."""

    puid_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "seawall"
    """Of each statement's `puid`, before its action's number. No two ledgers of one platform may share it."""
    visibility: Literal["DECISION_VISIBILITY_CONTENT_REMOVED", "DECISION_VISIBILITY_CONTENT_DISABLED"] = (
        "DECISION_VISIBILITY_CONTENT_REMOVED"
    )
    """What the platform does with a removed post."""
    ground: Annotated[str, StringConstraints(min_length=1, max_length=500)] = "Terms of service: rules on content"
    """The part of the terms that a removal relies on (`incompatible_content_ground`)."""
    ground_url: WebAddress | None = None
    """Where that part can be read (`decision_ground_reference_url`)."""
    territorial_scope: tuple[str, ...] = EEA
    """Countries of the EU or EEA in which a removed post is not shown."""

    @model_validator(mode="after")
    def _in_europe(self) -> Self:
        strange = sorted(set(self.territorial_scope) - set(EEA))
        if strange or not self.territorial_scope:
            found = strange[0] if strange else "nothing"
            raise ValueError(f"territorial_scope has {found!r}; the database takes {', '.join(EEA)}")
        return self


_STATEMENTS = Statements()


_METRICS = Metrics()
_REJUDGE = Rejudge()
_MEDIA = MediaRules()


class _TopologyFile(_Strict):
    policy: str
    blocklist: str
    links: Links = Links()
    variants: dict[str, Variant] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)
    gateway: Gateway = Gateway()
    review: ReviewRules = ReviewRules()
    fuse: FuseRules = FuseRules()
    webhooks: tuple[Webhook, ...] = ()
    statements: Statements = _STATEMENTS
    metrics: Metrics = Metrics()
    rejudge: Rejudge = Rejudge()
    media: MediaRules = MediaRules()

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
            if name in (GATEWAY, OUTBOX) or CHALLENGER in name:
                taken = f"{GATEWAY!r} and {OUTBOX!r} are taken, and names with {CHALLENGER!r}"
                problem = f"{name!r} is what another application is called; {taken}"
                raise ConfigError(f"{path.name}: variants.{name}", problem)
            for label in variant.labels:
                if label not in BY_NAME:
                    problem = f"label {label!r} is unknown; known are {', '.join(BY_NAME)}"
                    raise ConfigError(f"{path.name}: variants.{name}.labels", problem)
        policy = Policy.load(path.parent / parsed.policy)
        for name, variant in parsed.variants.items():
            for label in variant.labels:
                if label not in policy.rules("*"):
                    problem = (
                        f"label {label!r} has no rule in {parsed.policy}: whatever its score, nothing would be done"
                    )
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
            review=parsed.review,
            fuse=parsed.fuse,
            policy=policy,
            blocklist=_list(Blocklist.load, path.parent / parsed.blocklist, f"{path.name}: blocklist"),
            links=parsed.links,
            link_rules=_link_rules(parsed.links, path),
            webhooks=parsed.webhooks,
            statements=parsed.statements,
            metrics=parsed.metrics,
            rejudge=parsed.rejudge,
            media=parsed.media,
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
