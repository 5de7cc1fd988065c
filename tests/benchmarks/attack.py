"""What clients who mean harm cost the others: `python -m tests.benchmarks.attack [--only NAME]`.

Starts a Seawall of its own on the loopback address, attacks it from a process beside it, and ends it. Each attack
stands between two calm phases. All the while an honest client puts posts as a Poisson process, with a key of its own,
and somebody asks `/healthz` ten times a second, each time over a connection of its own.

    many_items, wrong_items      bodies of millions of values; bodies of wrong ones
    slow_bodies                  1,400 bodies that hardly come
    pictures                     posts with a picture of 49 megapixels (only where a variant judges images)
    flood                        as many posts as are answered, 256 at a time
    long_texts                   39,000 characters with spans, 1,000 texts
    leavers                      posts whose client goes away at once
    killed_gateway, killed_proxy the gateway's process, and the manager of the proxy, are killed

Told of each: the worst wait and the longest silence of `/healthz`, the honest client's latency from the intended time
and its failures, how much of the attack was shed, and how long after its end the honest client was as before. Held
against the aims: honest p99 at most three times that of all calm phases, health silent for less than a second, as
before within five seconds. The last line is one JSON document.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from sqlalchemy import func, select

from moderation.running import Running, require
from moderation.settings import DEPLOYMENTS, Settings
from moderation.storage.ledger import Ledger
from moderation.storage.tables import posts
from moderation.topology import Topology
from simulate.service import Service, running_service
from tests.benchmarks.attackers import ATTACKS, LEAVER, shed_share
from tests.benchmarks.load import HOST, Exchange, open_loop, poisson_arrivals, put_request, quantiles
from tests.benchmarks.serving import Traffic, say

AIMS = {"honest_p99_over_calm": 3.0, "healthz_silent_s": 1.0, "recovered_s": 5.0}
"""All at most."""
KILLS = ("killed_gateway", "killed_proxy")
_PROBE_EVERY_S = 0.1
_PROBE_WITHIN_S = 60.0
_DRAIN_S = 90.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One question whether the process lives; times of `time.perf_counter`."""

    begun: float
    ended: float
    alive: bool


@dataclass(slots=True)
class Health:
    """Asks for health until it is stopped, on a thread.

    Args:
        port: of the service.
    """

    port: int
    probes: list[Probe] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Health:
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(_PROBE_WITHIN_S + 1)

    def _ask(self) -> None:
        while not self._stop.is_set():
            begun = time.perf_counter()
            alive = False
            connection = http.client.HTTPConnection(HOST, self.port, timeout=_PROBE_WITHIN_S)
            try:
                connection.request("GET", "/healthz")
                alive = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self.probes.append(Probe(begun, time.perf_counter(), alive))
            self._stop.wait(_PROBE_EVERY_S)


def healthy(probes: Sequence[Probe], begin: float, end: float) -> dict[str, float | int | None]:
    """The worst wait for an answer and the longest silence, of what was asked in [begin, end).

    A silence lasts from one good answer to the next, less the pause between questions.
    """
    asked = [probe for probe in probes if begin <= probe.begun < end]
    waits = [probe.ended - probe.begun for probe in asked if probe.alive]
    last, longest = begin, 0.0
    for probe in sorted(probes, key=lambda probe: probe.ended):
        if probe.alive and probe.ended >= begin:
            longest = max(longest, min(probe.ended, end) - last - _PROBE_EVERY_S)
            last = probe.ended
            if last >= end:
                break
    else:
        longest = max(longest, end - last)
    return {
        "healthz_worst_ms": round(max(waits) * 1000, 1) if waits else None,
        "healthz_silent_s": round(longest, 3),
        "healthz_failed": sum(not probe.alive for probe in asked),
    }


def latencies_ms(exchanges: Sequence[Exchange]) -> list[float]:
    """Of posts that were decided, from the intended time on."""
    return [(item.done - item.intended) * 1000 for item in exchanges if item.status == 200]


def recovered_s(exchanges: Sequence[Exchange], end: float, bound_ms: float) -> float:
    """How long after the end of an attack the last post was due that failed or took longer than a bound; 0: none."""
    late = [
        item.intended - end
        for item in exchanges
        if item.intended >= end and (item.status != 200 or (item.done - item.intended) * 1000 > bound_ms)
    ]
    return round(max(late, default=0.0), 2)


@dataclass(frozen=True, slots=True)
class Attacked:
    """An attack, and what was seen of it.

    Attributes:
        statuses: of the attacker's requests.
        judged: of those whose client went away, how many posts were recorded all the same.
    """

    name: str
    begun: float
    ended: float
    exchanges: list[Exchange]
    probes: list[Probe]
    statuses: dict[int, int]
    judged: int = 0

    @property
    def calm(self) -> list[Exchange]:
        """The honest client's posts before it."""
        return [item for item in self.exchanges if item.intended < self.begun]

    def figures(self, calm_p99_ms: float) -> dict[str, Any]:
        """Its figures, held against the aims.

        Args:
            calm_p99_ms: of the honest client in all calm phases.
        """
        during = [item for item in self.exchanges if self.begun <= item.intended < self.ended]
        found = quantiles(latencies_ms(during))
        p99 = found["p99"]
        failed = sum(item.status != 200 for item in during)
        health = healthy(self.probes, self.begun, self.ended)
        recovered = recovered_s(self.exchanges, self.ended, AIMS["honest_p99_over_calm"] * calm_p99_ms)
        over_calm = None if p99 is None else round(p99 / calm_p99_ms, 2)
        met = {
            "honest_p99_over_calm": not failed and over_calm is not None and over_calm <= AIMS["honest_p99_over_calm"],
            "healthz_silent_s": (health["healthz_silent_s"] or 0.0) <= AIMS["healthz_silent_s"],
            "recovered_s": recovered <= AIMS["recovered_s"],
        }
        return {
            **health,
            "honest_posts": len(during),
            "honest_failed": failed,
            "honest_p50_ms": None if found["p50"] is None else round(found["p50"], 1),
            "honest_p99_ms": None if p99 is None else round(p99, 1),
            "honest_p99_over_calm": over_calm,
            "recovered_s": recovered,
            "attack_statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            **({"judged_for_nobody": self.judged} if self.name == "leavers" else {}),
            "attack_shed_share": shed_share(self.statuses.items()),
            "met": met,
        }


class Benchmark:
    """One running Seawall, attacked.

    Args:
        service: the Seawall.
        running: the same, as `seawall up` wrote it down.
        rate: posts a second of the honest client.
        calm_s: before each attack, and after it.
        attack_s: of each.
    """

    def __init__(self, service: Service, running: Running, *, rate: float, calm_s: float, attack_s: float) -> None:
        self._service = service
        self._running = running
        self._rate = rate
        self._calm_s = calm_s
        self._attack_s = attack_s
        self._traffic = Traffic()

    def measure(self, names: Sequence[str]) -> dict[str, Any]:
        """All figures."""
        self._honest(self._calm_s, seed=0)  # warms everything up
        attacks = []
        for number, name in enumerate(names, start=1):
            say(f"{name} ({number} of {len(names)})")
            attacks.append(self._attack(name, seed=number))
        calm = quantiles(latencies_ms([item for attack in attacks for item in attack.calm]))
        if calm["p99"] is None or calm["p50"] is None:
            raise RuntimeError("the honest client was never answered, also while nobody attacked")
        told = {attack.name: attack.figures(calm["p99"]) for attack in attacks}
        return {
            "calm": {"honest_p50_ms": round(calm["p50"], 1), "honest_p99_ms": round(calm["p99"], 1)},
            "attacks": told,
            "missed": {name: [aim for aim, met in found["met"].items() if not met] for name, found in told.items()},
        }

    def _honest(self, seconds: float, seed: int) -> list[Exchange]:
        """The honest client's posts."""
        arrivals = poisson_arrivals(self._rate, seconds, seed)
        bodies = self._traffic.bodies(len(arrivals))
        exchanges = [keyed(put_request(self._traffic.new_id(), json.dumps(body))) for body in bodies]
        return open_loop(
            self._service.port, exchanges, arrivals, connections=64, give_up_s=_DRAIN_S, drain_s=_DRAIN_S
        ).exchanges

    def _attack(self, name: str, seed: int) -> Attacked:
        seen: dict[str, Any] = {}

        def attack() -> None:
            time.sleep(self._calm_s)
            seen["begun"] = time.perf_counter()
            seen["statuses"] = self._kill(name) if name in KILLS else self._send(name)
            seen["ended"] = time.perf_counter()

        thread = threading.Thread(target=attack)
        with Health(self._service.port) as health:
            thread.start()
            exchanges = self._honest(2 * self._calm_s + self._attack_s + 2, seed)
            thread.join()
        return Attacked(name, seen["begun"], seen["ended"], exchanges, health.probes, seen["statuses"], self._judged())

    def _judged(self) -> int:
        """Posts of `LEAVER` in the ledger."""
        with closing(Ledger(Settings.from_environment().ledger_url)) as ledger, ledger.read() as connection:
            query = select(func.count()).select_from(posts).where(posts.c.author_id == LEAVER)
            return int(connection.execute(query).scalar_one())

    def _send(self, name: str) -> dict[int, int]:
        command = [sys.executable, "-m", "tests.benchmarks.attackers", name]
        command += ["--port", str(self._service.port), "--seconds", str(self._attack_s)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=self._attack_s + 60)
        return {int(status): count for status, count in json.loads(done.stdout.splitlines()[-1]).items()}

    def _kill(self, name: str) -> dict[int, int]:
        """Kill a process of this Seawall; the attack lasts as long as another one would."""
        if name == "killed_gateway":
            os.kill(self._service.replica("gateway", "gateway"), signal.SIGKILL)
        else:
            for process in self._session():
                if "HAProxyManager" in " ".join(process.cmdline()):
                    process.kill()
        time.sleep(self._attack_s)
        return {}

    def _session(self) -> list[psutil.Process]:
        session = os.getsid(self._running.pid)
        return [process for process in psutil.process_iter() if _session_of(process) == session]


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def keyed(exchange: Exchange) -> Exchange:
    """A request with the honest client's key."""
    exchange.request = exchange.request.replace(b"\r\n", b"\r\nX-Api-Key: honest\r\n", 1)
    return exchange


def main(
    topology: Annotated[Path, typer.Option(help="Topology file.", exists=True)] = DEPLOYMENTS / "local.yaml",
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join((*ATTACKS, *KILLS))}; default: all.")] = None,
    rate: Annotated[float, typer.Option(help="The honest client's posts a second.", min=0.1, max=1000)] = 5,
    calm: Annotated[float, typer.Option(help="Seconds before and after each attack.", min=1, max=600)] = 8,
    seconds: Annotated[float, typer.Option(help="Of each attack.", min=1, max=120)] = 12,
) -> None:
    """Attack; the last line is one JSON document."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    begun = time.monotonic()
    judged = {variant.service for variant in Topology.load(topology.resolve()).variants.values()}
    names = [name for name in (*ATTACKS, *KILLS) if name != "pictures" or "image" in judged]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise typer.BadParameter(f"--only is {unknown[0]!r}; here it may be {', '.join(names)}")
    load_average = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        say(f"starting a Seawall on {topology}")
        os.environ["SEAWALL_HOME"] = str(home)
        with running_service(home, topology=topology.resolve(), quiet=True) as service:
            running = require(Settings.from_environment())
            benchmark = Benchmark(service, running, rate=rate, calm_s=calm, attack_s=seconds)
            found = benchmark.measure([name for name in names if not only or name in only])
    print(
        json.dumps(
            {
                "benchmark": "attack",
                "topology": topology.name,
                "cpus": os.cpu_count(),
                "load_average_before": load_average,
                "honest_posts_per_s": rate,
                "aims": AIMS,
                **found,
                "seconds": round(time.monotonic() - begun),
            }
        )
    )


if __name__ == "__main__":
    typer.run(main)
