"""Posts a second by single PUT over the same model offline: `make bench`, which starts a Seawall and ends it.

Closed loop, keep-alive connections, over distinct texts; the client shares the two cores with the service, and its own
CPU-seconds are told. Offline is the same preprocessing and model in one process with one thread, in batches of 64.
Served and offline runs alternate, so that a machine that slows down slows both; the ratio is told with its spread.
Where the time goes: each stage of a post's way alone, in this process, a post.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from moderation.models.load import load_text_classifier
from moderation.policy import Scored
from moderation.posts import Decision, PostIn
from moderation.preprocess.features import observe
from moderation.preprocess.language import detect_language
from moderation.preprocess.links import find_links
from moderation.running import require
from moderation.settings import DEPLOYMENTS, Settings
from moderation.storage.ledger import Entry, Ledger, now
from moderation.topology import Topology
from tests.end_to_end.service import Service, running_service
from tests.end_to_end.traffic import SimulatedPost, TrafficConfig, day_of_traffic


def body_of(post: SimulatedPost) -> str:
    """The post as a client would send it."""
    return json.dumps(
        {
            "author_id": post.author_id,
            "community": post.community,
            "region": post.region,
            "created_at": post.created_at.isoformat(),
            "text": post.text,
        }
    )


def served(port: int, posts: Sequence[SimulatedPost], connections: int) -> tuple[float, list[float], float]:
    """Posts a second, latencies in ms, and the client's own CPU-seconds a 1,000 posts."""
    waiting = iter([(f"bench-{uuid.uuid4().hex}", body_of(post)) for post in posts])
    lock = threading.Lock()
    latencies: list[float] = []
    failures: list[int] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            begun = time.perf_counter()
            connection.request("PUT", f"/v1/posts/{item[0]}", item[1], {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            latencies.append((time.perf_counter() - begun) * 1000)
            if response.status != 200:
                failures.append(response.status)

    threads = [threading.Thread(target=client) for _ in range(connections)]
    cpu = time.process_time()
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(posts)} posts failed: {sorted(set(failures))}")
    return len(posts) / seconds, latencies, (time.process_time() - cpu) / len(posts) * 1000


def offline(posts: Sequence[SimulatedPost]) -> float:
    """Posts a second of the model alone."""
    import torch

    torch.set_num_threads(1)
    model = load_text_classifier(DEPLOYMENTS / "models" / "text-multi")
    texts = [post.text for post in posts]
    begun = time.perf_counter()
    for start in range(0, len(texts), 64):
        model.score(texts[start : start + 64])
    return len(texts) / (time.perf_counter() - begun)


def stages(posts: Sequence[SimulatedPost]) -> dict[str, float]:
    """Microseconds a post of each stage alone."""
    model = load_text_classifier(DEPLOYMENTS / "models" / "text-multi")
    topology = Topology.load(DEPLOYMENTS / "local.yaml")
    bodies = [body_of(post).encode() for post in posts]
    parsed = [PostIn.model_validate_json(body) for body in bodies]
    languages = [detect_language(post.text) for post in posts]
    scores = model.score([post.text for post in posts]).confidence.astype(float)
    labels = model.card.labels

    def decide(index: int) -> Any:
        scored = {
            label: Scored(float(value), model.card.operating_curves[label], ("text",))
            for label, value in zip(labels, scores[index], strict=True)
        }
        return topology.policy.decide(scored, region=posts[index].region, links=[], now=now())

    indices = range(len(posts))
    taken = {
        "parse and check": _each(lambda i: PostIn.model_validate_json(bodies[i]), indices),
        "content hash": _each(lambda i: parsed[i].content_hash(), indices),
        "language": _each(lambda i: detect_language(posts[i].text), indices),
        "links": _each(lambda i: find_links(posts[i].text), indices),
        "policy": _each(decide, indices),
        "features": _each(
            lambda i: observe(posts[i].text, languages[i], unseen_word_share=0.1, scores={"abuse": 0.1}), indices
        ),
        "preprocess and score, batches of 32": 1e6 / offline(posts),
    }
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        entries = [_entry(parsed[i], f"p{i}", decide(i), topology) for i in indices]
        begun = time.perf_counter()
        for start in range(0, len(entries), 32):
            ledger.newest([entry.decision.post_id for entry in entries[start : start + 32]])
            ledger.record(entries[start : start + 32])
        taken["ledger, groups of 32, synced"] = (time.perf_counter() - begun) / len(entries) * 1e6
        ledger.close()
    return {name: round(value, 1) for name, value in taken.items()}


def _entry(post: PostIn, post_id: str, verdict: Any, topology: Topology) -> Entry:
    decision = Decision(
        post_id=post_id,
        content_version=1,
        decision=verdict.decision,
        mode=verdict.mode,
        degraded=False,
        labels=verdict.labels,
        language={"code": "en", "confidence": 1.0, "in_training": True},
        links=[],
        review=verdict.review,
        policy_version=topology.policy.version,
        models={},
        decided_at=now(),
        latency_ms=1.0,
    )
    features: dict[str, float | str] = {"characters": 1.0}
    return Entry(post, post.content_hash(), decision, features, "text-multi", 1, now())


def _each(step: Callable[[int], object], indices: range) -> float:
    begun = time.perf_counter()
    for index in indices:
        step(index)
    return (time.perf_counter() - begun) / len(indices) * 1e6


def main(
    posts: Annotated[int, typer.Option(help="Posts a run.", min=100)] = 1500,
    rounds: Annotated[int, typer.Option(help="Runs of each.", min=2)] = 5,
    connections: Annotated[int, typer.Option(help="Clients at a time.", min=1)] = 16,
) -> None:
    """Alternate served and offline runs; the last line is one JSON document."""
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder) / "home", quiet=True) as service:
        print(json.dumps(measure(service, posts, rounds, connections)))


def measure(service: Service, posts: int, rounds: int, connections: int) -> dict[str, Any]:
    """Everything that is told of a run."""
    running = require(Settings(service.home, "", ""))
    traffic = day_of_traffic(TrafficConfig(posts_per_day=posts, seed=11), 1)
    served(running.port, traffic[:200], connections)
    ratios, rates, offline_rates, latencies, client_cpu = [], [], [], [], []
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    cpu_before = sum(sum(process.cpu_times()[:2]) for process in processes)
    for number in range(rounds):
        rate, waits, cpu = served(running.port, traffic, connections)
        alone = offline(traffic)
        ratios.append(rate / alone)
        rates.append(rate)
        offline_rates.append(alone)
        latencies += waits
        client_cpu.append(cpu)
        print(f"round {number + 1}: {rate:.0f} posts/s served, {alone:.0f} offline", file=sys.stderr)
    cpu_after = sum(sum(process.cpu_times()[:2]) for process in processes)
    cuts = statistics.quantiles(latencies, n=1000)
    return {
        "benchmark": "single_put",
        "connections": connections,
        "posts": posts,
        "rounds": rounds,
        "served_over_offline": _spread(ratios, 4),
        "served_per_s": _spread(rates, 1),
        "offline_per_s": _spread(offline_rates, 1),
        "latency_ms": {"p50": round(cuts[499], 1), "p99": round(cuts[989], 1), "p99.9": round(cuts[998], 1)},
        "service_cpu_s_per_1000": round((cpu_after - cpu_before) / (posts * rounds) * 1000, 2),
        "client_cpu_s_per_1000": round(statistics.median(client_cpu), 2),
        "memory_mb": round(sum(process.memory_info().rss for process in processes) / 1e6),
        "stages_us_per_post": stages(traffic),
    }


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }


if __name__ == "__main__":
    typer.run(main)
