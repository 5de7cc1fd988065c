"""Posts a second through HTTP over the same models offline, latency under open load, and where the time goes.

    python -m tests.benchmarks.serving [--topology deployments/light.yaml]

Starts a Seawall of its own and ends it. On a machine that drifts only ratios mean something, so every served run stands
between two offline runs, and is held against their mean; of all rounds the least, the median and the most are told.

    offline      what scoring needs, in this process: the posts' languages, the models that they are routed to, with the
                 text variant's threads, in batches of the gateway's group size. No links, no online features, no
                 policy, no ledger
    closed loop  single PUTs at 16 and 64 connections; `POST /v1/posts:batch` of 64 and 256 posts, two in flight
    open loop    single PUTs as a Poisson process, at rising rates until the knee; then at half of it, for longer
    stages       each stage of a post's way alone, in this process, in microseconds a post. What serving takes beyond
                 their sum is HTTP and hops: of the time, where a negative one says that stages overlapped in service,
                 on two cores and while the disk synced; and of the CPU, where nothing overlaps

The client shares the cores with the service; its own CPU is told beside the service's. A step of the open loop must be
long: a backlog of a second, which is what ends the climb, takes time to grow, so short steps find the knee too high.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import psutil
import torch
import typer

from moderation.models.base import Prepared, TextClassifier
from moderation.models.load import load_text_classifier
from moderation.policy import Scored
from moderation.posts import Decision, LanguageDecision, LinkDecision, PostIn
from moderation.preprocess.features import Features, observe, scored_features
from moderation.preprocess.language import detect_language
from moderation.preprocess.links import check_links, find_links
from moderation.preprocess.ngrams import hash_ngrams
from moderation.running import Running, require
from moderation.settings import DEPLOYMENTS, Settings
from moderation.storage.features import FeatureStore, open_features, posts_observed
from moderation.storage.ledger import Entry, Ledger, Scoring, now
from moderation.topology import Topology
from serve.posts.cases import TEXT_SERVICES
from simulate.service import running_service
from simulate.traffic import SimulatedPost, TrafficConfig, day_of_traffic
from tests.benchmarks.load import (
    Exchange,
    Run,
    Step,
    batch_request,
    climb,
    closed_loop,
    open_loop,
    poisson_arrivals,
    put_request,
    quantiles,
    rates_from,
    spread,
)

TARGETS = {"batch_over_offline": 0.80, "single_over_offline": 0.50, "p99_ms_at_half_the_knee": 150.0}
"""The first two at least, the last at most."""

_ROUND_S = 40.0
"""What a round is to take where the number of posts is not told."""
_LEDGER_GROUP = 32
_STAGE_POSTS = 256
_DISTINCT_TEXTS = 5000
_MOST_POSTS = 20_000
"""Of a run."""
_SLOWEST = 4
"""Posts a second; a run that stays below is given up, and what was not answered has failed."""
_AFTER_REPLY_S = 0.2
"""What the service does after its last reply is its work, too, and must not fall into the offline run that follows."""
_HALF_KNEE_STEPS = 5
"""The run at half the knee takes as long as so many steps."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A way to send posts in a closed loop."""

    name: str
    in_flight: int
    batch: int | None = None
    """Posts a request; None: a PUT each."""


SCENARIOS = (
    Scenario("batch_64", 2, 64),
    Scenario("single_16", 16),
    Scenario("batch_256", 2, 256),
    Scenario("single_64", 64),
)


@dataclass(slots=True)
class Served:
    """What the rounds measured of one scenario."""

    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    client_cpu_s: float = 0.0
    posts: int = 0


def say(message: str) -> None:
    """Progress; standard output is for the result alone."""
    print(message, file=sys.stderr, flush=True)


Taken: TypeAlias = npt.NDArray[np.float64]
"""Time and CPU-time, shape (2,)."""


class Traffic:
    """Simulated posts, whose texts repeat after some thousand; every post that is sent gets an id of its own."""

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex
        self._numbers = itertools.count()

    @cached_property
    def _distinct(self) -> list[SimulatedPost]:
        return day_of_traffic(TrafficConfig(posts_per_day=_DISTINCT_TEXTS, seed=11), 1)

    def posts(self, count: int) -> list[SimulatedPost]:
        """The first ones, always the same."""
        return list(itertools.islice(itertools.cycle(self._distinct), count))

    def bodies(self, count: int) -> list[dict[str, Any]]:
        """The same posts as a client sends them."""
        return [
            {
                "author_id": post.author_id,
                "community": post.community,
                "region": post.region,
                "created_at": post.created_at.isoformat(),
                "text": post.text,
            }
            for post in self.posts(count)
        ]

    def requests(self, count: int, batch: int | None = None) -> list[Exchange]:
        """As many posts, in requests of `batch`, or in single PUTs."""
        bodies = self.bodies(count)
        if batch is None:
            return [put_request(self.new_id(), json.dumps(body)) for body in bodies]
        lines = [json.dumps(body | {"post_id": self.new_id()}) for body in bodies]
        return [batch_request(lines[begin : begin + batch]) for begin in range(0, count, batch)]

    def new_id(self) -> str:
        """A post's id that was never used."""
        return f"bench-{self._run}-{next(self._numbers)}"


class Offline:
    """The topology's models as they ship, which is what an empty registry takes for champions, in this process."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.threads = max(v.threads for v in topology.variants.values() if v.service == "text")
        torch.set_num_threads(self.threads)
        names = {route.variant for route in topology.routes if route.service in TEXT_SERVICES}
        self.models: dict[str, TextClassifier] = {
            name: load_text_classifier(topology.shipped_folder(name)) for name in sorted(names)
        }

    def variants_for(self, region: str, language: str) -> list[str]:
        """Which variants score such a post."""
        found = (self.topology.variant_for(service, region=region, language=language) for service in TEXT_SERVICES)
        return [name for name in found if name is not None]

    def posts_per_s(self, posts: Sequence[SimulatedPost]) -> float:
        """Detect languages and score, group by group."""
        begun = time.perf_counter()
        for group in _groups(posts, self.topology.gateway.group_size):
            asked: dict[str, list[tuple[str, Features]]] = defaultdict(list)
            for post in group:
                language = detect_language(post.text).code
                for name in self.variants_for(post.region, language):
                    asked[name].append((post.text, {"language": language}))
            for name, members in asked.items():
                self.models[name].score([text for text, _ in members], [known for _, known in members])
        return len(posts) / (time.perf_counter() - begun)


class Stages:
    """Each stage of a post's way alone, as the gateway, the classifier and the ledger do it.

    Args:
        offline: the models.
        traffic: where ids come from.
        ledger: of its own, on the same disk as the service's.
        known: online features, likewise.
    """

    def __init__(self, offline: Offline, traffic: Traffic, ledger: Ledger, known: FeatureStore) -> None:
        self._offline = offline
        self._topology = offline.topology
        self._traffic = traffic
        self._ledger = ledger
        self._known = known
        self._taken: dict[str, Taken] = {}

    def us_per_post(self, count: int) -> dict[str, Taken]:
        """Microseconds a post, of the first posts; of all of them, whether or not a stage concerns each."""
        self._taken = defaultdict(lambda: np.zeros(2))
        entries: list[Entry] = []
        bodies = [json.dumps(body).encode() for body in self._traffic.bodies(count)]
        for group in _groups(bodies, self._topology.gateway.group_size):
            entries += self._group(group)
        with self._timed("JSON"):
            for entry in entries:
                entry.decision.model_dump_json()
        for some in _groups(entries, _LEDGER_GROUP):
            with self._timed("ledger"):
                self._ledger.newest([entry.decision.post_id for entry in some])
                recorded = self._ledger.record(some)
            with self._timed("online features: count"):  # in service, after the reply
                self._known.observe(posts_observed(some, recorded))
        self._taken["ledger"] -= self._taken["JSON"]  # which the ledger does
        return {name: seconds / count * 1e6 for name, seconds in self._taken.items()}

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun, cpu = time.perf_counter(), time.process_time()
        yield
        self._taken[stage] += (time.perf_counter() - begun, time.process_time() - cpu)

    def _group(self, bodies: Sequence[bytes]) -> list[Entry]:
        with self._timed("parse and check"):
            parsed = [PostIn.model_validate_json(body) for body in bodies]
        with self._timed("content hash"):
            hashes = [post.content_hash() for post in parsed]
        with self._timed("language"):
            languages = [detect_language(post.text) for post in parsed]
        with self._timed("features"):
            features = [observe(post.text, language) for post, language in zip(parsed, languages, strict=True)]
        with self._timed("online features: read"):
            at = max(post.created_at for post in parsed)
            found = self._known.read([post.author_id for post in parsed], [post.community for post in parsed], at)
            for own, author, community in zip(features, *found, strict=True):
                own |= author | community
        members: dict[str, list[int]] = defaultdict(list)
        for row, (post, language) in enumerate(zip(parsed, languages, strict=True)):
            for name in self._offline.variants_for(post.region, language.code):
                members[name].append(row)
        said: list[dict[str, tuple[dict[str, float], float]]] = [{} for _ in parsed]
        for name, rows in members.items():
            texts = [parsed[row].text for row in rows]
            scores, unseen = self._score(name, texts, [features[row] for row in rows])
            for index, row in enumerate(rows):
                said[row][name] = scores[index], unseen[index]
        blocklist, rules = self._topology.blocklist, self._topology.link_rules
        with self._timed("links"):
            links = []
            for post in parsed:
                blocklist.reload_if_changed()
                checked = check_links(find_links(post.text, blocklist), blocklist, rules)
                links.append(
                    [
                        LinkDecision(url=i.url, domain=i.domain, verdict=i.verdict, reasons=list(i.reasons))
                        for i in checked
                    ]
                )
        with self._timed("policy"):
            verdicts = [
                self._topology.policy.decide(
                    self._scored(said[row], languages[row].code), region=post.region, links=links[row], now=now()
                )
                for row, post in enumerate(parsed)
            ]
        with self._timed("decision"):
            decisions = [
                Decision(
                    post_id=self._traffic.new_id(),
                    content_version=1,
                    decision=verdict.decision,
                    mode=verdict.mode,
                    degraded=verdict.degraded,
                    labels=verdict.labels,
                    language=LanguageDecision(code=language.code, confidence=language.confidence, in_training=True),
                    links=links[row],
                    review=verdict.review,
                    policy_version=self._topology.policy.version,
                    models={self._topology.variant(name).service: f"{name}@1" for name in said[row]},
                    decided_at=now(),
                    latency_ms=1.0,
                )
                for row, (verdict, language) in enumerate(zip(verdicts, languages, strict=True))
            ]
        with self._timed("features"):
            scorings = [
                tuple(
                    Scoring(
                        self._topology.variant(name).service, name, 1, None, "champion", scored_features(scores, unseen)
                    )
                    for name, (scores, unseen) in said[row].items()
                )
                for row in range(len(parsed))
            ]
        return [
            Entry(
                post=parsed[row],
                content_hash=hashes[row],
                decision=decisions[row],
                features=features[row],
                scorings=scorings[row],
                received_at=now(),
            )
            for row in range(len(parsed))
        ]

    def _score(
        self, name: str, texts: Sequence[str], known: Sequence[Features]
    ) -> tuple[list[dict[str, float]], list[float]]:
        """Scores and unseen-word shares; the forward pass is what the model takes beyond making its input."""
        model = self._offline.models[name]
        with self._timed(f"{name}: clean"):
            prepared = Prepared.of(texts, known)
        stage = f"{name}: {'tokenise' if model.architecture == 'encoder' else 'hash'}"
        _make_input(model, prepared)  # what comes second finds its memory warm: so do both that are subtracted
        before = self._taken[stage].copy()
        with self._timed(stage):
            _make_input(model, prepared)
        making = self._taken[stage] - before
        with self._timed(f"{name}: forward"):
            logits, unseen = model.logits(prepared)
            confidence = model.calibrate(logits, prepared.languages)
        self._taken[f"{name}: forward"] -= making
        rows = [dict(zip(model.card.labels, row, strict=True)) for row in confidence.astype(float).tolist()]
        return rows, unseen.astype(float).tolist()

    def _scored(self, said: dict[str, tuple[dict[str, float], float]], language: str) -> dict[str, list[Scored]]:
        return {
            label: [Scored(score, self._offline.models[name].card.curve(label, language))]
            for name, (scores, _) in said.items()
            for label, score in scores.items()
        }


class Processes:
    """All processes of a running Seawall, by what they are for."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def cpu_s(self) -> dict[tuple[int, float], tuple[str, float]]:
        """CPU-seconds so far of each process, with its kind."""
        found = {}
        for kind, process in self._all():
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid, process.create_time()] = kind, times.user + times.system
        return found

    def cpu_s_since(self, before: dict[tuple[int, float], tuple[str, float]]) -> dict[str, float]:
        """CPU-seconds since `before`, by kind; of a process that ended meanwhile, none."""
        taken: dict[str, float] = defaultdict(float)
        for key, (kind, seconds) in self.cpu_s().items():
            taken[kind] += seconds - before.get(key, (kind, 0.0))[1]
        return dict(taken)

    def memory_mb(self) -> dict[str, dict[str, float | None]]:
        """Resident and proportional (shared pages divided among who shares them) megabytes, by kind."""
        found: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
        for kind, process in self._all():
            with suppress(psutil.Error):
                found[kind].append((process.memory_info().rss / 1e6, _pss_mb(process.pid)))
        found["all"] = list(itertools.chain.from_iterable(found.values()))
        return {
            kind: {
                "processes": len(sizes),
                "rss": round(sum(rss for rss, _ in sizes), 1),
                "pss": None if any(pss is None for _, pss in sizes) else round(sum(pss or 0 for _, pss in sizes), 1),
            }
            for kind, sizes in sorted(found.items())
        }

    def _all(self) -> list[tuple[str, psutil.Process]]:
        first = psutil.Process(self._running.pid)
        found = {process.pid: process for process in (first, *first.children(recursive=True))}
        for process in psutil.process_iter():  # also those whose parent is gone
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self._running.pid:
                    found.setdefault(process.pid, process)
        kinds = []
        for process in found.values():
            with suppress(psutil.Error):
                kinds.append((kind_of(" ".join(process.cmdline()) or process.name()), process))
        return kinds


def kind_of(command: str) -> str:
    """What a process is for, by its command line: `gateway`, `classifier VARIANT`, `haproxy` or `ray`."""
    replica = command.removeprefix("ray::ServeReplica:")
    if replica != command:
        application, deployment = replica.split(":")[:2]
        return f"classifier {application}" if deployment.startswith("classifier") else "gateway"
    return "haproxy" if Path(command.split(" ")[0]).name.startswith("haproxy") else "ray"


def main(
    topology: Annotated[Path, typer.Option(help="Topology file.", exists=True)] = DEPLOYMENTS / "local.yaml",
    posts: Annotated[int | None, typer.Option(help="Posts a run; default: a round takes 40 s.", min=64)] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of all runs.", min=1, max=100)] = 3,
    seconds: Annotated[float, typer.Option(help="Of one step of the open loop.", min=1, max=600)] = 8,
) -> None:
    """Measure; the last line is one JSON document."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["SEAWALL_HOME"] = str(home)  # for this process, too: an encoder's base is unpacked once
        say(f"starting a Seawall on {topology}")
        with running_service(home, topology=topology.resolve(), quiet=True):
            running = require(Settings.from_environment())
            ledger = Ledger(f"sqlite:///{Path(folder) / 'stages.db'}")
            known = open_features(f"sqlite:///{Path(folder) / 'known.db'}")
            with closing(ledger), closing(known):
                benchmark = Benchmark(running, Topology.load(topology.resolve()), ledger, known)
                found = benchmark.measure(posts, rounds, seconds)
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}))


class Benchmark:
    """One running Seawall, measured.

    Args:
        running: the Seawall.
        topology: that it runs.
        ledger: for the stages.
        known: for the stages.
    """

    def __init__(self, running: Running, topology: Topology, ledger: Ledger, known: FeatureStore) -> None:
        self._port = running.port
        self._topology = topology
        self._processes = Processes(running)
        self._traffic = Traffic()
        self._offline = Offline(topology)
        self._stages = Stages(self._offline, self._traffic, ledger, known)
        bound = topology.gateway.max_batch_posts
        self._scenarios = [scenario for scenario in SCENARIOS if (scenario.batch or 1) <= bound]

    def measure(self, posts: int | None, rounds: int, step_s: float) -> dict[str, Any]:
        """Everything that is told."""
        load_average = round(os.getloadavg()[0], 2)
        warm = self._posts_a_run()
        count = posts or warm
        say(f"{count} posts a run, {rounds} rounds")
        served, offline_rates, stages = self._rounds(count, rounds)
        memory = self._processes.memory_mb()
        open_found = self._open(statistics.median(served["single_64"].rates), step_s)
        return {
            "benchmark": "serving",
            "topology": self._topology.path.name,
            "cpus": os.cpu_count(),
            "load_average_before": load_average,
            "posts_a_run": count,
            "rounds": rounds,
            "offline": {
                "posts_per_s": spread(offline_rates, 1),
                "threads": self._offline.threads,
                "group_size": self._topology.gateway.group_size,
                "models": {name: model.architecture for name, model in self._offline.models.items()},
            },
            "closed_loop": {name: _figures_of(found) for name, found in served.items()},
            "open_loop": open_found,
            "memory_mb": memory,
            "stages": _stages_told(stages, served),
            "targets": _targets_told(served, open_found),
        }

    def _posts_a_run(self) -> int:
        """Warm everything up, and find how many posts make a round as long as it is meant to be."""
        seconds_a_post = 2 / self._pace(self._offline.posts_per_s)
        for scenario in self._scenarios:

            def served(posts: Sequence[SimulatedPost], scenario: Scenario = scenario) -> float:
                return len(posts) / self._closed(scenario, len(posts))[0].seconds

            seconds_a_post += 1 / self._pace(served)
        return max(128, min(_MOST_POSTS, int(_ROUND_S / seconds_a_post) // 64 * 64))

    def _pace(self, posts_per_s: Callable[[Sequence[SimulatedPost]], float]) -> float:
        """Posts a second of a run that took half a second or more, or of 4096 posts."""
        count = 64
        while True:
            rate = posts_per_s(self._traffic.posts(count))
            if count / rate >= 0.5 or count >= 4096:
                return rate
            count *= 4

    def _closed(self, scenario: Scenario, count: int) -> tuple[Run, dict[str, int]]:
        exchanges = self._traffic.requests(count, scenario.batch)
        run = closed_loop(self._port, exchanges, scenario.in_flight, within_s=60 + count / _SLOWEST)
        outcomes = run.outcomes()
        if outcomes["scored"] == 0:
            raise RuntimeError(f"{scenario.name}: none of {count} posts was scored: {outcomes}")
        if outcomes["scored"] < count:
            say(f"{scenario.name}: of {count} posts only {outcomes['scored']} were scored: {outcomes}")
        return run, outcomes

    def _rounds(self, count: int, rounds: int) -> tuple[dict[str, Served], list[float], list[dict[str, Taken]]]:
        """Offline, served, served, offline, served, served, offline, ...: each served run between two offline ones."""
        served = {scenario.name: Served() for scenario in self._scenarios}
        posts = self._traffic.posts(count)
        stages: list[dict[str, Taken]] = []
        offline_rates = [self._offline.posts_per_s(posts)]
        for number in range(1, rounds + 1):
            stages.append(self._stages.us_per_post(min(count, _STAGE_POSTS)))
            for pair in _groups(self._scenarios, 2):
                for scenario in pair:
                    self._serve(scenario, count, served[scenario.name])
                offline_rates.append(self._offline.posts_per_s(posts))
                for scenario in pair:
                    found = served[scenario.name]
                    found.ratios.append(found.rates[-1] / statistics.mean(offline_rates[-2:]))
            rates = ", ".join(f"{name} {found.rates[-1]:.0f}" for name, found in served.items())
            say(f"round {number}: offline {offline_rates[-1]:.0f} posts/s, {rates}")
        return served, offline_rates, stages

    def _serve(self, scenario: Scenario, count: int, into: Served) -> None:
        before = self._processes.cpu_s()
        run, outcomes = self._closed(scenario, count)
        time.sleep(_AFTER_REPLY_S)
        for kind, seconds in self._processes.cpu_s_since(before).items():
            into.cpu_s[kind] += seconds
        for name, posts in outcomes.items():
            into.outcomes[name] += posts
        into.rates.append(outcomes["scored"] / run.seconds)
        into.latencies += run.latencies_ms()
        into.client_cpu_s += run.client_cpu_s
        into.posts += count

    def _open(self, closed_rate: float, step_s: float) -> dict[str, Any]:
        """The knee, and a longer run at half of it."""
        seeds = itertools.count(1)

        def offer(rate: float, seconds: float) -> Run:
            arrivals = poisson_arrivals(rate, seconds, next(seeds))
            return open_loop(self._port, self._traffic.requests(len(arrivals)), arrivals)

        def measure(rate: float) -> Step:
            step = _step(rate, offer(rate, step_s))
            shares = f"shed {step.shed_share:.1%}, failed {step.failed_share:.1%}"
            say(f"{rate:.1f} posts/s for {step_s:.0f} s: p99 {step.p99_ms} ms, {shares}")
            return step

        steps, knee = climb(measure, rates_from(0.2 * closed_rate))
        found: dict[str, Any] = {
            "closed_rate_per_s": round(closed_rate, 1),
            "step_seconds": step_s,
            "steps": [asdict(step) | {"rate": round(step.rate, 1), "holds": step.holds} for step in steps],
            "knee_per_s": None if knee is None else round(knee, 1),
            "knee_is_lower_bound": steps[-1].holds,
            "at_half_the_knee": None,
        }
        if knee is None:
            say("not even the first rate held: there is no knee")
            return found
        before = self._processes.cpu_s()
        run = offer(knee / 2, step_s * _HALF_KNEE_STEPS)
        cpu = self._processes.cpu_s_since(before)
        step = _step(knee / 2, run)
        found["at_half_the_knee"] = {
            "rate_per_s": round(knee / 2, 1),
            "seconds": step_s * _HALF_KNEE_STEPS,
            "posts": step.posts,
            "latency_ms": quantiles(run.latencies_ms()),
            "sent_late_ms": quantiles(run.late_ms()),
            "shed_share": step.shed_share,
            "failed_share": step.failed_share,
            "cut_short": step.cut_short,
            "cpu_s_per_1000": _per_1000(cpu | {"client": run.client_cpu_s}, step.posts),
        }
        return found


def _step(rate: float, run: Run) -> Step:
    outcomes = run.outcomes()
    posts = max(1, sum(outcomes.values()))
    return Step(
        rate=rate,
        posts=sum(outcomes.values()),
        p99_ms=quantiles(run.latencies_ms())["p99"],
        shed_share=round(outcomes["shed"] / posts, 5),
        failed_share=round((outcomes["failed"] + outcomes["degraded"]) / posts, 5),
        cut_short=run.cut_short,
    )


def _figures_of(found: Served) -> dict[str, Any]:
    return {
        "posts_per_s": spread(found.rates, 1),
        "over_offline": spread(found.ratios, 4),
        "request_latency_ms": quantiles(found.latencies),
        "outcomes": dict(found.outcomes),
        "cpu_s_per_1000": _per_1000(dict(found.cpu_s) | {"client": found.client_cpu_s}, found.posts),
    }


def _per_1000(cpu_s: dict[str, float], posts: int) -> dict[str, float]:
    """By kind; `service` is the sum of all but the client."""
    whole = sum(seconds for kind, seconds in cpu_s.items() if kind != "client")
    return {kind: round(s / max(1, posts) * 1000, 3) for kind, s in (cpu_s | {"service": whole}).items()}


def _stages_told(stages: Sequence[dict[str, Taken]], served: dict[str, Served]) -> dict[str, Any]:
    names = {name for found in stages for name in found}
    medians = {name: np.median([found.get(name, np.zeros(2)) for found in stages], axis=0) for name in names}
    slowest_first = sorted(names, key=lambda name: -medians[name][0])
    sums = [sum(found.values(), np.zeros(2)) for found in stages]
    return {
        "us_per_post": {name: round(float(medians[name][0]), 1) for name in slowest_first},
        "cpu_us_per_post": {name: round(float(medians[name][1]), 1) for name in slowest_first},
        "sum_us_per_post": spread([float(time_us) for time_us, _ in sums], 1),
        "sum_cpu_us_per_post": spread([float(cpu_us) for _, cpu_us in sums], 1),
        "http_and_hops": {name: _beyond(found, sums) for name, found in served.items()},
    }


def _beyond(found: Served, sums: Sequence[Taken]) -> dict[str, Any]:
    """What a served post takes beyond its stages, of time by round, of CPU over all rounds; and its share of all."""
    us = [1e6 / rate - float(stages[0]) for rate, stages in zip(found.rates, sums, strict=True)]
    cpu_us = sum(found.cpu_s.values()) / max(1, found.posts) * 1e6
    beyond = cpu_us - float(np.median([stages[1] for stages in sums]))
    return {
        "us_per_post": spread(us, 1),
        "share": spread([each * rate / 1e6 for each, rate in zip(us, found.rates, strict=True)], 3),
        "cpu_us_per_post": round(beyond, 1),
        "cpu_share": round(beyond / cpu_us, 3) if cpu_us else None,
    }


def _targets_told(served: dict[str, Served], open_found: dict[str, Any]) -> dict[str, Any]:
    """Against each target: for batches and for single PUTs the better scenario, by its median, and which that is."""
    half = open_found["at_half_the_knee"]
    found: dict[str, tuple[str, float] | None] = {
        "batch_over_offline": _best(served, "batch"),
        "single_over_offline": _best(served, "single"),
        "p99_ms_at_half_the_knee": None,
    }
    if half is not None and half["latency_ms"]["p99"] is not None:
        found["p99_ms_at_half_the_knee"] = ("at_half_the_knee", half["latency_ms"]["p99"])
    told = {}
    for name, target in TARGETS.items():
        scenario, value = found[name] or (None, None)
        met = value is not None and (value <= target if name.startswith("p99") else value >= target)
        told[name] = {"target": target, "found": value, "scenario": scenario, "met": met}
    return told


def _best(served: dict[str, Served], kind: str) -> tuple[str, float] | None:
    medians = [(n, round(statistics.median(s.ratios), 4)) for n, s in served.items() if n.startswith(kind)]
    return max(medians, key=lambda pair: pair[1], default=None)


def _make_input(model: Any, texts: Prepared) -> None:
    """What a model's forward pass is fed, made as it makes it."""
    if model.architecture == "encoder":
        from moderation.models.encoder import tokenise  # only where there is one: transformers takes seconds

        tokenise(model.tokenizer, texts.cleaned, model.config.max_tokens)
    else:
        hash_ngrams(texts.folded, model.config)


def _groups(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _pss_mb(pid: int) -> float | None:
    """Proportional set size; None where the system does not tell it."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        return None
    return None


if __name__ == "__main__":
    typer.run(main)
