"""Sections of a topology that one feature owns, where the feature stands on this floor and cannot be imported.

Each field is documented below it. Sections with rules that several rooms share stand beside those
rules: `review`, `media`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from moderation.preprocess.links.check import EXECUTABLES
from moderation.variants import Scaled, Strict

Dimension: TypeAlias = Literal["region", "language", "community", "label", "model_version"]
"""What online metrics can be divided by."""
Loss: TypeAlias = Literal["cross_entropy", "focal"]
"""What training makes small: binary cross-entropy a label, or focal loss (see `train.learner`)."""

_HOST = r"^(\*|(\*\.)?[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*)$"
_ORIGIN = r"^https?://[a-z0-9.:\[\]_-]+$"


class Gateway(Scaled):
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


class Metrics(Strict):
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


class Rejudge(Strict):
    """How posts that were judged while a model was away are judged again."""

    every_s: float = Field(default=30.0, ge=0)
    """Seconds between two looks for such posts, by one replica of the gateway at a time; so long after a model failed a
    post that is sent again is answered as it was. 0: nothing is judged again, however often it is sent."""
    within_h: float = Field(default=24.0, gt=0, le=24 * 366)
    """Hours for which a decision is looked for. What is sent again is judged again whenever that is."""
    group_size: int = Field(default=16, ge=1, le=1024)
    """Posts that are judged again at a time."""


class Links(Strict):
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


class Webhook(Strict):
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


class Statements(Strict):
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


class PerspectiveRules(Strict):
    """What Perspective's clients are answered."""

    unknown: Literal["omit", "refuse"] = "omit"
    """What becomes of an attribute of Perspective's that no model scores, or none in the request's languages. `omit`:
    it is left out and named in the header `Seawall-Omitted`, the others are scored; and where no language is named, one
    that was not learned is scored, too, and marked in `Seawall-Untrained`. `refuse`: the whole request is Perspective's
    error. Clients in the field read an error as a score of 0: refusing one attribute costs them the others."""


class Compat(Strict):
    """Routes for clients of other services."""

    perspective: PerspectiveRules = PerspectiveRules()
    """Of `comments:analyze`."""


class FuseRules(Strict):
    """When the fuse blows: section `fuse` of a topology."""

    window_minutes: int = Field(default=10, ge=1, le=1440)
    """Minutes whose removals are looked at."""
    baseline_minutes: int = Field(default=1440, ge=1, le=20_160)
    """Minutes before those that say what is expected."""
    min_posts: int = Field(default=10_000, ge=1)
    """With fewer posts than that in the window nothing is said."""
    min_baseline_posts: int = Field(default=10_000, ge=1)
    """With fewer posts than that in the baseline, the policy says what is expected."""
    ratio: float = Field(default=1.25, ge=1)
    """Removals may be that many times what is expected; beyond, by the whole bound, the fuse blows."""
    confidence: float = Field(default=0.9999, gt=0.5, lt=1)
    """Of the one-sided bound. It is asked every `check_s` of every label and region, so it must be high."""
    check_s: float = Field(default=5.0, ge=0.1)
    """Seconds between two looks."""

    @property
    def looks_back(self) -> timedelta:
        """How old counts still matter."""
        return timedelta(minutes=self.window_minutes + self.baseline_minutes)


class DriftRules(Strict):
    """When a variant's traffic is said to have drifted: section `drift` of a topology."""

    window_hours: float = Field(default=24.0, ge=0.01, le=24 * 366)
    """Hours of a window, where `--window-hours` asks for no others."""
    minimum_rows: int = Field(default=200, ge=1)
    """Posts below which a window says nothing, and becomes no reference."""
    numeric_method: Literal["wasserstein", "jensenshannon", "hellinger", "psi", "kl_div"] = "wasserstein"
    """Evidently's distance for numbers; `wasserstein` is told in standard deviations of the reference."""
    numeric_threshold: float = Field(default=0.2, gt=0)
    """From that distance on, a numeric column has drifted."""
    categorical_method: Literal["jensenshannon", "hellinger", "psi", "kl_div"] = "jensenshannon"
    """Evidently's distance for categories."""
    categorical_threshold: float = Field(default=0.1, gt=0)
    """From that distance on, a categorical column has drifted."""
    k: int = Field(default=2, ge=1)
    """An alert takes the same column drifted in so many windows ..."""
    n: int = Field(default=3, ge=1, le=1000)
    """... of the last so many that do not overlap; at least `k`."""
    new_word_authors: int = Field(default=5, ge=1)
    """Authors who must use a word that the reference lacks before an alert names it."""
    new_words: int = Field(default=50, ge=0, le=1000)
    """Words that an alert names, at most."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k is {self.k} and n is {self.n}; k windows of n take k <= n")
        return self

    @property
    def window(self) -> timedelta:
        """Length of a window."""
        return timedelta(hours=self.window_hours)


class GateRules(Strict):
    """What a retrained model must show before it may challenge the champion: `gate` in section `retrain`."""

    minimum_harmful: int = Field(default=20, ge=1)
    """Harmful holdout rows below which nothing is concluded."""
    minimum_harmless: int = Field(default=50, ge=1)
    """Harmless holdout rows, likewise."""
    minimum_authors: int = Field(default=5, ge=1)
    """Authors of the rows that a difference is about, below which its interval is not believed: where all of a few
    agree, drawing them anew shows no doubt at all."""
    precision_margin: float = Field(default=0.05, ge=0, le=1)
    """By how much the lower end of the precision difference may lie below 0."""
    minimum_slice: int = Field(default=10, ge=1)
    """Harmful holdout rows with words that the alert named as new."""
    anchor_margin: float = Field(default=0.05, ge=0, le=1)
    """By how much recall, and the rate of false positives, may become worse on the anchor texts."""


class RetrainRules(Strict):
    """How a variant is retrained, and what is asked of the result: section `retrain` of a topology."""

    loss: Loss | None = None
    """What training makes small, where `--loss` asks for nothing else; none: what the architecture is trained with."""
    holdout_authors: float = Field(default=0.4, gt=0, lt=1)
    """Share of authors of whom training never sees a row."""
    holdout_time: float = Field(default=0.25, gt=0, lt=1)
    """Share of the labelled texts, the newest ones, of which training never sees any."""
    validation_authors: float = Field(default=0.3, gt=0, lt=1)
    """Share of the training authors whose rows calibrate, and set thresholds, instead of training."""
    gate: GateRules = GateRules()
    """What a retrained model must show before it may challenge the champion."""
