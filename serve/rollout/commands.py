"""The commands of serving: up, down, status, moderate, promote, rollback."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Column, Table
from rich.text import Text

from moderation.console import (
    JsonOption,
    JudgedLabelOption,
    TopologyOption,
    VariantArgument,
    err,
    out,
    print_json,
    progress,
)
from moderation.context import Context, open_context
from moderation.errors import ServiceError
from moderation.running import LOOPBACK, Running, require
from moderation.settings import DEPLOYMENTS, Settings
from moderation.storage import drift, experiments, retraining
from moderation.storage.features import open_features, rebuild
from moderation.storage.ledger import now
from serve.outbox.sender import secrets_of
from serve.rollout import promotion, proxy, ray_cluster, serve_config
from serve.rollout.promotion import Progress
from serve.rollout.samples import forget

ExpectOption = Annotated[int | None, typer.Option(help="Version that must be champion now, else nothing is done.")]
_ANSWER_TIMEOUT_S = 300
"""Of one post: the topology's deadlines are what bounds an answer, this is for what hangs."""
_SHOWN = ("abuse", "hate", "misinformation")
_SHOWN_OF_MEDIA = ("nudity", "violence")
SAMPLES = DEPLOYMENTS / "samples" / "posts.jsonl"


def up(
    port: Annotated[int, typer.Option(help="Port for HTTP.", min=1, max=65535)] = 8000,
    detach: Annotated[bool, typer.Option("--detach", help="Return when ready, and leave it running.")] = False,
    host: Annotated[
        str | None, typer.Option(help="IP address to listen on; 0.0.0.0 or :: for all.", show_default=LOOPBACK)
    ] = None,
    behind_proxy: Annotated[
        str | None,
        typer.Option(help="Networks of proxies before it, with commas; forwarded headers of others are dropped."),
    ] = None,
    topology: TopologyOption = None,
) -> None:
    """Start Seawall: Ray, the registry, the models; show what it decides on sample posts; serve until Ctrl-C."""
    address = None if host is None else proxy.checked_host(host)
    trusted = None if behind_proxy is None else proxy.networks(behind_proxy)
    # SIGTERM ends a foreground service as Ctrl-C does: what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = Settings.from_environment()
    begun = time.monotonic()
    started: Running | None = None
    running: Running | None = None
    try:
        with progress("starting") as say, ray_cluster.starting(settings):
            context, running = open_context(topology)
            if running is None:
                secrets_of(context.topology.webhooks)  # before anything is started: its processes inherit them
                running = started = ray_cluster.start(
                    settings,
                    port=port,
                    host=address or LOOPBACK,
                    behind_proxy=trusted or (),
                    topology=context.topology.path,
                    progress=say,
                )
            elif _listens_elsewhere(running, port, address, trusted):
                raise ServiceError(
                    f"Seawall runs already, at {running.url}, host {running.host}, behind"
                    f" {', '.join(running.behind_proxy) or 'no proxy'}; `seawall down` ends it"
                )
            _deploy(context, running, say)
            if running is not started:
                ray_cluster.write_down(settings, replace(running, topology=str(context.topology.path.resolve())))
        _show_samples(running)
        elsewhere = "" if running.host == LOOPBACK else f" and on {running.host}"
        seconds = time.monotonic() - begun
        out.print(f"Seawall serves at [bold]{running.url}[/]{elsewhere} after {seconds:.0f} s; API at /docs")
        if detach:
            return
        err.print("Ctrl-C stops it.")
        while running.alive():
            time.sleep(0.5)
        raise ServiceError(f"Ray ended by itself; see {settings.run / 'ray.log'}")
    except BaseException as error:
        # Nothing half done: what this command started goes with it. What ran before is left as it was, but for a
        # Ctrl-C in the foreground.
        interrupted = isinstance(error, KeyboardInterrupt)
        ended = running if interrupted and not detach else started
        if ended is not None:
            with progress("stopping") as say:
                say("ending what was started")
                ray_cluster.stop(settings, only=ended)
        if not interrupted:
            raise


def _listens_elsewhere(running: Running, port: int, host: str | None, trusted: tuple[str, ...] | None) -> bool:
    """Whether what runs was started otherwise than is asked for now; what is not said may be as it is."""
    return port != running.port or host not in (None, running.host) or trusted not in (None, running.behind_proxy)


def _deploy(context: Context, cluster: Running, say: Progress) -> None:
    """Register what ships where no champion fits, deploy, and wait until every model is loaded."""
    say("opening the model registry")
    promotion.ship_all(context, say)
    store = open_features(context.settings.features_url)
    if not store.is_built:
        say("filling the online features from the ledger")
        rebuild(store, context.ledger, now())
    store.close()
    forgotten = forget(context.ledger, _sample_posts())
    if forgotten:
        say(f"taking back {forgotten} sample posts that an earlier release recorded")
    serve_config.refresh(context, cluster, progress=say)
    _wait_until_ready(cluster)


def down() -> None:
    """End what `up` started, by its pid, and nothing else."""
    with progress("stopping") as say:
        say("ending what was started")
        stopped = ray_cluster.stop(Settings.from_environment())
    out.print("stopped" if stopped else "nothing was running")


def status(as_json: JsonOption = False, topology: TopologyOption = None) -> None:
    """What runs: service, champions, challengers, experiments, retrain requests."""
    context, cluster = open_context(topology)
    ready = None if cluster is None else _get(cluster, "/readyz").status_code == 200
    variants: dict[str, Any] = {}
    for name in context.topology.variants:
        experiment = experiments.running(context.ledger, name)
        request = retraining.active_request(context.ledger, name)
        variants[name] = {
            "champion": context.registry.alias(name, "champion"),
            "challenger": context.registry.alias(name, "challenger"),
            "versions": [version.version for version in context.registry.versions(name)],
            "experiment": None if experiment is None else {"name": experiment.name, "share": experiment.share},
            "alerts": drift.count_alerts(context.ledger, name),
            "retrain_request": None if request is None else {"id": request.request_id, "status": request.status},
        }
    url = None if cluster is None else cluster.url
    if as_json:
        metrics_url = None if cluster is None else cluster.metrics_url or None
        print_json({"url": url, "ready": ready, "metrics_url": metrics_url, "variants": variants})
        return
    out.print("not running" if url is None else f"{url} is {'ready' if ready else 'not ready'}")
    table = Table("variant", "champion", "challenger", "versions", "experiment", "alerts", "retrain request")
    for name, found in variants.items():
        experiment, request = found["experiment"], found["retrain_request"]
        table.add_row(
            name,
            str(found["champion"] or "-"),
            str(found["challenger"] or "-"),
            ", ".join(map(str, found["versions"])),
            Text(f"{experiment['name']} at {experiment['share']:.0%}" if experiment else "-"),
            str(found["alerts"]),
            f"{request['id']} {request['status']}" if request else "-",
        )
    out.print(table)


def moderate(
    text: Annotated[str, typer.Argument(help="What to judge; may be left out where there is a file.")] = "",
    image: Annotated[list[Path] | None, typer.Option(help="An image file; may be given again.")] = None,
    video: Annotated[list[Path] | None, typer.Option(help="A video file; may be given again.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639 code; detected where absent.")] = None,
    region: Annotated[str, typer.Option(help="ISO 3166-1 alpha-2.")] = "US",
    preview: Annotated[bool, typer.Option("--preview", help="Show what would be decided, and record nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a text, with images and videos, as a post of its own (community `cli`), and show the decision.

    It is recorded like any other post: what is removed has a statement of reasons. With `--preview` nothing is.
    """
    files = [("image", path) for path in image or []] + [("video", path) for path in video or []]
    if not text and not files:
        raise typer.BadParameter("nothing to judge: give a text, --image or --video")
    running = require(Settings.from_environment())
    post = {
        "author_id": "cli",
        "community": "cli",
        "region": region,
        "language": language,
        "created_at": datetime.now(UTC).isoformat(),
        "text": text,
    }
    with nullcontext() if as_json else progress("moderating"):
        decision = _send(running, None if preview else f"cli-{uuid.uuid4().hex}", post, files)
    if as_json:
        print_json(decision)
    else:
        out.print(_table([(text or ", ".join(path.name for _, path in files), decision)]))


def promote(
    variant: VariantArgument,
    expect: ExpectOption = None,
    without_experiment: Annotated[
        bool, typer.Option("--without-experiment", help="Promote whatever an experiment says, or without one.")
    ] = False,
    label: JudgedLabelOption = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Make the challenger champion; running replicas load it without a failed request."""
    with progress("promoting") as say:
        context, cluster = open_context(topology)
        change = promotion.promote(
            context,
            variant,
            cluster=cluster,
            expected=expect,
            without_experiment=without_experiment,
            label=label,
            progress=say,
        )
    _tell(change, as_json)


def rollback(
    variant: VariantArgument,
    expect: ExpectOption = None,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Bring back the champion before this one."""
    with progress("rolling back") as say:
        context, cluster = open_context(topology)
        change = promotion.rollback(context, variant, cluster=cluster, expected=expect, progress=say)
    _tell(change, as_json)


def _tell(change: promotion.Change, as_json: bool) -> None:
    if as_json:
        print_json({"variant": change.variant, "from": change.from_version, "to": change.to_version})
    else:
        out.print(f"{change.variant}: version {change.to_version} is champion, it was {change.from_version}")


def _get(running: Running, path: str) -> httpx.Response:
    try:
        return httpx.get(running.url + path, timeout=10, trust_env=False)
    except httpx.TransportError as error:
        raise ServiceError(f"{running.url} does not answer: {error}") from error


def _wait_until_ready(running: Running) -> None:
    give_up = time.monotonic() + ray_cluster.START_TIMEOUT_S
    while True:
        try:
            response = _get(running, "/readyz")
            said = response.text
            if response.status_code == 200:
                return
        except ServiceError as error:
            said = str(error)
        if not running.alive():
            raise ServiceError(f"it ended before it was ready: {said}")
        if time.monotonic() > give_up:
            raise ServiceError(f"not ready after {ray_cluster.START_TIMEOUT_S:.0f} s: {said}")
        time.sleep(0.25)


def _send(
    running: Running, post_id: str | None, post: dict[str, Any], files: Sequence[tuple[str, Path]] = ()
) -> dict[str, Any]:
    """The decision on a post, which is recorded under an id; None: it is previewed."""
    method, url = ("POST", "/v1/posts:preview") if post_id is None else ("PUT", f"/v1/posts/{post_id}")
    try:
        with ExitStack() as stack:
            body: dict[str, Any] = {"json": post}
            if files:
                parts: list[tuple[str, Any]] = [("post", (None, json.dumps(post), "application/json"))]
                for kind, path in files:
                    parts.append(("media", (path.name, stack.enter_context(path.open("rb")), f"{kind}/*")))
                body = {"files": parts}
            response = httpx.request(method, running.url + url, timeout=_ANSWER_TIMEOUT_S, trust_env=False, **body)
    except OSError as error:
        raise ServiceError(f"{error.filename} cannot be read: {error.strerror}") from error
    except httpx.TransportError as error:
        raise ServiceError(f"{running.url} does not answer: {error}") from error
    if response.status_code != 200:
        raise ServiceError(f"{response.status_code}: {_refusal(response)}")
    decision: dict[str, Any] = response.json()
    return decision


def _refusal(response: httpx.Response) -> str:
    """What a refusal says, in a line: a problem's detail, or the text of what is none, as Ray Serve's own 503."""
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = response.text
    return " ".join(str(said).split()) or response.reason_phrase


def _lowest(label: Mapping[str, Any]) -> float:
    """The score from which a label of a decision was flagged; old decisions have no removal threshold."""
    return min(bound for key in ("threshold", "remove_threshold") if (bound := label.get(key)) is not None)


def _show_samples(running: Running) -> None:
    """Show what would be decided on the sample posts; a failure ends no service that lives.

    None is recorded: what the samples say was posted by nobody, and must stand in no statement, webhook or metric.
    """
    try:
        with progress("moderating the sample posts") as say:
            table = _moderate_samples(running, say)
        out.print(table)
    except Exception as error:
        if not running.alive():
            raise
        err.print(f"the sample posts are not shown: {type(error).__name__}: {error}", markup=False, emoji=False)


def _samples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]


def _sample_posts() -> dict[str, tuple[str, datetime]]:
    posts = ((sample["post_id"], sample["post"]) for sample in _samples())
    return {post_id: (post["author_id"], datetime.fromisoformat(post["created_at"])) for post_id, post in posts}


def _moderate_samples(running: Running, say: Progress) -> Table:
    rows = []
    samples = _samples()
    for sample in samples:
        decision = _send(running, None, sample["post"])
        written = " ".join(filter(None, (medium["text"] for medium in decision.get("media", []))))
        rows.append((sample["post"]["text"] or f"(a picture) {written}".strip(), decision))
        say(f"{len(rows)} of {len(samples)}")
    return _table(rows)


def _table(rows: list[tuple[str, dict[str, Any]]]) -> Table:
    # What a release before there were media recorded says nothing of them, nor of their labels.
    scored = _SHOWN + (_SHOWN_OF_MEDIA if any(decision.get("media") for _, decision in rows) else ())
    table = Table(Column("post", no_wrap=True, max_width=34), "lang", "decision", "why", *scored, "ms")
    for text, decision in rows:
        labels = decision["labels"]
        flagged = [f"{name} >= {_lowest(label):.2f}" for name, label in labels.items() if label["flagged"]]
        why = flagged + [reason for reason in decision["review"]["reasons"] if "flagged" not in reason]
        found = (labels.get(name, {}).get("score") for name in scored)
        scores = ("-" if score is None else f"{score:.2f}" for score in found)
        colour = {"allow": "green", "review": "yellow", "remove": "red"}[decision["decision"]]
        table.add_row(
            Text(text),  # not escaped as a string: what people write is no markup
            decision["language"]["code"],
            f"[{colour}]{decision['decision']}[/]",
            Text("; ".join(why)),
            *scores,
            f"{decision['latency_ms']:.0f}",
        )
    return table
