"""Images and videos through HTTP, over the same work in this process; what a flood of videos does to texts.

    python -m tests.benchmarks.media_serving [--topology deployments/local.yaml] [--rounds 3] [--images 24] [--clips 6]

    offline      bytes -> pictures -> model -> reader of text, in this process, in the service's own groups and threads
    served       the same media, never seen before, as `PUT /v1/posts/{post_id}` with base64, four at a time
    reposted     the same media again in other posts: nothing is decoded or scored
    texts        an open loop of texts at a modest rate, alone and while four clients send nothing but videos
    mixed        an open loop of 80 % texts, 15 % images, 5 % videos, below what the machine can do

A round has each of them once, so that a ratio is of one stretch of time. Media are made in code: noisy 640x480 JPEGs, a
third with a line of text; videos of 5 s, 320x240, H.264. The last line is one JSON document.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from moderation.labels import Service
from moderation.media import MediaKind, Reading
from moderation.models.load import load_picture_classifier
from moderation.preprocess.media import read
from moderation.running import require
from moderation.settings import DEPLOYMENTS, Settings
from moderation.topology import Topology
from serve.media.ocr import TextReader
from simulate.service import running_service
from tests.benchmarks.load import Exchange, Run, closed_loop, open_loop, poisson_arrivals, put_request

IN_FLIGHT = 4
TEXT_RATE = 10.0
MIXED_RATE = 4.0
_FLOOD = 24
"""Clips that are sent while texts are measured: more than can be judged meanwhile."""
SHARES: dict[Service, float] = {"text": 0.80, "image": 0.15, "video": 0.05}
TEXTS = (
    "the tomatoes in my garden are ripe at last",
    "does anybody know how to get this stain out of a carpet",
    "nobody asked you, you stupid clown",
    "our team lost again, and I am not even surprised",
)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Traffic:
    """Media and posts, none of which comes twice unless it is meant to."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._chance = random.Random(seed)
        self._posts = 0

    def image(self) -> bytes:
        """A noisy JPEG of 640x480; a third have a line of text."""
        base = self._rng.integers(0, 255, size=(12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(base).resize((640, 480), Image.Resampling.BICUBIC)
        if self._chance.random() < 1 / 3:
            draw = ImageDraw.Draw(picture)
            draw.text((40, 200), self._chance.choice(TEXTS), font=ImageFont.load_default(32), fill="white")
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=85)
        return file.getvalue()

    def clip(self, seconds: float = 5.0, rate: int = 15) -> bytes:
        """H.264 of 320x240 in which something moves."""
        base = self._rng.integers(0, 255, size=(240, 320 + int(seconds * rate) * 2, 3), dtype=np.uint8)
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for number in range(int(seconds * rate)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(base[:, number * 2 : number * 2 + 320] // 2))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return file.getvalue()

    def medium(self, kind: MediaKind) -> bytes:
        return self.image() if kind == "image" else self.clip()

    def post_of(self, kind: Service) -> Exchange:
        """A post of its own with something new of that kind."""
        return self.post(kind, self.medium(kind)) if kind in ("image", "video") else self.post()

    def post(self, kind: MediaKind | None = None, data: bytes | None = None) -> Exchange:
        """A post of its own with a text, an image or a video."""
        self._posts += 1
        media = [] if data is None else [{"kind": kind, "data": base64.b64encode(data).decode()}]
        post = {
            "author_id": f"u-{self._posts % 97}",
            "community": "benchmark",
            "region": "US",
            "language": "en",
            "created_at": "2026-11-24T09:30:00Z",
            "text": f"{self._chance.choice(TEXTS)} {self._posts}" if data is None else "",
            "media": media,
        }
        return put_request(f"b-{self._posts}", json.dumps(post))


class Offline:
    """What a replica does of a group, without the replica."""

    def __init__(self, topology: Topology, folder: Path) -> None:
        self._rules = topology.media
        self._folder = folder
        bases = Settings.from_environment().bases
        routes = {route.service: route.variant for route in topology.routes}
        self._models = {
            kind: load_picture_classifier(topology.shipped_folder(routes[kind]), bases) for kind in ("image", "video")
        }
        self._texts = TextReader(self._rules.ocr)

    def seconds(self, kind: MediaKind, media: Sequence[bytes]) -> float:
        """How long they take, in groups."""
        paths = []
        for number, data in enumerate(media):
            paths.append(self._folder / str(number))
            paths[-1].write_bytes(data)
        begun = time.perf_counter()
        for start in range(0, len(paths), self._rules.group_size):
            readings = [read(path, kind, self._rules.read) for path in paths[start : start + self._rules.group_size]]
            good = [reading for reading in readings if isinstance(reading, Reading)]
            assert len(good) == len(readings), readings
            self._models[kind].score(good)
            for reading in good:
                self._texts.read(reading, samples=self._rules.ocr.samples)
        return time.perf_counter() - begun


@dataclass(slots=True)
class Found:
    """One kind of media, measured in rounds: media a second."""

    offline: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    reposted: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "offline_per_s": spread(self.offline),
            "served_per_s": spread(self.served),
            "reposted_per_s": spread(self.reposted),
            "served_over_offline": spread([a / b for a, b in zip(self.served, self.offline, strict=True)]),
            "reposted_over_served": spread([a / b for a, b in zip(self.reposted, self.served, strict=True)]),
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def quantiles(run: Run) -> dict[str, float | int]:
    """Of what was answered."""
    latencies = run.latencies_ms()
    told: dict[str, float | int] = {"sent": len(run.exchanges), "answered": len(latencies)}
    if latencies:
        told |= {name: round(float(np.quantile(latencies, q)), 1) for name, q in (("p50", 0.5), ("p99", 0.99))}
    return told


class Benchmark:
    """One running Seawall."""

    def __init__(self, port: int, topology: Topology, folder: Path) -> None:
        self._port = port
        self._traffic = Traffic()
        self._offline = Offline(topology, folder)

    def measure(self, rounds: int, counts: dict[MediaKind, int], seconds: float) -> dict[str, Any]:
        """Everything that is told."""
        found = {kind: Found() for kind in counts}
        for kind, count in counts.items():  # warm
            self._served(kind, [self._traffic.medium(kind) for _ in range(2)])
            self._offline.seconds(kind, [self._traffic.medium(kind) for _ in range(min(count, 2))])
        for number in range(rounds):
            for kind, count in counts.items():
                media = [self._traffic.medium(kind) for _ in range(count)]
                found[kind].offline.append(count / self._offline.seconds(kind, media))
                found[kind].served.append(count / self._served(kind, media))
                found[kind].reposted.append(count / self._served(kind, media))
            say(f"round {number + 1} of {rounds}: {[(kind, item.served[-1]) for kind, item in found.items()]}")
        return {kind: item.figures() for kind, item in found.items()} | {
            "texts": self._flood(rounds, seconds),
            "mixed": self._mixed(4 * seconds),
        }

    def _served(self, kind: MediaKind, media: Sequence[bytes]) -> float:
        run = closed_loop(self._port, [self._traffic.post(kind, data) for data in media], IN_FLIGHT, within_s=300)
        if any(exchange.status != 200 for exchange in run.exchanges):
            raise RuntimeError(f"{kind}: {[(item.status, item.body[:200]) for item in run.exchanges]}")
        return run.seconds

    def _flood(self, rounds: int, seconds: float) -> dict[str, Any]:
        alone: list[float] = []
        flooded: list[float] = []
        runs: dict[str, list[Run]] = {"alone": [], "flooded": []}
        clips = 0
        for number in range(rounds):
            for name, p99s in (("alone", alone), ("flooded", flooded)):
                videos = (
                    [self._traffic.post("video", self._traffic.clip()) for _ in range(40)] if name != "alone" else []
                )
                load = threading.Thread(target=closed_loop, args=(self._port, videos, IN_FLIGHT), daemon=True)
                if videos:
                    load.start()
                    time.sleep(2)
                arrivals = poisson_arrivals(TEXT_RATE, seconds, seed=number)
                run = open_loop(self._port, [self._traffic.post() for _ in arrivals], arrivals)
                done = sum(video.status == 200 for video in videos)
                clips += done
                if videos and done + IN_FLIGHT >= len(videos):
                    raise RuntimeError("the flood ended before the texts")
                runs[name].append(run)
                p99s.append(float(np.quantile(run.latencies_ms(), 0.99)))
                if videos:
                    load.join(300)  # the next run begins in a calm service
            say(f"texts, round {number + 1}: p99 {alone[-1]:.0f} ms alone, {flooded[-1]:.0f} ms in the flood")
        return {
            "rate_per_s": TEXT_RATE,
            "alone_p99_ms": spread(alone),
            "flooded_p99_ms": spread(flooded),
            "flooded_over_alone": spread([b / a for a, b in zip(alone, flooded, strict=True)]),
            "alone": [quantiles(run) for run in runs["alone"]],
            "flooded": [quantiles(run) for run in runs["flooded"]],
            "clips_meanwhile": clips,
        }

    def _mixed(self, seconds: float) -> dict[str, Any]:
        arrivals = poisson_arrivals(MIXED_RATE, seconds, seed=99)
        kinds = random.Random(5).choices(list(SHARES), list(SHARES.values()), k=len(arrivals))
        posts = [self._traffic.post_of(kind) for kind in kinds]
        run = open_loop(self._port, posts, arrivals, give_up_s=60, drain_s=120)
        told: dict[str, Any] = {"rate_per_s": MIXED_RATE, "seconds": round(run.seconds, 1)}
        for kind in SHARES:
            own = [post for post, what in zip(posts, kinds, strict=True) if what == kind]
            told[kind] = quantiles(Run([post for post in own if post.sent], run.seconds, 0.0))
        return told


def main(
    topology: Annotated[Path, typer.Option(help="Topology file.", exists=True)] = DEPLOYMENTS / "local.yaml",
    rounds: Annotated[int, typer.Option(help="Rounds of all runs.", min=1, max=100)] = 3,
    images: Annotated[int, typer.Option(help="Images a run.", min=4)] = 24,
    clips: Annotated[int, typer.Option(help="Clips a run.", min=4)] = 6,
    seconds: Annotated[float, typer.Option(help="Of one run of texts.", min=5)] = 15,
) -> None:
    """Measure; the last line is one JSON document."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    begun = time.monotonic()
    load_average = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["SEAWALL_HOME"] = str(home)  # for this process, too: networks are unpacked once
        say(f"starting a Seawall on {topology}")
        with running_service(home, topology=topology.resolve(), quiet=True):
            port = require(Settings.from_environment()).port
            benchmark = Benchmark(port, Topology.load(topology.resolve()), Path(folder))
            found = benchmark.measure(rounds, {"image": images, "video": clips}, seconds)
    head = {"benchmark": "media_serving", "topology": topology.name, "cpus": os.cpu_count(), "rounds": rounds}
    print(
        json.dumps(head | {"load_average_before": load_average} | found | {"seconds": round(time.monotonic() - begun)})
    )


if __name__ == "__main__":
    typer.run(main)
